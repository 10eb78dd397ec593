"""Writing: shards, levels, and what a crash leaves."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from larvik.array.spec import DTYPES
from larvik.errors import (
    CallCancelledError,
    DataLossError,
    InvalidArgumentError,
    PreconditionError,
    SelectionError,
)
from larvik.faults import POINTS
from larvik.storage import (
    ArrayWriter,
    GroupMetadata,
    list_arrays,
    open_reader,
    open_store,
    read_spec,
    stored_bytes,
)
from larvik.storage.pyramid import mean_2x2
from larvik.storage.stored_shards import Shard
from larvik.testing.arrays import make_spec, random_array, write_array

LOCATION = "arrays/01/a.ome.zarr"
EVERYTHING = (slice(None), slice(None))


def read_levels(store, spec):
    return [
        open_reader(store, LOCATION, level, spec.dtype).read(tuple(slice(None) for _ in level.shape))
        for level in spec.levels
    ]


def reference_mean(array):
    """Return the 2 x 2 means by whole numbers of any size, halves up; the edge averaged with itself."""
    even = np.pad(array, [(0, array.shape[0] % 2), (0, array.shape[1] % 2)], mode="edge")
    height, width = even.shape
    out = np.empty((height // 2, width // 2), array.dtype)
    for y in range(height // 2):
        for x in range(width // 2):
            block = even[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
            out[y, x] = (sum(block) + 2) // 4
    return out


@given(
    st.sampled_from([dtype for dtype in DTYPES if "int" in dtype]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.tuples(st.integers(1, 5), st.integers(1, 5)))
    )
)
def test_the_mean_of_integers_is_exact_and_never_overflows(array):
    assert np.array_equal(mean_2x2(array), reference_mean(array))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_mean_of_floats_is_near_and_keeps_nan_and_the_largest(dtype):
    array = random_array((6, 8), dtype)
    expected = array.astype("f8").reshape(3, 2, 4, 2).mean((1, 3))
    assert np.allclose(mean_2x2(array), expected, rtol=2e-3 if dtype == "float16" else 1e-6)
    largest = np.full((2, 2), np.finfo(dtype).max, dtype)
    assert mean_2x2(largest)[0, 0] == np.finfo(dtype).max
    assert np.isnan(mean_2x2(np.array([[1, np.nan], [1, 1]], dtype)))


def test_levels_of_intensities_are_means_of_the_level_above(store):
    array = random_array((1, 2300, 1500), "uint16")
    spec = make_spec(array.shape, "cyx", "uint16")
    write_array(store, LOCATION, array, spec)
    levels = read_levels(store, spec)
    assert [level.shape for level in levels] == [(1, 2300, 1500), (1, 1150, 750), (1, 575, 375)]
    assert np.array_equal(levels[0], array)
    assert np.array_equal(levels[1], mean_2x2(array))
    assert np.array_equal(levels[2], mean_2x2(levels[1]))


@pytest.mark.parametrize(("kind", "dtype"), [("label", "uint32"), ("mask", "uint8"), ("intensity", "bool")])
def test_levels_of_labels_are_values_that_exist(store, kind, dtype):
    array = random_array((1201, 1305), dtype)
    spec = make_spec(array.shape, "yx", dtype, kind=kind)
    write_array(store, LOCATION, array, spec, kind=kind)
    assert np.array_equal(read_levels(store, spec)[1], array[::2, ::2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_kept(store, dtype):
    array = random_array((3, 40, 50), dtype)
    spec = make_spec(array.shape, "zyx", dtype)
    write_array(store, LOCATION, array, spec)
    assert read_spec(store, LOCATION).dtype == dtype
    assert read_levels(store, spec)[0].tobytes() == array.tobytes()


def test_a_block_in_any_byte_order_and_any_strides_is_written(store):
    array = random_array((60, 50), "uint16")
    spec = make_spec(array.shape, "yx", "uint16")
    ArrayWriter(store, LOCATION, spec).write((0, 0), np.asfortranarray(array).astype(">u2"))
    ArrayWriter(store, LOCATION, spec).finish(metadata=GroupMetadata())
    assert np.array_equal(read_levels(store, spec)[0], array)


def small_shards(shape=(40, 60), dtype="uint16"):
    spec = make_spec(shape, "yx", dtype)
    return replace(spec, levels=(replace(spec.levels[0], chunks=(8, 8), shards=(16, 32)),))


def test_regions_are_shards_and_any_order_and_repetition_will_do(store):
    array = random_array((40, 60), "uint16")
    writer = ArrayWriter(store, LOCATION, small_shards())
    regions = list(writer.regions())
    assert len(regions) == 6
    assert regions[-1] == (slice(32, 40), slice(32, 60))
    assert list(writer.missing()) == regions
    for region in reversed(regions):
        writer.write((region[0].start, region[1].start), np.zeros_like(array[region]))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda r: writer.write((r[0].start, r[1].start), array[r]), regions))
    other = ArrayWriter(store, LOCATION, small_shards())
    assert list(other.missing()) == []
    assert other.finish(metadata=GroupMetadata()) == stored_bytes(store, LOCATION)
    assert np.array_equal(read_levels(store, small_shards())[0], array)


def test_an_incomplete_array_is_not_finished(store):
    writer = ArrayWriter(store, LOCATION, small_shards())
    writer.write((0, 0), np.zeros((16, 32), "u2"))
    with pytest.raises(PreconditionError, match="5 regions") as caught:
        writer.finish(metadata=GroupMetadata())
    assert caught.value.reason == "ARRAY_INCOMPLETE"
    assert store.size(f"{LOCATION}/zarr.json") is None


@pytest.mark.parametrize(
    ("start", "shape", "dtype", "error"),
    [
        ((8, 0), (16, 32), "u2", SelectionError),
        ((0, 0), (8, 32), "u2", SelectionError),
        ((0, 32), (16, 32), "u2", SelectionError),
        ((48, 0), (16, 32), "u2", SelectionError),
        ((-16, 0), (16, 32), "u2", SelectionError),
        ((0,), (16, 32), "u2", SelectionError),
        ((0, 0, 0), (16, 32), "u2", SelectionError),
        ((0, 0), (16, 32), "i2", InvalidArgumentError),
    ],
)
def test_a_block_that_is_no_shard_is_refused(store, start, shape, dtype, error):
    with pytest.raises(error):
        ArrayWriter(store, LOCATION, small_shards()).write(start, np.zeros(shape, dtype))
    assert list(store.list()) == []


def test_building_levels_tells_how_far_it_is_and_can_be_cancelled(store):
    array = random_array((2, 1500, 1100), "uint8")
    spec = make_spec(array.shape, "cyx", "uint8")
    writer = ArrayWriter(store, LOCATION, spec)
    for region in writer.regions():
        writer.write(tuple(part.start for part in region), array[region])
    told: list[tuple[int, int]] = []
    with pytest.raises(CallCancelledError):
        writer.finish(
            metadata=GroupMetadata(),
            progress=lambda *step: told.append(step),
            cancelled=lambda: bool(told),
        )
    assert told == [(1, 2)]
    assert store.size(f"{LOCATION}/zarr.json") is None
    told.clear()
    writer.finish(metadata=GroupMetadata(), progress=lambda *step: told.append(step))
    assert told == [(1, 2), (2, 2)]


def test_a_writer_needs_a_few_shards_of_memory_whatever_the_array(tmp_path):
    script = f"""
import re
import numpy as np
from larvik.storage import ArrayWriter, GroupMetadata, open_store
from larvik.testing.arrays import make_spec
def peak():
    return int(re.search("VmHWM:[^0-9]*([0-9]+)", open("/proc/self/status").read())[1]) >> 10
store = open_store({str(tmp_path)!r})
spec = make_spec((24, 2048, 2048), "zyx", "uint16")
writer = ArrayWriter(store, "a", spec)
block = np.random.default_rng(0).integers(0, 65536, spec.levels[0].shards, "u2")
before = peak()
for region in writer.regions():
    writer.write(tuple(part.start for part in region), block)
writer.finish(metadata=GroupMetadata())
print(block.nbytes >> 20, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    shard, growth = map(int, done.stdout.split())
    assert shard == 32
    assert growth < 3 * shard


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("storage.")])
def test_a_crash_at_any_point_leaves_a_whole_array_or_none(tmp_path, point):
    script = f"""
from larvik.storage import open_store
from larvik.testing.arrays import make_spec, random_array, write_array
store = open_store({str(tmp_path)!r})
spec = make_spec((2, 1100, 700), "cyx", "uint8")
write_array(store, {LOCATION!r}, random_array((2, 1100, 700), "uint8"), spec)
print("finished")
"""
    environment = {"LARVIK_FAULT": point, "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == -9, done.stderr
    store = open_store(str(tmp_path))
    assert len(list(list_arrays(store))) == 1
    is_whole = store.size(f"{LOCATION}/zarr.json") is not None
    assert is_whole == (point == "storage.group.written")
    if is_whole:
        spec = read_spec(store, LOCATION)
        assert np.array_equal(read_levels(store, spec)[0], random_array((2, 1100, 700), "uint8"))


def test_a_fault_can_wait_for_a_later_time():
    script = """
from larvik import faults
faults.reach("x"); faults.reach("y"); faults.reach("x"); print("alive", flush=True); faults.reach("x")
print("not reached")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={"LARVIK_FAULT": "x:3", "PATH": ""},
    )
    assert (done.returncode, done.stdout) == (-9, "alive\n")


def levels_of(store):
    return {key: store.read(key) for key, _ in store.list(LOCATION) if "/c/" in key}


def written(store, array, spec):
    writer = ArrayWriter(store, LOCATION, spec)
    for region in writer.regions():
        writer.write(tuple(part.start for part in region), array[region])
    return writer


def test_levels_that_were_built_before_are_those_that_finishing_builds(tmp_path):
    array = random_array((2, 2300, 1500), "uint16")
    spec = make_spec(array.shape, "cyx", "uint16")
    stores = [open_store(str(tmp_path / name), create=True) for name in "ab"]
    for store in stores:
        writer = written(store, array, spec)
        if store is stores[1]:
            for level in (1, 2):
                for number in range(np.prod(writer.pyramid.grids[level].shard_counts)):
                    writer.build(Shard(level, writer.pyramid.grids[level].shard_at(number)))
        told: list[tuple[int, int]] = []
        writer.finish(metadata=GroupMetadata(), progress=lambda *step, told=told: told.append(step))
        assert told[-1][0] == told[-1][1]
        assert len(told) == 1 or store is stores[0]
    assert levels_of(stores[0]) == levels_of(stores[1])


def test_writing_a_shard_anew_removes_what_was_made_from_it(store):
    array = random_array((2, 1100, 700), "uint16")
    spec = make_spec(array.shape, "cyx", "uint16")
    writer = written(store, array // 2, spec)
    count = len(levels_of(store))
    writer.build(Shard(1, (0, 0, 0)))
    assert len(levels_of(store)) == count + 1
    written(store, array, spec).finish(metadata=GroupMetadata())
    assert np.array_equal(read_levels_3d(store, spec)[1], mean_2x2(array))


def read_levels_3d(store, spec):
    return [
        open_reader(store, LOCATION, level, spec.dtype).read(tuple(slice(0, n) for n in level.shape))
        for level in spec.levels
    ]


def test_a_level_is_not_built_from_shards_that_are_missing(store):
    spec = make_spec((2, 1100, 700), "cyx", "uint16")
    writer = ArrayWriter(store, LOCATION, spec)
    with pytest.raises(DataLossError) as caught:
        writer.build(Shard(1, (0, 0, 0)))
    assert caught.value.reason == "CHUNK_MISSING"
    assert list(store.list()) == []


def test_encoded_chunks_make_the_shard_that_their_pixels_make(tmp_path):
    array = random_array((40, 60), "uint16")
    spec = small_shards()
    stores = [open_store(str(tmp_path / name), create=True) for name in "ab"]
    written(stores[0], array, spec)
    writer = ArrayWriter(stores[1], LOCATION, spec)
    encoding = writer.encodings[0]
    for number in range(6):
        shard = encoding.grid.shard_at(number)
        chunks = [None] * encoding.grid.slot_count
        for chunk, region in encoding.grid.chunks_of(shard):
            chunks[encoding.grid.slot_of(chunk)] = encoding.encode(array[region])
        writer.write_chunks(shard, chunks)
        assert writer.stored(0) == set(range(number + 1))
    assert levels_of(stores[0]) == levels_of(stores[1])


def test_what_killed_writers_left_is_no_part_of_the_array(tmp_path):
    store = open_store(str(tmp_path), create=True)
    array = random_array((60, 50), "uint16")
    spec = make_spec(array.shape, "yx", "uint16")
    writer = written(store, array, spec)
    (shard,) = levels_of(store)
    (tmp_path / f"{shard}.0123.partial").write_bytes(bytes(1000))
    assert writer.stored(0) == {0}
    counted = writer.finish(metadata=GroupMetadata())
    assert counted == sum(size for _, size in store.list(LOCATION))
    assert not [key for key, _ in store.list(LOCATION) if key.endswith(".partial")]
