"""Which shards of a new array are stored, and which shards of its coarser levels can be built from them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from larvik.array.spec import ArraySpec
from larvik.storage.encoded import ChunkGrid, Index


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard: number of its level, and its index in the level's grid of shards."""

    level: int
    index: Index


class Pyramid:
    """Which shards of a level are made from which of the level before it.

    Parameters
    ----------
    spec : ArraySpec
        From `plan_layout`: each level halves ``y`` and ``x``, rounding up.
    """

    def __init__(self, spec: ArraySpec) -> None:
        self.grids = [ChunkGrid(level.shape, level.chunks, level.shards) for level in spec.levels]
        self._halved = [dim in ("y", "x") for dim in spec.dims]

    def sources(self, shard: Shard) -> Iterator[Shard]:
        """Yield the shards that one of a coarser level is made from."""
        grid, finer = self.grids[shard.level], self.grids[shard.level - 1]
        ranges = []
        for dim, halved in enumerate(self._halved):
            factor = 2 if halved else 1
            first = shard.index[dim] * grid.shards[dim] * factor
            stop = min((shard.index[dim] + 1) * grid.shards[dim] * factor, finer.shape[dim])
            ranges.append(range(first // finer.shards[dim], (stop - 1) // finer.shards[dim] + 1))
        for index in product(*ranges):
            yield Shard(shard.level - 1, index)

    def made_from(self, shard: Shard) -> Iterator[Shard]:
        """Yield the shards of the next level that `shard` is a source of; none for the coarsest level."""
        if shard.level + 1 >= len(self.grids):
            return
        grid, coarser = self.grids[shard.level], self.grids[shard.level + 1]
        ranges = []
        for dim, halved in enumerate(self._halved):
            factor = 2 if halved else 1
            first = shard.index[dim] * grid.shards[dim]
            stop = min(first + grid.shards[dim], grid.shape[dim])
            begin, last = first // factor, (stop - 1) // factor
            ranges.append(range(begin // coarser.shards[dim], last // coarser.shards[dim] + 1))
        for index in product(*ranges):
            yield Shard(shard.level + 1, index)

    def descendants(self, shard: Shard) -> Iterator[Shard]:
        """Yield every shard that `shard` has a part in, level by level."""
        level = [shard]
        while level:
            level = list(dict.fromkeys(made for one in level for made in self.made_from(one)))
            yield from level


class StoredShards:
    """What one process knows to be stored of a new array. Thread-safe.

    Parameters
    ----------
    pyramid : Pyramid
        Of the array.
    stored : sequence of iterable of int
        Numbers of the shards that are stored already, per level.
    """

    def __init__(self, pyramid: Pyramid, stored: Sequence[Iterable[int]]) -> None:
        self._pyramid = pyramid
        self._is_stored = [np.zeros(grid.shard_counts, bool) for grid in pyramid.grids]
        for known, numbers in zip(self._is_stored, stored, strict=True):
            known.reshape(-1)[list(numbers)] = True
        self._left = self._ready()
        self._lock = threading.Lock()

    def add(self, shard: Shard) -> list[Shard]:
        """Note that `shard` is stored anew; return the shards of the next level that can be built now.

        What was made from it before is no longer stored: the writer removed it. The first call also returns
        what an earlier process left to build.
        """
        with self._lock:
            self._is_stored[shard.level][shard.index] = True
            for made in self._pyramid.descendants(shard):
                self._is_stored[made.level][made.index] = False
            now = [made for made in self._pyramid.made_from(shard) if self._has_sources(made)]
            left, self._left = self._left, []
            return list(dict.fromkeys([*left, *now]))

    def _ready(self) -> list[Shard]:
        """Return the shards that are not stored and whose sources are."""
        return [
            shard
            for level in range(1, len(self._is_stored))
            if self._is_stored[level - 1].any()
            for position in np.argwhere(~self._is_stored[level])
            if self._has_sources(shard := Shard(level, tuple(map(int, position))))
        ]

    def _has_sources(self, shard: Shard) -> bool:
        return all(self._is_stored[one.level][one.index] for one in self._pyramid.sources(shard))
