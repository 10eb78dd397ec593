"""zarr-python's store interface over objects that are only read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Protocol

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from larvik.errors import InvalidArgumentError


class Objects(Protocol):
    """Bytes by key, as Zarr names them: documents and chunks. Thread-safe; pickles."""

    def get(self, key: str) -> bytes | None:
        """Return the bytes of `key`, None where there are none."""

    def has(self, key: str) -> bool:
        """Whether there are bytes for `key`."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield every key that begins with `prefix`."""

    def children(self, folder: str) -> Iterable[str]:
        """Return the names directly below `folder`."""


class ReadOnlyStore(Store):
    """A Zarr store that is read and never written.

    Parameters
    ----------
    objects : Objects
        What it holds.
    read_only : bool
        True; there is no other form.

    Raises
    ------
    InvalidArgumentError
        ``ARGUMENT_INVALID``, when it is to be writable.

    Notes
    -----
    Blocking reads run in asyncio's threads. Errors are Larvik's, as the place of the bytes raises them: a
    chunk that is missing where it must not be is an error, never a fill value.
    """

    supports_writes: bool = False
    supports_deletes: bool = False
    supports_listing: bool = True

    def __init__(self, objects: Objects, *, read_only: bool = True) -> None:
        if not read_only:
            raise InvalidArgumentError(
                "Stored arrays are immutable: their Zarr store is only read.",
                reason="ARGUMENT_INVALID",
                field="read_only",
            )
        super().__init__(read_only=True)
        self._objects = objects

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._objects == other._objects

    __hash__ = None  # type: ignore[assignment]  # as of every class with an equality of its own

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self}')"

    def __str__(self) -> str:
        return repr(self._objects)

    def with_read_only(self, read_only: bool = False) -> Store:
        """Return a store of the same objects, to be opened anew; a writable one there is not."""
        if not read_only:
            return super().with_read_only(read_only)
        return type(self)(self._objects)

    # Reading

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, or a range of them; None where there are none."""
        _check_range(byte_range)
        self._is_open = True
        data = self._objects.get(key)
        if data is None:
            return None
        make = (prototype or default_buffer_prototype()).buffer.from_bytes
        return make(data if byte_range is None else data[_slice(byte_range, len(data))])

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, or a range of them; None where there are none."""
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return ranges of several keys, read together."""
        reads = [self.get(key, prototype, byte_range) for key, byte_range in key_ranges]
        return list(await asyncio.gather(*reads))

    async def exists(self, key: str) -> bool:
        """Whether there are bytes for a key."""
        return await asyncio.to_thread(self._objects.has, key)

    # Listing

    async def list(self) -> AsyncIterator[str]:
        """Yield every key."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield every key that begins with `prefix`."""
        keys = self._objects.keys(prefix)
        while (key := await asyncio.to_thread(next, keys, None)) is not None:
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below the folder `prefix`."""
        for name in await asyncio.to_thread(self._objects.children, prefix.rstrip("/")):
            yield name

    # Writing: refused

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse."""
        self._check_writable()


def _check_range(byte_range: ByteRequest | None) -> None:
    if not isinstance(byte_range, RangeByteRequest | OffsetByteRequest | SuffixByteRequest | None):
        raise ValueError(f"Unexpected byte_range, got {byte_range}.")


def _slice(byte_range: ByteRequest, size: int) -> slice:
    if isinstance(byte_range, RangeByteRequest):
        return slice(byte_range.start, byte_range.end)
    if isinstance(byte_range, OffsetByteRequest):
        return slice(byte_range.offset, None)
    return slice(max(0, size - byte_range.suffix), None)
