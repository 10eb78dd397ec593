"""How reductions gather their input block by block, so that no axis need be in memory at once.

Sums of floating point numbers run in float64, chunk by chunk in C order, and the sum of one chunk
depends on nothing but that chunk: the result is the same whatever is read at a time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.regions import starts
from larvik.errors import InvalidArgumentError

Array = NDArray[Any]


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
    dtype: np.dtype[Any]
    kept: tuple[int, ...]
    ddof: float = 0.0


class Accumulator(ABC):
    """Gathers blocks, whose bounds along the reduced axes come in C order."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @abstractmethod
    def add(self, block: Array, bounds: Sequence[range]) -> None:
        """Take the block at `bounds` of the reduced axes."""

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

    def add(self, block: Array, bounds: Sequence[range]) -> None:
        """Reduce the block and join it with what came before."""
        if self._dtype is not None and self._dtype != block.dtype:
            part = np.asarray(self._reduce(block, axis=self.layout.axes, keepdims=True, dtype=self._dtype))
        else:
            part = np.asarray(self._reduce(block, axis=self.layout.axes, keepdims=True))
        self._value = part if self._value is None else np.asarray(self._join(self._value, part))

    def result(self) -> Array:
        """Return what was joined."""
        assert self._value is not None
        return self._value


class Summing(Accumulator):
    """Sum, mean or product of floating point numbers in float64; NaN is left out where asked."""

    def __init__(
        self, layout: Layout, *, skips: bool = False, divides: bool = False, multiplies: bool = False
    ) -> None:
        super().__init__(layout)
        self._skips = skips
        self._divides = divides
        self._multiplies = multiplies
        self._total = np.full(layout.kept, 1.0 if multiplies else 0.0)
        self._count: Array = np.zeros(layout.kept if skips else (), np.int64)

    def add(self, block: Array, bounds: Sequence[range]) -> None:
        """Add the totals of the block's chunks, one after the other."""
        for chunk in chunks_of(block, bounds, self.layout):
            if self._skips and chunk.dtype.kind == "f":
                present = ~np.isnan(chunk)
                self._count += present.sum(axis=self.layout.axes, keepdims=True)
                chunk = np.where(present, chunk, chunk.dtype.type(1 if self._multiplies else 0))
            else:
                self._count += math.prod(chunk.shape[axis] for axis in self.layout.axes)
            if self._multiplies:
                self._total *= np.multiply.reduce(
                    chunk, axis=self.layout.axes, keepdims=True, dtype=np.float64
                )
            else:
                self._total += total(chunk, self.layout)

    def result(self) -> Array:
        """Return the total, divided by the count for a mean."""
        return self._total / self._count if self._divides else self._total


class Spreading(Accumulator):
    """Variance: count, mean and squared deviations of each chunk, joined in order.

    Notes
    -----
    One pass; joins as Chan, Golub and LeVeque (1979).
    """

    def __init__(self, layout: Layout, *, skips: bool, roots: bool) -> None:
        super().__init__(layout)
        self._skips = skips
        self._roots = roots
        self._count = np.zeros(layout.kept, np.float64)
        self._mean = np.zeros(layout.kept)
        self._squares = np.zeros(layout.kept)

    def add(self, block: Array, bounds: Sequence[range]) -> None:
        """Join the moments of the block's chunks, one after the other."""
        for chunk in chunks_of(block, bounds, self.layout):
            self._join(*self._moments(chunk))

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

    def _join(self, count: Array, mean: Array, squares: Array) -> None:
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

    def __init__(self, layout: Layout, *, largest: bool, skips: bool) -> None:
        super().__init__(layout)
        self._find = np.argmax if largest else np.argmin
        self._beats = np.greater if largest else np.less
        self._filler = -np.inf if largest else np.inf
        self._skips = skips
        self._best: Array | None = None
        self._position: Array = np.zeros(layout.kept, np.int64)
        self._present: Array = np.zeros(layout.kept, bool)

    def add(self, block: Array, bounds: Sequence[range]) -> None:
        """Keep the block's extreme where it is better, or as good and before."""
        if self._skips and block.dtype.kind == "f":
            missing = np.isnan(block)
            self._present |= ~missing.all(axis=self.layout.axes, keepdims=True)
            block = np.where(missing, block.dtype.type(self._filler), block)
        else:
            self._present |= True
        value, position = self._extreme(block, bounds)
        if self._best is None:
            self._best, self._position = value, position
            return
        is_better = self._beats(value, self._best) | ((value == self._best) & (position < self._position))
        if block.dtype.kind == "f":
            is_better &= ~np.isnan(self._best)
            is_better |= np.isnan(value) & (~np.isnan(self._best) | (position < self._position))
        self._best = np.where(is_better, value, self._best)
        self._position = np.where(is_better, position, self._position)

    def _extreme(self, block: Array, bounds: Sequence[range]) -> tuple[Array, Array]:
        if len(self.layout.axes) == 1:
            (axis,) = self.layout.axes
            found = np.expand_dims(self._find(block, axis=axis), axis)
            return np.take_along_axis(block, found, axis), found + bounds[0].start
        flat = int(self._find(block))
        inside = np.unravel_index(flat, block.shape)
        position = [int(item) + bound.start for item, bound in zip(inside, bounds, strict=True)]
        where = np.ravel_multi_index(position, self.layout.shape)
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
    """Yield the parts of a block that lie in one chunk of the input each, in C order."""
    parts = [_parts(bound, sizes) for bound, sizes in zip(bounds, layout.sizes, strict=True)]
    for combination in product(*parts):
        keys = [slice(None)] * block.ndim
        for axis, part in zip(layout.axes, combination, strict=True):
            keys[axis] = part
        yield block[tuple(keys)]


def _parts(bound: range, sizes: tuple[int, ...]) -> list[slice]:
    edges = starts(sizes)
    inside = edges[(edges > bound.start) & (edges < bound.stop)] - bound.start
    cuts = [0, *(int(edge) for edge in inside), len(bound)]
    return [slice(first, last) for first, last in pairwise(cuts)]
