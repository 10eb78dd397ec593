"""Keys and bytes of presented arrays: documents in memory, chunks from where they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Protocol

from larvik.storage.presented import Form, chunk_grid
from larvik.storage.zarr_metadata import ArrayMetadata

Index = tuple[int, ...]


class LevelChunks(Protocol):
    """Stored bytes of the inner chunks of the levels of one array. Thread-safe; equal when its arrays are."""

    def chunk(self, level: int, index: Index) -> bytes | None:
        """Return the stored bytes of one inner chunk, or None when it is not stored."""


@dataclass(frozen=True, slots=True)
class Level:
    """One presented array: which level it is, and how its chunks are named.

    Attributes
    ----------
    number : int
        Index of the level.
    grid : tuple of int
        Chunks per dim.
    prefix, separator : str
        How the key of a chunk is made from its index.
    is_complete : bool
        Whether every chunk of the grid is stored.
    """

    number: int
    grid: tuple[int, ...]
    prefix: str
    separator: str
    is_complete: bool

    @classmethod
    def of(cls, number: int, metadata: ArrayMetadata, form: Form) -> Level:
        """Return a level as `form` presents it."""
        prefix, separator = ("c/", "/") if form.version == 3 else ("", metadata.key_separator)
        return cls(number, chunk_grid(metadata), prefix, separator, metadata.is_complete)

    def key(self, index: Index) -> str:
        """Return the key of a chunk below its array."""
        return self.prefix + self.separator.join(map(str, index))

    def index(self, key: str) -> Index | None:
        """Return the index of the chunk that `key` names; None for any other key."""
        parts = key.removeprefix(self.prefix).split(self.separator)
        if not key.startswith(self.prefix) or len(parts) != len(self.grid):
            return None
        if not all(part.isascii() and part.isdecimal() and len(part) < 20 for part in parts):
            return None
        index = tuple(map(int, parts))
        inside = all(number < count for number, count in zip(index, self.grid, strict=True))
        return index if inside and self.key(index) == key else None


@dataclass(frozen=True, slots=True)
class PresentedObjects:
    """What the Zarr store of one array holds; satisfies `larvik.storage.zarr_store.Objects`.

    Attributes
    ----------
    documents : mapping
        Bytes by key: metadata, and coordinates that are in memory.
    levels : mapping
        The arrays whose chunks are stored, by name.
    chunks : LevelChunks, optional
        Where those chunks come from; without levels none are needed.
    """

    documents: Mapping[str, bytes]
    levels: Mapping[str, Level]
    chunks: LevelChunks | None = None

    def __repr__(self) -> str:
        return repr(self.chunks) if self.chunks is not None else f"{len(self.documents)} documents"

    def get(self, key: str) -> bytes | None:
        """Return the bytes of `key`, None where there are none."""
        found = self.documents.get(key)
        if found is not None:
            return found
        chunk = self._chunk(key)
        return None if chunk is None else self._read(*chunk)

    def has(self, key: str) -> bool:
        """Whether there are bytes for `key`; reads a chunk where only that tells."""
        chunk = self._chunk(key)
        if chunk is None:
            return key in self.documents
        return chunk[0].is_complete or self._read(*chunk) is not None

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield every key that begins with `prefix`; chunks of arrays that may lack some are read for it."""
        yield from (key for key in self.documents if key.startswith(prefix))
        for name, level in self.levels.items():
            start = f"{name}/{level.prefix}"
            if not (prefix.startswith(start) or start.startswith(prefix)):
                continue
            for index in product(*map(range, level.grid)):
                key = f"{name}/{level.key(index)}"
                if key.startswith(prefix) and (level.is_complete or self._read(level, index) is not None):
                    yield key

    def children(self, folder: str) -> Iterable[str]:
        """Return the names directly below `folder`."""
        start = f"{folder}/" if folder else ""
        found = {key[len(start) :].split("/")[0] for key in self.documents if key.startswith(start)}
        name, _, rest = folder.partition("/")
        if name in self.levels:
            found |= self._chunk_children(self.levels[name], rest, start)
        return sorted(found)

    def _chunk_children(self, level: Level, rest: str, start: str) -> set[str]:
        if not level.is_complete or level.separator != "/":
            return {key[len(start) :].split("/")[0] for key in self.keys(start)}
        # Every chunk is there: the names below a folder are counted, not listed.
        if not rest:
            return {"c"}
        first, *parts = rest.split("/")
        depth = len(parts)
        if first != "c" or depth >= len(level.grid):
            return set()
        inside = level.index("/".join(["c", *parts, *("0" for _ in level.grid[depth:])])) is not None
        return set(map(str, range(level.grid[depth]))) if inside else set()

    def _chunk(self, key: str) -> tuple[Level, Index] | None:
        name, _, rest = key.partition("/")
        level = self.levels.get(name)
        index = level.index(rest) if level is not None else None
        return None if level is None or index is None else (level, index)

    def _read(self, level: Level, index: Index) -> bytes | None:
        return self.chunks.chunk(level.number, index) if self.chunks is not None else None
