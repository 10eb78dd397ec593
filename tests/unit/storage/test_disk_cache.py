"""The cache of stored bytes on the local disk: the same bytes, fewer requests, never too many files."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from larvik.errors import DataLossError
from larvik.storage import open_store
from larvik.storage.base import ByteRange
from larvik.storage.disk_cache import CachedStore
from larvik.testing.arrays import random_array
from larvik.testing.stores import CountingStore, StoreContract

from .layouts import LOCATION, written_reader


class TestContract(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return CachedStore(open_store(str(tmp_path / "s"), create=True), tmp_path / "cache", 10_000_000)


@pytest.fixture
def counting(store):
    return CountingStore(store)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file() and path.name != "lock"]


def total(folder):
    sizes = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # another process has just deleted it
                sizes += os.stat(os.path.join(path, name)).st_size
    return sizes


def test_a_second_read_asks_for_nothing(counting, folder):
    array = random_array((8, 64, 64), "uint16")
    reader = written_reader(counting.store, array, (1, 32, 64), (2, 64, 64))
    for expected in (True, False):
        counting.reset()
        again = type(reader)(CachedStore(counting, folder, 10_000_000), f"{LOCATION}/data", reader.metadata)
        assert np.array_equal(again.read((slice(None),) * 3), array)
        assert bool(counting.requests) is expected


def test_ranges_are_kept_apart(counting, folder):
    counting.write("a/c/0", bytes(range(100)))
    cached = CachedStore(counting, folder, 1_000_000)
    requests = [
        ByteRange("a/c/0", 0, 10),
        ByteRange("a/c/0", 0, 11),
        ByteRange("a/c/0", -5),
        ByteRange("a/c/0"),
    ]
    expected = [bytes(range(10)), bytes(range(11)), bytes(range(95, 100)), bytes(range(100))]
    assert cached.read_many(requests) == expected
    counting.reset()
    assert cached.read_many(requests[::-1]) == expected[::-1]
    assert counting.requests == []


@pytest.mark.parametrize("key", ["a/zarr.json", "a/.zattrs", "a/c/x.xml", "a/OME/METADATA.ome.xml"])
def test_documents_are_not_kept(counting, folder, key):
    cached = CachedStore(counting, folder, 1_000_000)
    for text in (b"first", b"second"):
        counting.store.write(key, text)
        assert cached.read(key) == text
    assert files(folder) == []


def test_what_is_missing_or_cut_is_not_kept(counting, folder):
    cached = CachedStore(counting, folder, 1_000_000)
    suffix = ByteRange("a/c/0", -20)
    assert cached.read_many([suffix]) == [None]
    counting.store.write("a/c/0", b"cut")
    assert cached.read_many([suffix]) == [b"cut"]
    counting.store.write("a/c/0", bytes(40))
    assert cached.read_many([suffix]) == [bytes(20)]


def test_stores_do_not_mix(tmp_path, folder):
    for name in ("one", "two"):
        store = open_store(str(tmp_path / name), create=True)
        store.write("a/c/0", name.encode())
        assert CachedStore(store, folder, 1_000_000).read("a/c/0") == name.encode()


def test_the_longest_unused_go(counting, folder):
    cached = CachedStore(counting, folder, 200_000)
    for number in range(100):
        counting.store.write(f"a/c/{number}", bytes([number]) * 5_000)
        cached.read(f"a/c/{number}")
        cached.read("a/c/0")  # looked at all the time
        assert total(folder) <= 200_000
        old = time.time() - 1000 + number
        for path in files(folder):
            if path.read_bytes()[-1] == number:
                os.utime(path, (old, old))
    counting.reset()
    assert cached.read("a/c/0") == bytes(5_000)
    assert counting.requests == []
    assert total(folder) > 100_000


def test_an_object_that_would_fill_the_cache_is_not_kept(counting, folder):
    counting.store.write("a/c/0", bytes(50_000))
    assert CachedStore(counting, folder, 100_000).read("a/c/0") == bytes(50_000)
    assert files(folder) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:],
        lambda data: bytes(len(data)),
        lambda data: data + b"x",
        lambda data: data[:8] + bytes(8) + data[16:],
    ],
)
def test_a_damaged_file_is_read_again(counting, folder, damage):
    counting.store.write("a/c/0", bytes(range(200)))
    cached = CachedStore(counting, folder, 1_000_000)
    cached.read("a/c/0")
    (path,) = files(folder)
    path.write_bytes(damage(path.read_bytes()))
    counting.reset()
    assert cached.read("a/c/0") == bytes(range(200))
    assert len(counting.requests) == 1
    assert cached.read("a/c/0") == bytes(range(200))
    assert len(counting.requests) == 1


def test_a_cache_that_cannot_be_written_costs_nothing_but_speed(counting, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cached = CachedStore(counting, tmp_path / "file" / "cache", 1_000_000)
    counting.store.write("a/c/0", b"bytes")
    assert cached.read("a/c/0") == b"bytes"
    assert cached.read("a/c/0") == b"bytes"


def test_a_link_in_the_cache_is_not_followed(counting, folder, tmp_path):
    counting.store.write("a/c/0", b"bytes")
    cached = CachedStore(counting, folder, 1_000_000)
    cached.read("a/c/0")
    (path,) = files(folder)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    counting.reset()
    assert cached.read("a/c/0") == b"bytes"
    assert len(counting.requests) == 1


def test_what_a_crash_left_is_removed(counting, folder):
    cached = CachedStore(counting, folder, 10_000)
    counting.store.write("a/c/0", b"bytes")
    cached.read("a/c/0")
    (path,) = files(folder)
    left = path.with_name("0_5.aaaa.partial")
    left.write_bytes(b"LVK1")
    os.utime(left, (1, 1))
    for number in range(1, 9):
        counting.store.write(f"a/c/{number}", bytes(500))
        cached.read(f"a/c/{number}")
    assert not left.exists()


def _read_on(store, folder, first, count):
    cached = CachedStore(store, folder, 400_000)
    for number in range(first, first + count):
        key = number % 60
        assert cached.read(f"a/c/{key}") == bytes([key]) * 10_000


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_several_processes_share_it_and_one_may_be_killed(store, folder):
    for number in range(60):
        store.write(f"a/c/{number}", bytes([number]) * 10_000)
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=_read_on, args=(store, folder, first, 20_000 if first == 30 else 600))
        for first in (0, 10, 30)
    ]
    for child in children:
        child.start()
    victim = children.pop()
    for child in children:
        child.join(60)
        assert total(folder) <= 400_000
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(10)
    assert [child.exitcode for child in children] == [0, 0]
    _read_on(store, folder, 0, 120)


def test_the_reader_tells_a_loss_through_the_cache(store, folder):
    array = random_array((4, 64, 64), "uint16")
    reader = written_reader(store, array, (1, 64, 64), (2, 64, 64))
    store.delete(reader.shard_key((1, 0, 0)))
    cached = type(reader)(CachedStore(store, folder, 1_000_000), f"{LOCATION}/data", reader.metadata)
    with pytest.raises(DataLossError):
        cached.read((slice(None),) * 3)
