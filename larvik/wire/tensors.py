"""How a result is cut into tensors of one shape: the geometry of the encoding `dense`. Standard library only.

A result is evaluated in *slabs*, boxes that follow its chunks so that each chunk is decoded once; a slab
travels as *batches* of at most 4 MiB, and a batch as *tensors*, which all have one shape: what a fixed-size
list needs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

#: Largest batch, in bytes: from 8 MiB on messages fall out of the processor's cache.
BATCH_BYTES = 4 << 20
#: Size at which a slab is large enough, and largest slab when one row of chunks is larger, in bytes.
SLAB_BYTES = 8 << 20
MAX_SLAB_BYTES = 16 << 20
#: Chunks above this size are evaluated in pieces, although each piece decodes the chunk again, in bytes.
MAX_CHUNK_BYTES = 64 << 20
#: A tensor of at least this size has one plane only, in bytes: planes are what people look at.
PLANE_BYTES = 64 << 10
#: Tensors below this size would cost more in rows and starts than repeating some pixels costs.
MIN_TENSOR_BYTES = 4096

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a result: its first element and its length, per dim."""

    start: Shape
    shape: Shape

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as slices of the result."""
        return tuple(
            slice(first, first + length) for first, length in zip(self.start, self.shape, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a result of `shape` travels: in slabs of at most `slab` elements per dim, these in tensors.

    The last slab of a dim is clipped where the tensor divides what is left, and reaches back otherwise.
    """

    shape: Shape
    slab: Shape
    tensor: Shape

    def slabs(self) -> Iterator[Box]:
        """Yield the boxes to evaluate, in C order; none for a result without elements."""
        if 0 in self.shape:
            return
        edges = [_edges(*lengths) for lengths in zip(self.shape, self.slab, self.tensor, strict=True)]
        for box in itertools.product(*edges):
            yield Box(tuple(start for start, _ in box), tuple(length for _, length in box))

    def batches(self, slab: Box, itemsize: int) -> Iterator[Box]:
        """Yield the boxes of a slab that travel together, relative to it; contiguous, in C order."""
        yield from split(slab.shape, self.tensor, max(1, BATCH_BYTES // itemsize))

    def starts(self, box: Box) -> Iterator[Shape]:
        """Yield the first element of every tensor of a box, in C order."""
        ranges = [
            range(start, start + length, step)
            for start, length, step in zip(box.start, box.shape, self.tensor, strict=True)
        ]
        return itertools.product(*ranges)


def _edges(size: int, block: int, step: int) -> list[tuple[int, int]]:
    """Return start and length of the pieces of one dim; every length is a multiple of `step`."""
    found = []
    for start in range(0, size, block):
        length = min(block, size - start)
        if length % step:
            start, length = size - block, block
        found.append((start, length))
    return found


def split(shape: Shape, unit: Shape, elements: int) -> Iterator[Box]:
    """Yield boxes that are contiguous in a C-order array of `shape`, of about `elements` elements at most.

    Parameters
    ----------
    shape : tuple of int
        Elements per dim of the array.
    unit : tuple of int
        Box that is never cut; divides `shape`, and is contiguous in it.
    elements : int
        Most elements of a box; at least those of a unit.
    """
    if not shape:
        yield Box((), ())
        return
    for dim in range(len(shape)):  # the last dim always fits one element
        inner = math.prod(shape[dim + 1 :])
        count = elements // inner // unit[dim] * unit[dim]
        if count:
            break
    for outer in itertools.product(*(range(length) for length in shape[:dim])):
        for first in range(0, shape[dim], count):
            yield Box(
                (*outer, first, *(0,) * (len(shape) - dim - 1)),
                (*(1,) * dim, min(count, shape[dim] - first), *shape[dim + 1 :]),
            )


def offset(start: Shape, shape: Shape) -> int:
    """Return how many elements come before `start` in a C-order array of `shape`."""
    before = 0
    for position, length in zip(start, shape, strict=True):
        before = before * length + position
    return before


def tile(
    shape: Sequence[int],
    chunks: Sequence[int],
    itemsize: int,
    fits: Callable[[Shape], bool] = lambda shape: True,
) -> Tiling:
    """Return how a result travels.

    Parameters
    ----------
    shape : sequence of int
        Elements per dim of the result.
    chunks : sequence of int
        Elements per dim of the blocks that are best evaluated together.
    itemsize : int
        Bytes of one element on the wire.
    fits : callable
        Says whether a slab of a shape can be evaluated at once; slabs are halved, first dims first, until it
        can.
    """
    whole = tuple(shape)
    if 0 in whole:
        return Tiling(whole, whole, tuple(max(1, length) for length in whole))
    slab = _slab(whole, tuple(min(max(1, c), n) for c, n in zip(chunks, whole, strict=True)), itemsize)
    while not fits(slab) and max(slab) > 1:
        slab = _halved(slab)
    return Tiling(whole, slab, _tensor(whole, slab, itemsize))


def _slab(shape: Shape, chunks: Shape, itemsize: int) -> Shape:
    """Return whole chunks, grown along the last dims first, so that rows and planes are whole if they fit."""
    slab = list(chunks)
    size = math.prod(slab) * itemsize
    while size > MAX_CHUNK_BYTES:
        slab = list(_halved(slab))
        size = math.prod(slab) * itemsize
    for dim in reversed(range(len(shape))):
        rest = size // slab[dim]
        limit = MAX_SLAB_BYTES if dim >= len(shape) - 2 else SLAB_BYTES
        most = max(1, limit // (rest * slab[dim])) * slab[dim]
        slab[dim] = min(shape[dim], most)
        size = rest * slab[dim]
        if slab[dim] < shape[dim]:
            break
    return tuple(slab)


def _halved(slab: Sequence[int]) -> Shape:
    """Return the slab with its first dim that has several elements halved."""
    dim = next(dim for dim, length in enumerate(slab) if length > 1)
    return (*slab[:dim], (slab[dim] + 1) // 2, *slab[dim + 1 :])


def _tensor(shape: Shape, slab: Shape, itemsize: int) -> Shape:
    """Return the largest tensor of at most a batch that is contiguous in a slab and divides the result."""
    tensor = [1] * len(shape)
    size = itemsize
    for dim in reversed(range(len(shape))):
        if dim < len(shape) - 2 and size >= PLANE_BYTES:
            break
        step = (
            slab[dim] if slab[dim] == shape[dim] else math.gcd(slab[dim], shape[dim] % slab[dim] or slab[dim])
        )
        if step * size < MIN_TENSOR_BYTES and step < slab[dim]:
            step = slab[dim]  # the last slab of this dim reaches back
        if step * size > BATCH_BYTES:
            step = (
                next(n for n in range(BATCH_BYTES // size, 0, -1) if step % n == 0)
                if size <= BATCH_BYTES
                else 1
            )
        tensor[dim] = step
        size *= step
        if step < slab[dim]:
            break
    return tuple(tensor)
