"""Stored objects of one level by their index in the grid of shards: the base of stores that know no keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NoReturn

from larvik.array.expression import Source
from larvik.errors import UnsupportedError
from larvik.storage.base import ByteRange, ObjectInfo, SingleReads
from larvik.storage.zarr_metadata import ArrayMetadata

Index = tuple[int, ...]


def name_of(source: Source) -> str:
    """Return what errors call a level."""
    return f"array {source.array_id}, level {source.level}"


def touched(metadata: ArrayMetadata, selection: tuple[slice, ...]) -> list[range]:
    """Return the stored objects that a selection touches, per dim."""
    return [
        range(part.start // shard, -(-part.stop // shard))
        for part, shard in zip(selection, metadata.shards, strict=True)
    ]


class LevelObjects(SingleReads, ABC):
    """The stored objects of one level, read alone. Satisfies `larvik.storage.base.Store`.

    Keys are made by `RegionReader` from the name of the level and the index of an object; nobody else knows
    them. What is not about reading objects is not supported.

    Parameters
    ----------
    name : str
        Of the level, for errors.
    metadata : ArrayMetadata
        Of the level.
    """

    batch_bytes = 4 << 20

    def __init__(self, name: str, metadata: ArrayMetadata) -> None:
        self._name = name
        self._metadata = metadata
        self._prefix = f"{name}/{metadata.key_prefix}"

    @property
    def url(self) -> str:
        """The name of the level: there is no address."""
        return self._name

    def shard_of(self, key: str) -> Index:
        """Return the index that a key stands for."""
        if not self._metadata.shape:
            return ()
        return tuple(map(int, key[len(self._prefix) :].split(self._metadata.key_separator)))

    def shards(self, selection: tuple[slice, ...]) -> Iterator[Index]:
        """Yield the index of every object that a selection touches."""
        return product(*touched(self._metadata, selection))

    @abstractmethod
    def read_many(self, requests: Sequence[ByteRange]) -> list[bytes | None]:
        """Return the bytes of each request, None where there is no object."""

    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Refuse."""
        self._refuse()

    def stat(self, key: str) -> ObjectInfo | None:
        """Refuse."""
        self._refuse()

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Refuse."""
        self._refuse()

    def children(self, prefix: str = "") -> Sequence[str]:
        """Refuse."""
        self._refuse()

    def delete(self, key: str) -> None:
        """Refuse."""
        self._refuse()

    def delete_prefix(self, prefix: str) -> int:
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsupportedError(f"The stored objects of {self._name} can be read here, and nothing else.")
