"""Means, variances and positions of small whole numbers: exact, so that the order does not matter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from larvik.array.operators.accumulators import Accumulator, Array, Layout
from larvik.array.regions import cut_box

#: Elements of a piece that is worked on at once: small enough for the caches.
PIECE_ELEMENTS = 1 << 17


class ExactMean(Accumulator):
    """Mean of whole numbers whose sum a float64 holds."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._total = np.zeros(layout.kept, np.int64)

    @staticmethod
    def takes(layout: Layout) -> bool:
        """Return whether every sum is a whole number below 2**53."""
        return layout.source.kind in "biu" and layout.count << (8 * layout.source.itemsize) <= 2**53

    def parts(self, block: Array, bounds: Sequence[range]) -> Iterator[Array]:
        """Yield the sum of the block."""
        yield _sum(block, self.layout)

    def join(self, part: Array) -> None:
        """Add it."""
        self._total += part

    def result(self) -> Array:
        """Return the total over the count."""
        return self._total / np.float64(self.layout.count)


class ExactSpread(Accumulator):
    """Variance of whole numbers of at most 16 bits, from the sums of them and of their squares.

    Notes
    -----
    With the mean rounded to a whole number ``q``, the sum of ``(x - q)**2`` is a whole number too, and
    at most twice that of the deviations from the mean: nothing is lost to cancellation.
    """

    worked_bytes = 4
    part_bytes = 16

    def __init__(self, layout: Layout, *, roots: bool, skips: bool) -> None:
        super().__init__(layout)
        self._roots = roots
        self._skips = skips
        self._total = np.zeros(layout.kept, np.int64)
        self._squares = np.zeros(layout.kept, np.int64)

    @staticmethod
    def takes(layout: Layout) -> bool:
        """Return whether sums of squares stay below 2**62."""
        kind, bits = layout.source.kind, 8 * layout.source.itemsize
        return kind in "biu" and bits <= 16 and layout.count < 2**29

    def parts(self, block: Array, bounds: Sequence[range]) -> Iterator[tuple[Array, Array]]:
        """Yield the sums of the block and of its squares."""
        yield _sum(block, self.layout), self._sum_of_squares(block)

    def _sum_of_squares(self, block: Array) -> Array:
        found = np.zeros(self.layout.kept, np.int64)
        for piece in _pieces(block):
            values = block[piece].astype(np.uint32)  # wraps for negative numbers; the square does not
            values *= values
            into = found[_kept(piece, self.layout.axes)]
            if values.shape == into.shape:
                into += values
            else:
                into += np.add.reduce(values, axis=self.layout.axes, keepdims=True, dtype=np.int64)
        return found

    def join(self, part: tuple[Array, Array]) -> None:
        """Add them."""
        self._total += part[0]
        self._squares += part[1]

    def result(self) -> Array:
        """Return the squared deviations over (count - ddof), or its root."""
        count = self.layout.count
        nearest = (2 * self._total + count) // (2 * count)
        rest = self._total - nearest * count
        around = self._squares - nearest * (self._total + rest)
        squares = around - rest.astype(np.float64) ** 2 / count
        freedom = count - self.layout.ddof
        if self._skips and freedom <= 0:
            freedom = np.nan
        variance = np.maximum(squares, 0) / max(freedom, 0.0) if freedom == freedom else squares * np.nan
        return np.asarray(np.sqrt(variance) if self._roots else variance)


class ExactLocating(Accumulator):
    """Position of the first extreme of whole numbers of at most 16 bits, along one short axis.

    Notes
    -----
    Value and position make one number of 32 bits, of which the largest is found.
    """

    worked_bytes = 0
    part_bytes = 4

    def __init__(self, layout: Layout, *, largest: bool) -> None:
        super().__init__(layout)
        self._flip = np.uint16((0x8000 if layout.source.kind == "i" else 0) ^ (0 if largest else 0xFFFF))
        self._keys = np.zeros(layout.kept, np.uint32)

    @staticmethod
    def takes(layout: Layout) -> bool:
        """Return whether value and position fit in 32 bits."""
        small = layout.source.kind in "biu" and layout.source.itemsize <= 2
        return small and len(layout.axes) == 1 and layout.shape[layout.axes[0]] <= 2**16

    def parts(self, block: Array, bounds: Sequence[range]) -> Iterator[Array]:
        """Yield the largest keys of the block."""
        (axis,) = self.layout.axes
        found = np.zeros(self.layout.kept, np.uint32)
        for piece in _pieces(block):
            first = bounds[0].start + piece[axis].start
            values = block[piece].astype(np.int16 if block.dtype.kind == "i" else np.uint16).view(np.uint16)
            keys = (values ^ self._flip).astype(np.uint32)
            keys <<= np.uint32(16)
            after = np.arange(first, first + values.shape[axis], dtype=np.uint32)
            keys |= (0xFFFF - after).reshape([-1 if number == axis else 1 for number in range(block.ndim)])
            into = found[_kept(piece, self.layout.axes)]
            np.maximum(into, keys.max(axis=axis, keepdims=True), out=into)
        yield found

    def join(self, part: Array) -> None:
        """Keep the larger keys."""
        np.maximum(self._keys, part, out=self._keys)

    def result(self) -> Array:
        """Return the positions."""
        return 0xFFFF - (self._keys & 0xFFFF).astype(np.int64)


def _pieces(block: Array) -> Iterator[tuple[slice, ...]]:
    """Yield the keys of pieces that stay in the caches: whole rows, then planes."""
    room, shape = PIECE_ELEMENTS, [1] * block.ndim
    for axis in reversed(range(block.ndim)):
        shape[axis] = max(1, min(block.shape[axis], room))
        room //= shape[axis]
    for piece in cut_box([range(size) for size in block.shape], shape):
        yield tuple(slice(part.start, part.stop) for part in piece)


def _kept(piece: tuple[slice, ...], axes: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, 1) if axis in axes else key for axis, key in enumerate(piece))


def _sum(block: Array, layout: Layout) -> Array:
    """Return the sum over the reduced axes, in 32 bits where it fits: half the time."""
    count = math.prod(block.shape[axis] for axis in layout.axes)
    is_short = block.dtype.itemsize <= 2 and count <= 2**15
    dtype = (np.int32 if block.dtype.kind == "i" else np.uint32) if is_short else np.int64
    return np.asarray(np.add.reduce(block, axis=layout.axes, keepdims=True, dtype=dtype))
