"""zarr-python's own suite for stores, as far as it concerns reading, and what is refused."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from zarr.core.buffer import Buffer, cpu, default_buffer_prototype
from zarr.testing.store import StoreTests

from larvik.errors import InvalidArgumentError
from larvik.storage.presented_objects import PresentedObjects
from larvik.storage.zarr_store import ReadOnlyStore

#: What of the suite does not apply, and why.
EXCLUDED = {
    **dict.fromkeys(
        (
            "test_set",
            "test_set_not_open",
            "test_set_many",
            "test_set_if_not_exists",
            "test_clear",
            "test_delete",
            "test_delete_dir",
            "test_delete_nonexistent_key_does_not_raise",
            "test_set_sync",
            "test_delete_sync",
            "test_delete_sync_missing",
        ),
        "writes or deletes, which the store refuses",
    ),
    "test_store_open_read_only": "opens a writable store too: `test_a_writable_store_is_refused` instead",
}


class FilledStore(ReadOnlyStore):
    """The store, its documents filled by the tests: many of the suite fill a store through itself."""

    async def set(self, key: str, value: Buffer) -> None:
        self._objects.documents[key] = value.to_bytes()


def run(test: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(test)
    def runs(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(test(*args, **kwargs))

    return runs


class Suite(StoreTests[FilledStore, cpu.Buffer]):
    store_cls = FilledStore
    buffer_cls = cpu.Buffer

    @pytest.fixture
    def store_kwargs(self) -> dict[str, Any]:
        return {"objects": PresentedObjects({}, {})}

    @pytest.fixture
    def store(self, store_kwargs: dict[str, Any]) -> FilledStore:
        return asyncio.run(FilledStore.open(**store_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs: dict[str, Any]) -> FilledStore:
        return FilledStore(**store_kwargs)

    async def set(self, store: FilledStore, key: str, value: Buffer) -> None:
        store._objects.documents[key] = value.to_bytes()

    async def get(self, store: FilledStore, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(store._objects.documents[key])

    def test_store_repr(self, store: FilledStore) -> None:
        assert repr(store) == "FilledStore('0 documents')"

    def test_store_supports_writes(self, store: FilledStore) -> None:
        assert not store.supports_writes

    def test_store_supports_listing(self, store: FilledStore) -> None:
        assert store.supports_listing

    def test_store_read_only(self, store: FilledStore) -> None:
        assert store.read_only
        with pytest.raises(AttributeError):
            store.read_only = False


class RefusingSuite(Suite):
    """The tests that expect a refusal; they meet the store as it is."""

    store_cls = ReadOnlyStore


REFUSING = ("test_read_only_store_raises", "test_with_read_only_store")


def chosen(suite: type, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """The tests of a suite, asynchronous ones run by a loop of their own; the others taken out."""
    found: dict[str, Any] = {}
    for name in dir(suite):
        if name.startswith("test_"):
            test = getattr(suite, name)
            found[name] = (
                None if not wanted(name) else run(test) if inspect.iscoroutinefunction(test) else test
            )
    return found


TestReading = type(
    "TestReading", (Suite,), chosen(Suite, lambda name: name not in EXCLUDED and name not in REFUSING)
)
TestRefusing = type("TestRefusing", (RefusingSuite,), chosen(RefusingSuite, lambda name: name in REFUSING))


def test_a_writable_store_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="only read") as caught:
        ReadOnlyStore(PresentedObjects({}, {}), read_only=False)
    assert caught.value.reason == "ARGUMENT_INVALID"


def test_a_suffix_longer_than_the_object_gives_all_of_it() -> None:
    from zarr.abc.store import SuffixByteRequest

    store = ReadOnlyStore(PresentedObjects({"key": b"1234"}, {}))
    found = store.get_sync("key", prototype=default_buffer_prototype(), byte_range=SuffixByteRequest(10))
    assert found is not None
    assert found.to_bytes() == b"1234"


def test_stores_of_other_objects_differ() -> None:
    store = ReadOnlyStore(PresentedObjects({"key": b"1"}, {}))
    assert store == pickle.loads(pickle.dumps(store))
    assert store != ReadOnlyStore(PresentedObjects({"key": b"2"}, {}))
    assert store != b"1"
