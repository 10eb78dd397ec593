"""Regions of an array: what is taken along each axis, in increasing order, and how regions combine.

A region has one entry per axis. An entry is a ``range`` with a positive step, or, for positions
without a regular distance, a strictly increasing int64 array.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What is taken along one axis, increasing.
Picks = range | NDArray[np.int64]
#: One entry per axis.
Region = tuple[Picks, ...]
#: Lengths of the chunks along each axis.
Grid = tuple[tuple[int, ...], ...]
#: Half-open bounds of consecutive groups along one axis.
Bounds = Sequence[tuple[int, int]]


def whole(shape: Sequence[int]) -> Region:
    """Return the region that is all of an array of `shape`."""
    return tuple(range(size) for size in shape)


def lengths(region: Region) -> tuple[int, ...]:
    """Return the shape of a region."""
    return tuple(len(picks) for picks in region)


def compose(base: Picks, picks: Picks) -> Picks:
    """Return what `picks` (positions within `base`) are in the positions that `base` speaks of.

    `base` may run backwards or hold any positions; the result then does too.
    """
    if isinstance(base, range):
        if isinstance(picks, range):
            return base[picks.start : picks.stop : picks.step]
        return base.start + base.step * picks
    if isinstance(picks, range):
        return base[picks.start : picks.stop : picks.step]
    return base[picks]


def increasing(positions: Picks) -> Picks:
    """Return the distinct positions in increasing order, as a range where the distance is regular."""
    if isinstance(positions, range):
        return _canonical(positions if positions.step > 0 else positions[::-1])
    distinct = np.unique(positions)
    if distinct.size <= 1:
        return range(int(distinct[0]), int(distinct[0]) + 1) if distinct.size else range(0)
    steps = np.diff(distinct)
    if (steps == steps[0]).all():
        return range(int(distinct[0]), int(distinct[-1]) + 1, int(steps[0]))
    return distinct.astype(np.int64, copy=False)


def _canonical(positions: range) -> range:
    if len(positions) == 1:
        return range(positions.start, positions.start + 1)
    return range(positions.start, positions[-1] + 1, positions.step) if positions else range(0)


def offsets(positions: Picks, within: Picks) -> NDArray[np.int64]:
    """Return where each of `positions` lies in the increasing `within`, which holds them all."""
    wanted = np.asarray(positions, dtype=np.int64)
    if isinstance(within, range):
        return (wanted - within.start) // within.step
    return np.searchsorted(within, wanted)


def hull(first: Picks, second: Picks) -> Picks:
    """Return picks that hold both: the same when they are equal, else every position between the ends."""
    if same(first, second):
        return first
    if len(first) == 0 or len(second) == 0:
        return first if len(second) == 0 else second
    return range(int(min(first[0], second[0])), int(max(first[-1], second[-1])) + 1)


def same(first: Picks, second: Picks) -> bool:
    """Return whether two entries hold the same positions."""
    if isinstance(first, range) and isinstance(second, range):
        return first == second
    return len(first) == len(second) and bool(np.array_equal(first, second))


def within(region: Region, stored: Region) -> tuple[slice | NDArray[np.int64], ...] | None:
    """Return the keys that cut `region` out of an array of the region `stored`; None if not all is there."""
    keys: list[slice | NDArray[np.int64]] = []
    for picks, base in zip(region, stored, strict=True):
        if same(picks, base):
            keys.append(slice(None))
        elif not isinstance(base, range) or base.step != 1:
            return None
        elif len(picks) == 0:
            keys.append(slice(0, 0))
        elif picks[0] < base.start or picks[-1] >= base.stop:
            return None
        elif isinstance(picks, range):
            keys.append(slice(picks.start - base.start, picks.stop - base.start, picks.step))
        else:
            keys.append(picks - base.start)
    return tuple(keys)


def cut(array: NDArray[np.generic], keys: Sequence[slice | NDArray[np.int64]]) -> NDArray[np.generic]:
    """Return the outer selection of `array` by `keys`, a view where all are slices."""
    array = array[tuple(key if isinstance(key, slice) else slice(None) for key in keys)]
    for axis, key in enumerate(keys):
        if not isinstance(key, slice):
            array = np.take(array, key, axis=axis)
    return array


def regular(shape: Sequence[int], chunks: Sequence[int]) -> Grid:
    """Return the grid of equal chunks, the last of each axis shorter; an empty axis has one empty chunk."""
    return tuple(_pieces(size, chunk) for size, chunk in zip(shape, chunks, strict=True))


def _pieces(size: int, chunk: int) -> tuple[int, ...]:
    chunk = max(1, min(chunk, size))
    count, rest = divmod(size, chunk)
    return (chunk,) * count + ((rest,) if rest or not count else ())


def starts(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return where each chunk of one axis begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64, copy=False)


def split(sizes: Sequence[int], picks: Picks) -> tuple[int, ...]:
    """Return the chunk lengths that `picks` (in any order) have on an axis chunked as `sizes`.

    Consecutive picks of one chunk stay together; unordered picks are cut by the longest chunk.
    """
    if len(picks) == 0:
        return (0,)
    if isinstance(picks, range) and picks.step < 0:
        return split(sizes, picks[::-1])[::-1]
    edges = starts(sizes)
    if isinstance(picks, range):
        before = np.clip(-((picks.start - edges) // picks.step), 0, len(picks))
    elif (np.diff(picks) <= 0).any():
        return _pieces(picks.size, max(sizes))
    else:
        before = np.searchsorted(picks, edges)
    return tuple(int(size) for size in np.diff(before) if size)


def grouped(sizes: Sequence[int], count: int) -> Bounds:
    """Return the bounds of groups of `count` chunks each."""
    edges = starts(sizes)
    firsts = range(0, len(sizes), count)
    return tuple((int(edges[first]), int(edges[min(first + count, len(sizes))])) for first in firsts)


class Cuts(Sequence[tuple[int, int]]):
    """Bounds of pieces of at most `length` elements that never cross a chunk's edge; made one by one.

    Parameters
    ----------
    sizes : sequence of int
        Lengths of the chunks.
    length : int
        Longest piece.
    """

    def __init__(self, sizes: Sequence[int], length: int) -> None:
        self._sizes = sizes
        self._length = length
        self._counts = [-(-size // length) for size in sizes]

    def __len__(self) -> int:
        return sum(self._counts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        edge = 0
        for size in self._sizes:
            for at in range(0, size, self._length):
                yield edge + at, edge + min(at + self._length, size)
            edge += size

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        left, edge = range(len(self))[number], 0
        for size, pieces in zip(self._sizes, self._counts, strict=True):
            if left < pieces:
                at = left * self._length
                return edge + at, edge + min(at + self._length, size)
            left, edge = left - pieces, edge + size
        raise IndexError(number)


def boxes(bounds: Sequence[Iterable[tuple[int, int]]]) -> Iterator[tuple[range, ...]]:
    """Yield every combination of bounds as ranges, in C order, one by one."""
    if not bounds:
        yield ()
        return
    for start, stop in bounds[0]:
        for rest in boxes(bounds[1:]):
            yield range(start, stop), *rest


def cut_box(box: Sequence[range], shape: Sequence[int]) -> Iterator[tuple[range, ...]]:
    """Yield the parts of a box that are at most `shape` long, in C order."""
    for part in boxes([Cuts((len(picks),), length) for picks, length in zip(box, shape, strict=True)]):
        yield tuple(picks[inner.start : inner.stop] for picks, inner in zip(box, part, strict=True))


def count(region: Region) -> int:
    """Return the number of elements of a region."""
    return math.prod(lengths(region))


def nbytes(shape: Sequence[int], itemsize: int) -> int:
    """Return the bytes of an array of `shape`."""
    return math.prod(shape) * itemsize
