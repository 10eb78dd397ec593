"""The chunks that a node's value is naturally computed in, worked out when they are first asked for."""

from __future__ import annotations

from larvik.array.expression import Expression, Operation, Source, walk
from larvik.array.regions import Grid, regular

#: Most bytes of one chunk that no stored chunk determines.
MAX_CHUNK_BYTES = 64 * 2**20
#: Most chunks along an axis that no stored chunk determines, or that arrays were joined along.
MAX_CHUNKS = 2**16


def grid_of(node: Expression) -> Grid:
    """Return the lengths of the chunks of `node` along each axis.

    Notes
    -----
    Chunks of a source are the stored ones; operations pass them on. Kept in the node.
    """
    if node._grid is None:
        for item in walk([node]):
            if item._grid is None:
                item._grid = _grid(item)
    assert node._grid is not None
    return node._grid


def _grid(node: Expression) -> Grid:
    if isinstance(node, Source):
        return regular(node.shape, node.chunks)
    if isinstance(node, Operation):
        from larvik.array.operators import OPERATORS

        return OPERATORS[node.op].grid(node)
    return bounded(tuple((size,) for size in node.shape), node.dtype.itemsize)


def bounded(grid: Grid, itemsize: int, most: int = MAX_CHUNK_BYTES) -> Grid:
    """Return the grid with chunks of much more than `most` bytes cut, first axes first."""
    size = itemsize
    for axis in grid:
        size *= max(axis, default=1)
    axes = list(grid)
    for number, axis in enumerate(axes):
        longest = max(axis, default=1)
        if size <= most:
            break
        length = max(1, longest * most // size, -(-sum(axis) // MAX_CHUNKS))
        if length < longest:
            axes[number] = tuple(piece for chunk in axis for piece in regular((chunk,), (length,))[0])
            size = size * length // longest
    return tuple(axes)
