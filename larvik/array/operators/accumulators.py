"""How reductions gather their input block by block, so that no axis need be in memory at once.

Sums of floating point numbers run in float64, chunk by chunk in C order, and the sum of one chunk
depends on nothing but that chunk: the result is the same whatever is read at a time, and by however
many threads. What a block comes to (`Accumulator.parts`) is worked out apart from what came before it
(`Accumulator.join`), so that several blocks can be worked on at once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.regions import boxes, cut_box, starts
from larvik.errors import InvalidArgumentError

Array = NDArray[Any]

#: Elements of a plane below which a step for each plane costs more than copying the block.
SMALL_PLANE = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """What is reduced.

    Attributes
    ----------
    shape : tuple of int
        Of the input.
    axes : tuple of int
        Reduced ones.
    sizes : tuple of tuple of int
        Chunks of the input along the reduced axes.
    pieces : tuple of int
        Longest parts that a chunk is summed in.
    source : numpy.dtype
        Of the input.
    dtype : numpy.dtype
        Of the result.
    kept : tuple of int
        Shape of the region, 1 along reduced axes.
    ddof : float
        Of variances.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    pieces: tuple[int, ...]
    source: np.dtype[Any]
    dtype: np.dtype[Any]
    kept: tuple[int, ...]
    ddof: float = 0.0

    @property
    def count(self) -> int:
        """Elements that one element of the result is made of."""
        return math.prod(self.shape[axis] for axis in self.axes)


class Accumulator(ABC):
    """Gathers blocks, whose bounds along the reduced axes come in C order."""

    #: Bytes of working memory for each element of a chunk.
    worked_bytes = 0
    #: Bytes of what one part holds, for each element that is kept.
    part_bytes = 8
    #: Whether a block gives one part, rather than one for each piece of its chunks.
    is_whole = True

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def add(self, block: Array, bounds: Sequence[range]) -> None:
        """Take the block at `bounds` of the reduced axes."""
        for part in self.parts(block, bounds):
            self.join(part)

    @abstractmethod
    def parts(self, block: Array, bounds: Sequence[range]) -> Iterator[Any]:
        """Yield what the block comes to by itself, in order; touches nothing of the accumulator."""

    @abstractmethod
    def join(self, part: Any) -> None:
        """Take the next part."""

    @abstractmethod
    def result(self) -> Array:
        """Return the reduction, 1 along the reduced axes."""


class Folding(Accumulator):
    """Reductions whose order does not matter: extremes, truth, exact whole numbers."""

    def __init__(
        self,
        layout: Layout,
        reduce: Callable[..., Array],
        join: Callable[..., Array],
        dtype: np.dtype[Any] | None,
    ) -> None:
        super().__init__(layout)
        self._reduce = reduce
        self._join = join
        self._dtype = dtype
        self._value: Array | None = None

    def parts(self, block: Array, bounds: Sequence[range]) -> Iterator[Array]:
        """Yield the reduction of the block."""
        if self._dtype is not None and self._dtype != block.dtype:
            yield np.asarray(self._reduce(block, axis=self.layout.axes, keepdims=True, dtype=self._dtype))
        else:
            yield np.asarray(self._reduce(block, axis=self.layout.axes, keepdims=True))

    def join(self, part: Array) -> None:
        """Join the part with what came before."""
        self._value = part if self._value is None else np.asarray(self._join(self._value, part))

    def result(self) -> Array:
        """Return what was joined."""
        assert self._value is not None
        return self._value


class Summing(Accumulator):
    """Sum, mean or product of floating point numbers in float64; NaN is left out where asked."""

    worked_bytes = 16
    part_bytes = 16
    is_whole = False

    def __init__(
        self, layout: Layout, *, skips: bool = False, divides: bool = False, multiplies: bool = False
    ) -> None:
        super().__init__(layout)
        self._skips = skips and layout.source.kind == "f"
        self._divides = divides
        self._multiplies = multiplies
        self._total = np.full(layout.kept, 1.0 if multiplies else 0.0)
        self._count: Array = np.zeros(layout.kept if self._skips else (), np.int64)

    def parts(self, block: Array, bounds: Sequence[range]) -> Iterator[tuple[Array, Array | int]]:
        """Yield the total of each of the block's pieces, and how many elements it has."""
        axes = self.layout.axes
        for chunk in chunks_of(block, bounds, self.layout):
            count: Array | int = math.prod(chunk.shape[axis] for axis in axes)
            if self._skips:
                present = ~np.isnan(chunk)
                count = present.sum(axis=axes, keepdims=True)
                chunk = np.where(present, chunk, chunk.dtype.type(1 if self._multiplies else 0))
            if self._multiplies:
                yield np.multiply.reduce(chunk, axis=axes, keepdims=True, dtype=np.float64), count
            else:
                yield total(chunk, self.layout), count

    def join(self, part: tuple[Array, Array | int]) -> None:
        """Add a total to those before it."""
        found, count = part
        self._count += count
        if self._multiplies:
            self._total *= found
        else:
            self._total += found

    def result(self) -> Array:
        """Return the total, divided by the count for a mean."""
        return self._total / self._count if self._divides else self._total


class Spreading(Accumulator):
    """Variance: count, mean and squared deviations of each chunk, joined in order.

    Notes
    -----
    One pass; joins as Chan, Golub and LeVeque (1979).
    """

    worked_bytes = 32
    part_bytes = 24
    is_whole = False

    def __init__(self, layout: Layout, *, skips: bool, roots: bool) -> None:
        super().__init__(layout)
        self._skips = skips
        self._roots = roots
        self._count = np.zeros(layout.kept, np.float64)
        self._mean = np.zeros(layout.kept)
        self._squares = np.zeros(layout.kept)

    def parts(self, block: Array, bounds: Sequence[range]) -> Iterator[tuple[Array, Array, Array]]:
        """Yield the moments of each of the block's pieces."""
        return map(self._moments, chunks_of(block, bounds, self.layout))

    def _moments(self, chunk: Array) -> tuple[Array, Array, Array]:
        values = chunk.astype(np.float64)
        if self._skips and chunk.dtype.kind == "f":
            present = ~np.isnan(chunk)
            count = present.sum(axis=self.layout.axes, keepdims=True).astype(np.float64)
            mean = total(np.where(present, values, 0.0), self.layout) / np.maximum(count, 1)
            deviations = np.where(present, values - mean, 0.0)
        else:
            count = np.full(
                self.layout.kept, float(math.prod(chunk.shape[axis] for axis in self.layout.axes))
            )
            mean = total(values, self.layout) / count
            deviations = values - mean
        np.multiply(deviations, deviations, out=deviations)
        return count, mean, total(deviations, self.layout)

    def join(self, part: tuple[Array, Array, Array]) -> None:
        """Join the moments of a piece with those before it."""
        count, mean, squares = part
        whole = self._count + count
        share = np.divide(count, whole, out=np.zeros_like(whole), where=whole > 0)
        delta = mean - self._mean
        self._squares += squares + delta * delta * self._count * share
        self._mean += delta * share
        self._count = whole

    def result(self) -> Array:
        """Return squares over (count - ddof), or its root."""
        freedom = self._count - self.layout.ddof
        if self._skips:
            freedom = np.where(freedom > 0, freedom, np.nan)
        variance = self._squares / np.maximum(freedom, 0)
        return np.sqrt(variance) if self._roots else variance


class Locating(Accumulator):
    """Position of the first extreme, along one axis or in the flat order of all."""

    worked_bytes = 9
    part_bytes = 24

    def __init__(self, layout: Layout, *, largest: bool, skips: bool) -> None:
        super().__init__(layout)
        self._find = np.argmax if largest else np.argmin
        self._reach = np.max if largest else np.min
        self._beats = np.greater if largest else np.less
        self._filler = -np.inf if largest else np.inf
        self._skips = skips
        self._best: Array | None = None
        self._position: Array = np.zeros(layout.kept, np.int64)
        self._present: Array = np.zeros(layout.kept, bool)

    def parts(self, block: Array, bounds: Sequence[range]) -> Iterator[tuple[Array, Array, Array | bool]]:
        """Yield the block's extreme, where it is, and whether there is any."""
        present: Any = True
        if self._skips and block.dtype.kind == "f":
            missing = np.isnan(block)
            present = ~missing.all(axis=self.layout.axes, keepdims=True)
            block = np.where(missing, block.dtype.type(self._filler), block)
        yield *self._extreme(block, bounds), present

    def join(self, part: tuple[Array, Array, Array | bool]) -> None:
        """Keep the part's extreme where it is better, or as good and before."""
        value, position, present = part
        self._present |= present
        if self._best is None:
            self._best, self._position = value, position
            return
        is_better = self._beats(value, self._best)
        if len(self.layout.axes) > 1:  # along one axis, what comes later lies behind
            is_better |= (value == self._best) & (position < self._position)
        if value.dtype.kind == "f":
            is_better &= ~np.isnan(self._best)
            is_better |= np.isnan(value) & (~np.isnan(self._best) | (position < self._position))
        np.copyto(self._best, value, where=is_better)
        np.copyto(self._position, position, where=is_better)

    def _extreme(self, block: Array, bounds: Sequence[range]) -> tuple[Array, Array]:
        if len(self.layout.axes) == 1:
            (axis,) = self.layout.axes
            return _first_along(block, axis, self._find, self._reach, bounds[0].start)
        flat = int(self._find(block))
        inside = np.unravel_index(flat, block.shape)
        at = [int(item) + bound.start for item, bound in zip(inside, bounds, strict=True)]
        where = np.ravel_multi_index(at, self.layout.shape)
        return block[inside].reshape(self.layout.kept), np.full(self.layout.kept, where, np.int64)

    def result(self) -> Array:
        """Return the positions; refuse slices of nothing but NaN, as NumPy does."""
        if not self._present.all():
            raise InvalidArgumentError(
                "All-NaN slice encountered: nanargmax and nanargmin have no answer there. "
                "Fill the missing values first.",
                reason="OPERATION_INVALID",
                field="axes",
            )
        return self._position


def _first_along(
    block: Array, axis: int, find: Callable[..., Array], reach: Callable[..., Array], start: int
) -> tuple[Array, Array]:
    """Return the extreme along an axis and where it is first, from `start`; NaN is the most extreme."""
    value = reach(block, axis=axis, keepdims=True)
    planes = np.moveaxis(block, axis, 0)
    if axis == block.ndim - 1 or planes[:1].size < SMALL_PLANE:
        return value, np.expand_dims(find(block, axis=axis), axis) + start
    # NumPy would copy the block with this axis last.
    target = np.moveaxis(value, axis, 0)
    position = np.empty(target.shape, np.int64)
    for number in reversed(range(len(planes))):
        plane = planes[number : number + 1]
        found = plane == target
        if block.dtype.kind == "f":
            found |= np.isnan(plane)
        np.copyto(position, start + number, where=found)
    return value, np.moveaxis(position, 0, axis)


def total(chunk: Array, layout: Layout) -> Array:
    """Return the sum of a chunk over the reduced axes in float64.

    The order of additions depends on the reduced axes alone: pairwise along the last axis of the
    array, one after the other along any other, the last axis first.
    """
    values: Array = chunk
    for axis in reversed(layout.axes):
        if values.shape[axis] == 1:
            continue
        values = np.ascontiguousarray(values, dtype=np.float64)
        is_last = axis == len(layout.shape) - 1
        if not is_last and math.prod(values.shape[axis + 1 :]) == 1:
            # NumPy would add pairwise here, because the axis happens to be contiguous in this block.
            values = np.add.accumulate(values, axis=axis).take([-1], axis=axis)
        else:
            values = np.add.reduce(values, axis=axis, keepdims=True)
    return values


def chunks_of(block: Array, bounds: Sequence[range], layout: Layout) -> Iterator[Array]:
    """Yield the parts of a block that lie in one piece of one chunk of the input each.

    Chunks come in C order, and so do the pieces of each.
    """
    for chunk in boxes([_parts(bound, sizes) for bound, sizes in zip(bounds, layout.sizes, strict=True)]):
        for piece in cut_box(chunk, layout.pieces):
            keys = [slice(None)] * block.ndim
            for axis, part in zip(layout.axes, piece, strict=True):
                keys[axis] = slice(part.start, part.stop)
            yield block[tuple(keys)]


def _parts(bound: range, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    edges = starts(sizes)
    inside = edges[(edges > bound.start) & (edges < bound.stop)] - bound.start
    return list(pairwise([0, *(int(edge) for edge in inside), len(bound)]))
