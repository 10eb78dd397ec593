"""Reading: any region of anything that was written, and of what others wrote."""

from __future__ import annotations

import math
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from larvik.array.spec import DTYPES
from larvik.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionError,
    SelectionError,
    UnavailableError,
)
from larvik.storage import Codec, open_reader, open_store, read_spec
from larvik.storage.shards import parse_index
from larvik.testing.arrays import make_spec, random_array, write_array
from larvik.testing.stores import CountingStore

from .layouts import LOCATION, layouts, level_of, written_reader


@given(
    layouts(),
    st.sampled_from(DTYPES),
    st.sampled_from([Codec("lz4", 1, "bitshuffle"), Codec("zstd", 1, "shuffle")]),
)
def test_what_was_written_is_read_in_any_region(tmp_path_factory, layout, dtype, codec):
    shape, chunks, shards, selection = layout
    array = random_array(shape, dtype)
    store = open_store(str(tmp_path_factory.mktemp("store")))
    spec = make_spec(shape, [f"d{number}" for number in range(len(shape))], dtype)
    spec = replace(spec, levels=(replace(spec.levels[0], chunks=chunks, shards=shards),))
    write_array(store, LOCATION, array, spec, codec=codec)

    reader = open_reader(store, LOCATION, spec.levels[0], dtype)
    found = reader.read(selection)
    assert found.dtype == array.dtype
    assert found.tobytes() == array[selection].tobytes()

    into = np.zeros(tuple(2 * size for size in found.shape), dtype)[
        tuple(slice(None, None, 2) for _ in shape)
    ]
    assert reader.read(selection, into) is into
    assert into.tobytes() == found.tobytes()

    everything = tuple(slice(None) for _ in shape)
    foreign = zarr.open_array(os.path.join(store.root, LOCATION, "data"), mode="r")
    assert foreign[everything].tobytes() == array.tobytes()


FOREIGN = {
    "v3 blosc": {"compressors": zarr.codecs.BloscCodec(cname="zstd")},
    "v3 zstd": {"compressors": zarr.codecs.ZstdCodec()},
    "v3 gzip": {"compressors": zarr.codecs.GzipCodec()},
    "v3 raw": {"compressors": None},
    "v3 big endian": {"serializer": zarr.codecs.BytesCodec(endian="big")},
    "v3 sharded": {"shards": (4, 6, 10)},
    "v3 sharded, one chunk a shard": {"shards": (2, 3, 5)},
    "v3 sharded, index first": {
        "chunks": (4, 6, 10),
        "serializer": zarr.codecs.ShardingCodec(chunk_shape=(2, 3, 5), index_location="start"),
        "compressors": None,
    },
    "v3 transposed": {"filters": [zarr.codecs.TransposeCodec(order=(2, 1, 0))]},
    "v3 sharded, transposed": {
        "shards": (4, 6, 10),
        "filters": [zarr.codecs.TransposeCodec(order=(2, 1, 0))],
    },
    "v3 keys as in v2": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "v2 blosc": {"zarr_format": 2},
    "v2 nested": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v2 raw": {"zarr_format": 2, "compressors": None},
    "v2 Fortran order": {"zarr_format": 2, "order": "F"},
}


@pytest.mark.parametrize("options", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", ">u2", "float16", "float64"])
def test_what_zarr_python_wrote_is_read(tmp_path, options, dtype):
    if dtype == ">u2" and options.get("zarr_format") != 2:
        dtype = "uint16"
    array = random_array((5, 7, 11), np.dtype(dtype).newbyteorder("=").name).astype(dtype)
    written = zarr.create_array(
        tmp_path / "a", shape=array.shape, dtype=array.dtype, fill_value=1, **{"chunks": (2, 3, 5), **options}
    )
    written[:, :4] = array[:, :4]
    expected = array.copy()
    expected[:, 6:] = 1
    expected[:, 4:6] = written[:, 4:6]

    reader = open_reader(
        open_store(str(tmp_path)), "", level_of(array, (2, 3, 5)), array.dtype.newbyteorder("=").name
    )
    assert reader.dtype.isnative
    assert np.array_equal(reader.read((slice(None),) * 3), expected)
    part = (slice(1, 5, 2), slice(0, 7, 3), slice(3, 10))
    assert np.array_equal(reader.read(part), expected[part])


@pytest.mark.parametrize("compressor", ["zlib", "gzip", "zstd", "bz2"])
def test_the_compressors_of_zarr_2_are_read(tmp_path, compressor):
    import numcodecs

    array = random_array((6, 6), "uint16")
    codec = numcodecs.get_codec({"id": compressor})
    zarr.create_array(
        tmp_path / "a", shape=array.shape, chunks=(4, 4), dtype=">u2", zarr_format=2, compressors=codec
    )[:] = array
    reader = open_reader(open_store(str(tmp_path)), "", level_of(array, (4, 4)), "uint16")
    assert np.array_equal(reader.read((slice(None), slice(1, 5))), array[:, 1:5])


@pytest.mark.parametrize("fill", [math.nan, math.inf, -1.5])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_missing_chunks_have_the_fill_value(tmp_path, fill, zarr_format):
    zarr.create_array(
        tmp_path / "a", shape=(4, 4), chunks=(2, 2), dtype="f4", fill_value=fill, zarr_format=zarr_format
    )
    reader = open_reader(open_store(str(tmp_path)), "", level_of(np.zeros((4, 4)), (2, 2)), "float32")
    assert np.array_equal(
        reader.read((slice(1, 3), slice(1, 3))), np.full((2, 2), fill, "f4"), equal_nan=True
    )


@pytest.fixture
def written(store):
    """Write 64 chunks in 8 shards, and give pixels, a counting store and a reader of it."""
    array = random_array((8, 64, 64), "uint16")
    spec = make_spec(array.shape, "zyx", "uint16")
    spec = replace(spec, levels=(replace(spec.levels[0], chunks=(1, 16, 32), shards=(2, 64, 32)),))
    write_array(store, LOCATION, array, spec)
    counting = CountingStore(store)
    reader = open_reader(counting, LOCATION, spec.levels[0], "uint16")
    counting.reset()
    return array, counting, reader


def test_a_crop_reads_the_chunks_it_touches_and_no_other(written):
    array, counting, reader = written
    crop = (slice(3, 4), slice(10, 20), slice(0, 30))
    assert np.array_equal(reader.read(crop), array[crop])
    indexes = [request for request in counting.requests if request.start < 0]
    chunks = [request for request in counting.requests if request.start >= 0]
    assert len(indexes) == 1
    assert len(chunks) == 2
    assert {request.key for request in chunks} == {f"{LOCATION}/0/c/1/0/0"}


def test_a_step_that_skips_chunks_does_not_read_them(written):
    array, counting, reader = written
    crop = (slice(0, 8, 7), slice(0, 1), slice(0, 1))
    assert np.array_equal(reader.read(crop), array[crop])
    assert len([request for request in counting.requests if request.start >= 0]) == 2


def test_an_index_is_read_once(written):
    _, counting, reader = written
    for _ in range(3):
        reader.read((slice(0, 8), slice(0, 1), slice(0, 64)))
    assert len([request for request in counting.requests if request.start < 0]) == 8


def test_a_full_read_asks_for_each_chunk_once(written):
    array, counting, reader = written
    assert np.array_equal(reader.read((slice(None),) * 3), array)
    chunks = [(request.key, request.start) for request in counting.requests if request.start >= 0]
    assert len(chunks) == len(set(chunks)) == 64


def test_an_empty_region_reads_nothing(written):
    _, counting, reader = written
    assert reader.read((slice(3, 3), slice(None), slice(None))).shape == (0, 64, 64)
    assert counting.requests == []


def test_threads_share_a_reader(written):
    array, _, reader = written
    crops = [(slice(z, z + 2), slice(y, y + 30), slice(None)) for z, y in product(range(6), range(0, 30, 7))]
    with ThreadPoolExecutor(4) as pool:
        for crop, found in zip(crops, pool.map(reader.read, crops), strict=True):
            assert np.array_equal(found, array[crop])


def test_a_reader_can_be_pickled(written):
    array, _, reader = written
    copy = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(copy.read((slice(None),) * 3), array)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_on(written):
    array, _, reader = written
    whole = (slice(None),) * 3
    assert np.array_equal(reader.read(whole), array)  # the threads of the parent are running
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(reader.read(whole), array) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_output_of_another_form_is_refused(written):
    _, _, reader = written
    for out in (np.empty((1, 64, 64), "u2"), np.empty((8, 64, 64), "i2")):
        with pytest.raises(SelectionError, match="out has shape"):
            reader.read((slice(None),) * 3, out)


def shard_path(store, *index):
    return os.path.join(store.store.root, LOCATION, "0", "c", *map(str, index))


def test_a_missing_shard_of_ours_is_a_loss(written):
    _, counting, reader = written
    os.unlink(shard_path(counting, 1, 0, 1))
    with pytest.raises(DataLossError) as caught:
        reader.read((slice(None),) * 3)
    assert caught.value.reason == "CHUNK_MISSING"
    assert caught.value.metadata == {"location": f"{LOCATION}/0", "chunk": "2,0,1"}
    reader.read((slice(0, 2), slice(None), slice(None)))


@pytest.mark.parametrize("damage", ["cut", "index", "chunk", "empty"])
def test_a_damaged_shard_is_named(written, damage):
    _, counting, reader = written
    path = shard_path(counting, 1, 0, 1)
    data = bytearray(Path(path).read_bytes())
    match damage:
        case "cut":
            data = data[: len(data) // 2]
        case "index":
            data[-30] ^= 255
        case "chunk":
            data[0:16] = bytes(16)
        case "empty":
            data = bytearray()
    Path(path).write_bytes(data)
    with pytest.raises(DataLossError, match="2, 0, 1") as caught:
        reader.read((slice(None),) * 3)
    assert caught.value.reason == "CHUNK_CORRUPT"
    assert counting.store.root not in str(caught.value)
    assert caught.value.metadata == {"location": f"{LOCATION}/0", "chunk": "2,0,1"}


def test_an_index_that_points_beyond_its_shard_is_corrupt(written):
    _, counting, reader = written
    path = shard_path(counting, 0, 0, 0)
    data = Path(path).read_bytes()
    index = parse_index(data[-(16 * 8 + 4) :], 8).copy()
    for bad in ((2**63, 10), (0, 2**40), (2**64 - 2, 2**64 - 2), (len(data), 50)):
        index[3] = bad
        tail = index.tobytes()
        checksum = google_crc32c.value(tail).to_bytes(4, "little")
        Path(path).write_bytes(data[: -(16 * 8 + 4)] + tail + checksum)
        fresh = pickle.loads(pickle.dumps(reader))
        with pytest.raises(DataLossError, match="Chunk"):
            fresh.read((slice(None),) * 3)


def test_a_missing_array_a_changed_one_and_a_vanished_store_are_told_apart(written, tmp_path):
    array, counting, _ = written
    spec = read_spec(counting, LOCATION)
    with pytest.raises(NotFoundError) as caught:
        open_reader(counting, "arrays/02/b.ome.zarr", spec.levels[0], "uint16")
    assert caught.value.reason == "ARRAY_NOT_FOUND"
    with pytest.raises(PreconditionError) as changed:
        open_reader(counting, LOCATION, spec.levels[0], "int16")
    assert changed.value.reason == "SOURCE_CHANGED"
    reader = open_reader(counting, LOCATION, spec.levels[0], "uint16")
    os.rename(counting.store.root, tmp_path / "gone")
    with pytest.raises(UnavailableError):
        reader.read((slice(None),) * array.ndim)


def test_a_chunk_file_that_is_far_too_long_is_not_read_whole(tmp_path):
    array = zarr.create_array(tmp_path / "a", shape=(4,), chunks=(4,), dtype="u1")
    array[:] = 1
    with open(tmp_path / "a/c/0", "wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that takes no room
    reader = open_reader(open_store(str(tmp_path)), "", level_of(array, (4,)), "uint8")
    with pytest.raises(DataLossError, match="more bytes"):
        reader.read((slice(None),))


def test_a_huge_declared_shape_costs_nothing_until_it_is_read(tmp_path):
    shape = (2**20, 2**20, 2**20)
    array = zarr.create_array(tmp_path / "a", shape=shape, chunks=(64, 64, 64), dtype="u2", fill_value=3)
    reader = open_reader(open_store(str(tmp_path)), "", level_of(array, (64, 64, 64)), "uint16")
    assert (reader.read((slice(5, 6), slice(2**19, 2**19 + 2), slice(0, 2))) == 3).all()


def test_an_unknown_codec_is_told_when_it_is_met(tmp_path):
    import json

    zarr.create_array(tmp_path / "a", shape=(4,), chunks=(4,), dtype="u1")[:] = 1
    document = json.loads((tmp_path / "a/zarr.json").read_text())
    document["codecs"].append({"name": "larvik.no-such-codec", "configuration": {}})
    (tmp_path / "a/zarr.json").write_text(json.dumps(document))
    reader = open_reader(open_store(str(tmp_path)), "", level_of(np.zeros(4), (4,)), "uint8")
    with pytest.raises((DataLossError, InvalidArgumentError), match="no-such-codec"):
        reader.read((slice(None),))


class FarStore(CountingStore):
    """A store whose requests cost round trips, which it counts."""

    batch_bytes = 32 << 20
    round_trips = 0

    def read_many(self, requests):
        self.round_trips += 1
        return super().read_many(requests)


@pytest.fixture
def thick(store):
    """Write chunks of 8 planes of 128 KiB, and give pixels, a counting store and a reader of it."""
    array = random_array((16, 256, 512), "uint16") % 900
    reader = written_reader(store, array, (8, 256, 256), (16, 256, 512))
    counting = CountingStore(store)
    return array, counting, type(reader)(counting, f"{LOCATION}/data", reader.metadata)


def test_a_crop_of_thick_chunks_reads_a_part_of_them(thick):
    array, counting, reader = thick
    plane = (slice(5, 6), slice(0, 256), slice(0, 512))
    assert np.array_equal(reader.read(plane), array[plane])
    assert counting.bytes_read < array[plane].nbytes * 1.2
    assert counting.bytes_read < counting.store.size(reader.shard_key((0, 0, 0))) / 8


def test_a_crop_of_raw_chunks_reads_what_it_needs(tmp_path):
    array = random_array((16, 128, 128), "uint16")
    zarr.create_array(tmp_path / "a", data=array, chunks=(16, 128, 128), compressors=None)
    counting = CountingStore(open_store(str(tmp_path)))
    reader = open_reader(counting, "", level_of(array, array.shape), "uint16")
    counting.reset()
    crop = (slice(3, 4), slice(10, 20), slice(None))
    assert np.array_equal(reader.read(crop), array[crop])
    assert counting.bytes_read == array[crop].nbytes


@pytest.mark.parametrize("left", [0, 10, 400, 200_000])
def test_a_crop_of_a_cut_chunk_tells_which_one_it_is(tmp_path, left):
    array = random_array((16, 128, 128), "uint16") % 900
    zarr.create_array(tmp_path / "a", data=array, chunks=(16, 128, 128), compressors=zarr.codecs.BloscCodec())
    path = tmp_path / "a/c/0/0/0"
    path.write_bytes(path.read_bytes()[:left])
    reader = open_reader(open_store(str(tmp_path)), "", level_of(array, array.shape), "uint16")
    with pytest.raises(DataLossError, match="0, 0, 0"):
        reader.read((slice(15, 16), slice(10, 20), slice(None)))


def test_a_far_store_is_asked_once_for_all_chunks(thick):
    array, counting, reader = thick
    far = FarStore(counting.store)
    remote = type(reader)(far, f"{LOCATION}/data", reader.metadata)
    for selection in ((slice(None),) * 3, (slice(4, 12), slice(0, 100), slice(200, 300))):
        far.round_trips = 0
        assert np.array_equal(remote.read(selection), array[selection])
        assert far.round_trips <= 2  # the index of the shard, and the chunks
    assert len([index for found in remote.stored_chunks((slice(None),) * 3) for index in found]) == 4


def test_a_level_of_zarr_2_can_be_cropped_as_ours(tmp_path):
    array = random_array((300, 400), "int32")
    zarr.create_array(tmp_path / "a", data=array, chunks=(300, 200), zarr_format=2)
    reader = open_reader(open_store(str(tmp_path)), "", level_of(array, (300, 200)), "int32")
    for crop in (
        (slice(0, 5), slice(None)),
        (slice(290, 300), slice(100, 300)),
        (slice(0, 300, 70), slice(3, 9)),
    ):
        assert np.array_equal(reader.read(crop), array[crop])
