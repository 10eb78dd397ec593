"""The cache of decoded chunks: the same pixels, less decoding, never too many bytes."""

from __future__ import annotations

import threading
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.array.spec import DTYPES
from larvik.errors import SelectionError
from larvik.storage import Codec, open_store
from larvik.storage.cache import ChunkCache
from larvik.testing.arrays import random_array
from larvik.testing.stores import CountingStore

from .layouts import layouts, written_reader


@given(layouts(), st.sampled_from(DTYPES), st.integers(0, 3000), st.data())
def test_what_is_read_through_a_cache_is_the_region(tmp_path_factory, layout, dtype, most_bytes, data):
    shape, chunks, shards, _ = layout
    array = random_array(shape, dtype)
    store = open_store(str(tmp_path_factory.mktemp("store")))
    cache = ChunkCache(most_bytes)
    reader = written_reader(store, array, chunks, shards, cache=cache)
    for _ in range(4):
        ends = [(data.draw(st.integers(0, size)), data.draw(st.integers(0, size))) for size in shape]
        selection = tuple(slice(low, high, data.draw(st.integers(1, 3))) for low, high in map(sorted, ends))
        if data.draw(st.booleans()):
            reader.prefetch(selection)
        assert reader.read(selection).tobytes() == array[selection].tobytes()
        assert cache.size_bytes <= most_bytes


@pytest.mark.parametrize("codec", [Codec("lz4", 5, "bitshuffle"), Codec("zstd", 1, "shuffle")])
def test_crops_of_large_chunks_are_the_region(store, codec):
    array = random_array((9, 300, 400), "uint16")
    cache = ChunkCache(10 << 20)
    for cached in (None, cache):
        reader = written_reader(store, array, (4, 256, 256), (8, 512, 512), codec, cache=cached)
        for z, y, step in product((0, 3, 7), (0, 100, 250), (1, 3)):
            crop = (slice(z, z + 2), slice(y, y + 50, step), slice(y, 400))
            assert np.array_equal(reader.read(crop), array[crop])


@pytest.fixture
def scrolled(store):
    """Write chunks of 8 planes; give pixels, counting store, cache and reader."""
    array = random_array((32, 256, 256), "uint16") % 500
    counting = CountingStore(store)
    cache = ChunkCache(8 << 20)
    reader = written_reader(counting, array, (8, 256, 256), (16, 256, 256), cache=cache)
    counting.reset()
    return array, counting, cache, reader


def plane(z):
    return (slice(z, z + 1), slice(None), slice(None))


def test_planes_of_a_chunk_are_decoded_once(scrolled):
    array, counting, cache, reader = scrolled
    for z in range(8):
        assert np.array_equal(reader.read(plane(z)), array[plane(z)])
        if z == 1:
            counting.reset()
    assert counting.requests == []
    assert len(cache) == 1
    assert cache.size_bytes == 8 * 256 * 256 * 2


def test_a_single_crop_is_not_kept(scrolled):
    _, _, cache, reader = scrolled
    reader.read(plane(3))
    reader.read(plane(20))
    assert len(cache) == 0


def test_whole_chunks_are_not_kept(scrolled):
    array, _, cache, reader = scrolled
    for _ in range(3):
        assert np.array_equal(reader.read((slice(None),) * 3), array)
    assert len(cache) == 0


def test_what_was_prefetched_is_not_read_again(scrolled):
    array, counting, cache, reader = scrolled
    reader.prefetch(plane(9))
    wait_for(lambda: len(cache) == 1)
    counting.reset()
    assert np.array_equal(reader.read(plane(9)), array[plane(9)])
    assert counting.requests == []


def test_more_than_a_quarter_of_the_cache_is_not_prefetched(scrolled):
    _, counting, cache, reader = scrolled
    reader.prefetch((slice(0, 20), slice(0, 1), slice(None)))
    assert cache.in_background(lambda: None)
    assert counting.requests == []


def test_a_selection_outside_the_array_is_not_prefetched(scrolled):
    with pytest.raises(SelectionError):
        scrolled[3].prefetch(plane(32))


def test_without_a_cache_nothing_is_prefetched(scrolled, store):
    _, counting, _, reader = scrolled
    type(reader)(counting, "arrays/01/a.ome.zarr/data", reader.metadata).prefetch(plane(0))
    assert counting.requests == []


def test_a_chunk_that_cannot_be_prefetched_is_told_to_its_reader_alone(scrolled, store):
    _, counting, cache, reader = scrolled
    store.delete(reader.shard_key((0, 0, 0)))
    reader.prefetch(plane(0))
    wait_for(lambda: counting.requests and cache.in_background(lambda: None))
    with pytest.raises(Exception, match="missing"):
        reader.read(plane(0))


def test_the_longest_unused_chunks_go():
    cache = ChunkCache(1000)
    for number in range(30):
        cache.put(number, np.zeros(100, "u1"))
        assert cache.get(0) is not None
    assert len(cache) == 10
    assert cache.size_bytes == 1000
    assert cache.get(28) is not None
    assert cache.get(15) is None


def test_a_chunk_that_is_put_twice_counts_once():
    cache = ChunkCache(1000)
    for _ in range(3):
        cache.put("a", np.zeros(400, "u1"))
    assert cache.size_bytes == 400


def test_a_chunk_larger_than_the_cache_is_not_kept():
    cache = ChunkCache(10)
    cache.put("a", np.zeros(11, "u1"))
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_nobody_can_write_to_a_kept_chunk():
    cache = ChunkCache(1000)
    cache.put("a", np.zeros(10, "u1"))
    with pytest.raises(ValueError, match="read-only"):
        cache.get("a")[0] = 1


def test_background_work_is_dropped_while_other_goes_on():
    cache = ChunkCache(1000)
    going, go = threading.Event(), threading.Event()
    assert cache.in_background(lambda: (going.set(), go.wait(10)))
    assert going.wait(10)
    assert not cache.in_background(lambda: None)
    go.set()
    wait_for(lambda: cache.in_background(lambda: None))


def test_readers_of_one_array_do_not_share_chunks(scrolled):
    _, counting, cache, reader = scrolled
    again = type(reader)(counting, "arrays/01/a.ome.zarr/data", reader.metadata, cache=cache)
    for one in (reader, again):
        for z in range(2):
            one.read(plane(z))
    assert len(cache) == 2


def wait_for(condition, timeout_s=10):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
