"""Stored arrays as they lie in the store: which part of one an expression is, and its objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from larvik.array.expression import Expression, Operation, Source
from larvik.storage.base import Store
from larvik.storage.engine import RegionReader
from larvik.storage.local import LocalStore
from larvik.storage.s3 import S3Store

Index = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredRegion:
    """A box of one stored level: what can be read without evaluating anything.

    Attributes
    ----------
    source : Source
        The level.
    selection : tuple of slice
        One per dim of the level, with steps of one.
    """

    source: Source
    selection: tuple[slice, ...]

    @classmethod
    def of(cls, expression: Expression) -> StoredRegion | None:
        """Return the box whose elements `expression` is, in their order; None when it is none."""
        if isinstance(expression, Source):
            return cls(expression, tuple(slice(0, size) for size in expression.shape))
        if not isinstance(expression, Operation) or expression.op != "select":
            return None
        source, selection = expression.inputs[0], expression.parameters["selection"]
        if not isinstance(source, Source) or not isinstance(selection, tuple):
            return None
        bounds = []
        for picks in selection:
            if isinstance(picks, int):
                bounds.append(slice(picks, picks + 1))
            elif isinstance(picks, range) and (picks.step == 1 or len(picks) == 1):
                bounds.append(slice(picks.start, picks.start + len(picks)))
            else:
                return None
        return cls(source, tuple(bounds))

    def shards(self, extents: Index) -> tuple[range, ...]:
        """Return the stored objects that the box touches, per dim, in a grid of objects of `extents`."""
        return tuple(
            range(part.start // extent, -(-part.stop // extent))
            for part, extent in zip(self.selection, extents, strict=True)
        )


class StoredObjects:
    """The objects of one stored level, handed out as they are.

    Parameters
    ----------
    store : Store
        Where they are.
    reader : RegionReader
        Of the level.
    is_registered : bool
        Whether they lie outside the store of this Larvik.
    """

    def __init__(self, store: Store, reader: RegionReader, is_registered: bool) -> None:
        self._store = store
        self._reader = reader
        self._is_registered = is_registered
        self.metadata = reader.metadata

    @property
    def are_files(self) -> bool:
        """Whether descriptors of them can be opened."""
        return isinstance(self._store, LocalStore)

    @property
    def are_addressable(self) -> bool:
        """Whether presigned addresses of them can be made: of those in a bucket of this Larvik's own."""
        return isinstance(self._store, S3Store) and not self._is_registered and self._store.can_presign

    def open(self, shard: Index) -> int | None:
        """Return a descriptor of one object, open for reading alone; None where none is stored.

        Raises
        ------
        LarvikError
            As the store does; also for a link that leads out of it.
        """
        assert isinstance(self._store, LocalStore)
        return self._store.open(self._reader.shard_key(shard))

    def addresses(self, grid: tuple[range, ...], seconds: int) -> Iterator[tuple[Index, str]]:
        """Yield the index and the presigned address of every object of a part of the grid."""
        assert isinstance(self._store, S3Store)
        for shard in product(*grid):
            yield shard, self._store.presign(self._reader.shard_key(shard), seconds)
