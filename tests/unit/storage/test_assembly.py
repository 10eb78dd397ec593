"""Stored chunks put together, in whatever order they come."""

from __future__ import annotations

import random

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from larvik.array.spec import DTYPES
from larvik.errors import DataLossError, SelectionError
from larvik.storage import Codec, open_reader, open_store
from larvik.storage.assembly import Assembly
from larvik.testing.arrays import random_array

from .layouts import LOCATION, layouts, level_of, written_reader

EVERYTHING = (slice(None),) * 3


def assembly_of(reader, selection=EVERYTHING, out=None):
    if out is None:
        out = np.zeros(np.empty(reader.shape, "?")[selection].shape, reader.dtype)
    return Assembly(reader.metadata, selection, out, "the array")


def put_together(reader, selection, parts):
    """Return the region that stored chunks make."""
    out = np.zeros(np.empty(reader.shape, "?")[selection].shape, reader.dtype)
    with assembly_of(reader, selection, out) as assembly:
        for index, data in parts:
            assembly.add(index, data)
        assembly.finish()
    return out


def stored(reader, selection):
    return [one for found in reader.stored_chunks(selection) for one in found]


@given(layouts(), st.sampled_from(DTYPES), st.sampled_from(["lz4", "zstd"]), st.randoms())
def test_stored_chunks_in_any_order_are_the_region(tmp_path_factory, layout, dtype, cname, chance):
    shape, chunks, shards, selection = layout
    array = random_array(shape, dtype)
    store = open_store(str(tmp_path_factory.mktemp("store")))
    reader = written_reader(store, array, chunks, shards, Codec(cname, 1, "shuffle"))

    parts = stored(reader, selection)
    assert len({index for index, _ in parts}) == len(parts)
    chance.shuffle(parts)
    out = put_together(reader, selection, ((index, memoryview(data)) for index, data in parts))
    assert out.tobytes() == array[selection].tobytes()


@pytest.fixture
def reader(store):
    """Give a reader of 64 chunks in 8 shards."""
    return written_reader(store, random_array((8, 64, 64), "uint16"), (1, 16, 32), (2, 64, 32))


def test_lists_have_a_few_mebibytes(store):
    array = random_array((40, 512, 512), "uint16")
    reader = written_reader(store, array, (1, 512, 512), (8, 512, 512))
    sizes = [sum(len(data) for _, data in found) for found in reader.stored_chunks(EVERYTHING)]
    assert all(1 << 20 <= size <= 4 << 20 for size in sizes[:-1])
    assert len(sizes) > 5


def test_one_chunk_can_be_had_alone(reader):
    parts = dict(stored(reader, EVERYTHING))
    assert len(parts) == 64
    assert all(reader.stored_chunk(index) == data for index, data in parts.items())
    for wrong in ((8, 0, 0), (0, 0, -1), (0, 0)):
        with pytest.raises(SelectionError):
            reader.stored_chunk(wrong)


def test_a_chunk_names_its_stored_object(reader, store):
    assert reader.shard_key((3, 0, 1)) == f"{LOCATION}/data/c/3/0/1"
    assert store.size(reader.shard_key((3, 0, 1)))


@pytest.mark.parametrize("index", [(8, 0, 0), (0, 4, 0), (-1, 0, 0), (0, 0), (0, 0, 0, 0), ()])
def test_a_chunk_that_was_not_asked_for_is_refused(reader, index):
    with assembly_of(reader) as assembly, pytest.raises(DataLossError, match="not asked for") as caught:
        assembly.add(index, b"")
    assert caught.value.reason == "STREAM_INVALID"


def test_a_chunk_outside_the_selection_is_refused(reader):
    data = reader.stored_chunk((0, 0, 0))
    with (
        assembly_of(reader, (slice(1, 8), *EVERYTHING[1:])) as assembly,
        pytest.raises(DataLossError, match="not asked for"),
    ):
        assembly.add((0, 0, 0), data)


def test_a_chunk_that_comes_twice_is_refused(reader):
    data = reader.stored_chunk((0, 0, 0))
    with assembly_of(reader) as assembly:
        assembly.add((0, 0, 0), data)
        with pytest.raises(DataLossError, match="came twice"):
            assembly.add((0, 0, 0), data)


def test_chunks_that_do_not_come_are_missed(reader):
    parts = stored(reader, EVERYTHING)
    random.Random(1).shuffle(parts)
    with assembly_of(reader) as assembly:
        for index, data in parts[:-2]:
            assembly.add(index, data)
        with pytest.raises(DataLossError, match="2 of 64 chunks of the array") as caught:
            assembly.finish()
    assert caught.value.reason == "STREAM_INCOMPLETE"


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: bytes(len(data))])
def test_a_damaged_chunk_is_named(reader, damage):
    parts = stored(reader, EVERYTHING)
    damaged = [(index, damage(data) if index == (2, 1, 0) else data) for index, data in parts]
    with pytest.raises(DataLossError, match="2, 1, 0") as caught:
        put_together(reader, EVERYTHING, damaged)
    assert caught.value.reason == "CHUNK_CORRUPT"
    assert caught.value.metadata == {"location": "the array", "chunk": "2,1,0"}


def test_a_chunk_of_ours_that_is_said_not_to_be_stored_is_a_loss(reader):
    with pytest.raises(DataLossError) as caught:
        put_together(reader, (slice(0, 1),) * 3, [((0, 0, 0), None)])
    assert caught.value.reason == "CHUNK_MISSING"


def test_an_output_that_does_not_fit_is_refused(reader):
    for out in (np.zeros((8, 64, 63), "u2"), np.zeros((8, 64, 64), "i2")):
        with pytest.raises(SelectionError, match="out has shape"):
            Assembly(reader.metadata, EVERYTHING, out, "the array")


def test_an_empty_selection_is_complete_at_once(reader):
    selection = (slice(3, 3), slice(None), slice(None))
    assert stored(reader, selection) == []
    assembly_of(reader, selection).finish()


def test_a_missing_object_is_a_loss_when_it_is_streamed(reader, store):
    store.delete(reader.shard_key((1, 0, 1)))
    with pytest.raises(DataLossError) as caught:
        stored(reader, EVERYTHING)
    assert caught.value.reason == "CHUNK_MISSING"
    with pytest.raises(DataLossError):
        reader.stored_chunk((2, 0, 1))


def test_missing_chunks_of_others_travel_as_none(tmp_path):
    zarr.create_array(tmp_path / "a", shape=(4, 4), chunks=(2, 2), dtype="u1", fill_value=7)[:2] = 1
    reader = open_reader(open_store(str(tmp_path)), "", level_of(np.zeros((4, 4)), (2, 2)), "uint8")
    everything = (slice(None),) * 2
    parts = dict(stored(reader, everything))
    assert [index for index, data in parts.items() if data is None] == [(1, 0), (1, 1)]
    assert reader.stored_chunk((1, 1)) is None
    out = put_together(reader, everything, parts.items())
    assert np.array_equal(out, [[1] * 4] * 2 + [[7] * 4] * 2)
