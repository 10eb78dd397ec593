"""The contract of stores, as a test class: whoever writes a store binds it and keeps its promises.

>>> class TestMyStore(StoreContract):
...     @pytest.fixture
...     def store(self, tmp_path):
...         return MyStore(tmp_path)
"""

# ruff: noqa: D102 - the name of a test is its sentence
from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from larvik.errors import InvalidArgumentError, NotFoundError
from larvik.storage.base import ByteRange, ObjectInfo, Store


class CountingStore:
    """A store that passes everything on and remembers what was read.

    Attributes
    ----------
    requests : list of ByteRange
        Every range asked of the store behind, in order.
    bytes_read : int
        Bytes that came back.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.requests: list[ByteRange] = []
        self.bytes_read = 0

    @property
    def url(self) -> str:
        """Address of the store behind."""
        return self.store.url

    @property
    def batch_bytes(self) -> int:
        """Of the store behind."""
        return self.store.batch_bytes

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Count, and read."""
        data = self.store.read(key, start, length)
        self._count([ByteRange(key, start, length)], [data])
        return data

    def read_many(self, requests: Sequence[ByteRange]) -> list[bytes | None]:
        """Count, and read."""
        answers = self.store.read_many(requests)
        self._count(requests, answers)
        return answers

    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Write to the store behind."""
        self.store.write(key, data)

    def stat(self, key: str) -> ObjectInfo | None:
        """Ask the store behind."""
        return self.store.stat(key)

    def size(self, key: str) -> int | None:
        """Ask the store behind."""
        return self.store.size(key)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """List the store behind."""
        return self.store.list(prefix)

    def children(self, prefix: str = "") -> Sequence[str]:
        """List the store behind."""
        return self.store.children(prefix)

    def delete(self, key: str) -> None:
        """Delete in the store behind."""
        self.store.delete(key)

    def delete_prefix(self, prefix: str) -> int:
        """Delete in the store behind."""
        return self.store.delete_prefix(prefix)

    def reset(self) -> None:
        """Forget what was read."""
        self.requests, self.bytes_read = [], 0

    def _count(self, requests: Sequence[ByteRange], answers: Sequence[bytes | None]) -> None:
        self.requests += requests
        self.bytes_read += sum(len(answer or b"") for answer in answers)


class StoreContract:
    """What every store promises. A subclass gives the fixture ``store``: an empty one."""

    def test_it_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)
        assert store.batch_bytes > 0

    def test_what_was_written_is_read(self, store: Store) -> None:
        data = bytes(range(256)) * 40
        store.write("a/b/c", data)
        assert store.read("a/b/c") == data
        assert store.read("a/b/c", 10, 20) == data[10:30]
        assert store.read("a/b/c", 10_000) == data[10_000:]
        assert store.read("a/b/c", -7) == data[-7:]

    def test_a_range_over_the_end_is_short(self, store: Store) -> None:
        store.write("a", b"12345")
        assert store.read("a", 3, 100) == b"45"
        assert store.read("a", 5, 1) == b""

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        store.write("empty", b"")
        assert store.read("empty") == b""
        assert store.size("empty") == 0

    def test_any_buffer_can_be_written(self, store: Store) -> None:
        store.write("bytearray", bytearray(b"abc"))
        store.write("view", memoryview(b"abcdef")[2:4])
        assert store.read("bytearray") == b"abc"
        assert store.read("view") == b"cd"

    def test_writing_again_replaces_and_changes_the_tag(self, store: Store) -> None:
        store.write("a", b"first")
        before = store.stat("a")
        store.write("a", b"2")
        after = store.stat("a")
        assert store.read("a") == b"2"
        assert before is not None
        assert after is not None
        assert (before.size, after.size) == (5, 1)
        assert before.tag != after.tag
        assert before.modified > 1.7e9

    def test_a_missing_object_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFoundError, match="'no/such'") as caught:
            store.read("no/such")
        assert caught.value.reason == "OBJECT_MISSING"
        assert store.size("no/such") is None
        assert store.stat("no/such") is None

    def test_a_folder_is_no_object(self, store: Store) -> None:
        store.write("folder/file", b"x")
        assert store.size("folder") is None
        with pytest.raises(NotFoundError):
            store.read("folder")

    def test_below_an_object_there_is_nothing(self, store: Store) -> None:
        store.write("file", b"x")
        assert store.size("file/below") is None
        assert list(store.list("file/below")) == []

    def test_many_reads_come_back_in_order(self, store: Store) -> None:
        store.write("a", bytes(range(200)))
        store.write("b", b"b" * 50)
        requests = [
            ByteRange("a", 100, 10),
            ByteRange("missing", 0, 3),
            ByteRange("b"),
            ByteRange("a", 0, 10),
            ByteRange("a", 105, 10),
            ByteRange("a", -4),
            ByteRange("a", 190, 100),
            ByteRange("a", 5, 0),
        ]
        whole = bytes(range(200))
        assert store.read_many(requests) == [
            whole[100:110], None, b"b" * 50, whole[:10], whole[105:115], whole[-4:], whole[190:], b"",
        ]  # fmt: skip
        assert store.read_many([]) == []

    def test_listing_knows_folders_from_prefixes(self, store: Store) -> None:
        for key in ("a/1", "a/b/2", "ab/3", "c"):
            store.write(key, key.encode())
        assert sorted(store.list("a")) == [("a/1", 3), ("a/b/2", 5)]
        assert sorted(key for key, _ in store.list()) == ["a/1", "a/b/2", "ab/3", "c"]
        assert list(store.list("nothing")) == []
        assert list(store.children()) == ["a", "ab", "c"]
        assert list(store.children("a")) == ["1", "b"]
        assert list(store.children("nothing")) == []

    def test_deleting_a_prefix_leaves_its_neighbours(self, store: Store) -> None:
        for key in ("a/1", "a/b/2", "ab/3"):
            store.write(key, key.encode())
        assert store.delete_prefix("a") == 8
        assert [key for key, _ in store.list()] == ["ab/3"]
        assert store.delete_prefix("a") == 0
        store.delete("ab/3")
        store.delete("ab/3")
        assert list(store.list()) == []

    @pytest.mark.parametrize(
        "key",
        ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/./b", "a\0b", "a\\b", "a\nb", "x" * 2000,
         "\ud800", "a/"],
    )  # fmt: skip
    def test_no_key_leads_out_of_the_root(self, store: Store, key: str) -> None:
        for act in (store.read, store.size, store.delete, lambda k: store.write(k, b"x")):
            with pytest.raises(InvalidArgumentError) as caught:
                act(key)
            assert caught.value.reason == "KEY_INVALID"

    def test_unusual_names_are_kept(self, store: Store) -> None:
        for key in ("a b/c+d", "µm/ä%20", "a#b?c&d", "*[x]"):
            store.write(key, key.encode())
            assert store.read(key) == key.encode()
            assert key in dict(store.list())

    def test_threads_share_it(self, store: Store) -> None:
        def use(number: int) -> bytes:
            store.write(f"t/{number}", str(number).encode())
            return store.read(f"t/{number}")

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(use, range(12))) == [str(number).encode() for number in range(12)]

    def test_readers_never_see_half_a_replacement(self, store: Store) -> None:
        sizes = {50_000: b"a" * 50_000, 60_000: b"b" * 60_000}

        def replace() -> None:
            for number in range(20):
                store.write("k", sizes[50_000 + number % 2 * 10_000])

        replace()
        with ThreadPoolExecutor(2) as pool:
            writing = pool.submit(replace)
            while not writing.done():
                data = store.read("k")
                assert data == sizes[len(data)]
            writing.result()

    def test_a_pickled_copy_reads_the_same(self, store: Store) -> None:
        store.write("a", b"1")
        copy = pickle.loads(pickle.dumps(store))
        assert copy.url == store.url
        assert copy.read("a") == b"1"

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_can_use_it(self, store: Store) -> None:
        store.write("a", b"parent")
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_copy_object, args=(store, "a", "b"))
        child.start()
        child.join(60)
        child.kill()  # one that hangs must not outlive the test; nothing, for one that has ended
        assert child.exitcode == 0
        began = time.monotonic()
        assert store.read("b") == b"parent"
        assert time.monotonic() - began < 5, "the child took the connections of its parent"


def _copy_object(store: Store, source: str, target: str) -> None:
    store.write(target, store.read(source))
