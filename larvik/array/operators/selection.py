"""Taking parts: outer selections (each axis on its own) and pointwise ones (axes together)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Expression, Operation, Selector
from larvik.array.grids import MAX_CHUNK_BYTES, grid_of
from larvik.array.operators.base import Context, Costs, Operator
from larvik.array.regions import (
    Grid,
    Picks,
    Region,
    compose,
    increasing,
    lengths,
    nbytes,
    offsets,
    regular,
    split,
    starts,
)
from larvik.errors import SelectionError

#: Points whose chunks are looked up at once.
POINTS_AT_ONCE = 2**20


class Select(Operator):
    """One selector per axis: a position drops the axis, a range or positions keep it."""

    takes: Mapping[str, type] = {"selection": list}

    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Check that every position lies inside."""
        selection: tuple[Selector, ...] = parameters["selection"]
        if len(selection) != inputs[0].ndim:
            raise ValueError(f"selection has {len(selection)} axes for {inputs[0].ndim} dims")
        for axis, (selector, size) in enumerate(zip(selection, inputs[0].shape, strict=True)):
            check_inside(selector, size, axis)
        return tuple(len(item) for item in selection if not isinstance(item, int)), inputs[0].dtype

    def grid(self, node: Operation) -> Grid:
        """Follow the chunks of the input."""
        selection: tuple[Any, ...] = node.parameters["selection"]  # type: ignore[assignment]  # checked by infer
        sizes = grid_of(node.inputs[0])
        return tuple(
            split(size, item)
            for size, item in zip(sizes, selection, strict=True)
            if not isinstance(item, int)
        )

    def pull(self, node: Operation, region: Region) -> Sequence[Region | None]:
        """Compose the region with the selectors, put in increasing order."""
        return [tuple(increasing(positions) for positions in self._positions(node, region))]

    def _positions(self, node: Operation, region: Region) -> Iterator[Picks]:
        picks = iter(region)
        for item in node.parameters["selection"]:  # type: ignore[union-attr]  # checked by infer
            yield range(item, item + 1) if isinstance(item, int) else compose(item, next(picks))  # type: ignore[arg-type]  # checked by infer

    def block(self, node: Operation, region: Region, context: Context) -> NDArray[Any]:
        """Read what is needed, then bring it into the order that was asked for."""
        (needed,) = self.pull(node, region)
        assert needed is not None
        block = context.read(node.inputs[0], needed)
        for axis, (positions, picks) in enumerate(zip(self._positions(node, region), needed, strict=True)):
            if isinstance(positions, range) and len(positions) > 1 and positions.step < 0:
                block = np.flip(block, axis)
            elif not isinstance(positions, range) and not np.array_equal(positions, np.asarray(picks)):
                block = np.take(block, offsets(positions, picks), axis=axis)
        return block.reshape(lengths(region))


class Pointwise(Operator):
    """NumPy's advanced indexing by several arrays: ``positions`` of points along ``axes``."""

    takes: Mapping[str, type] = {"axes": tuple, "positions": tuple, "points": tuple, "at": int}

    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Check the positions; put the shape of the points in place of the axes."""
        axes, points, at = parameters["axes"], parameters["points"], parameters["at"]
        ndim = inputs[0].ndim
        if len(set(axes)) != len(axes) or not all(0 <= axis < ndim for axis in axes) or not axes:
            raise ValueError(f"axes {axes} are not distinct axes of {ndim} dims")
        if any(size < 0 for size in points) or math.prod(points) * len(axes) != len(parameters["positions"]):
            raise ValueError("positions are not one per axis and point")
        for axis, positions in zip(axes, _per_axis(parameters), strict=True):
            check_inside(positions, inputs[0].shape[axis], axis)
        rest = [size for axis, size in enumerate(inputs[0].shape) if axis not in axes]
        if not 0 <= at <= len(rest):
            raise ValueError(f"at is {at}; the points can be put at dims 0 to {len(rest)}")
        return (*rest[:at], *points, *rest[at:]), inputs[0].dtype

    def grid(self, node: Operation) -> Grid:
        """Follow the chunks of the input along its other axes; cut the points by bytes."""
        axes, points, at = _parts(node)
        rest = [sizes for axis, sizes in enumerate(grid_of(node.inputs[0])) if axis not in axes]
        beside = math.prod(max(sizes, default=1) for sizes in rest) * node.dtype.itemsize
        most = max(1, MAX_CHUNK_BYTES // max(beside, 1))
        if 0 in points:
            return (*rest[:at], *((size,) for size in points), *rest[at:])
        chunks = []
        for size in reversed(points):
            chunks.append(min(size, most))
            most = max(1, most // size)
        return (*rest[:at], *regular(points, chunks[::-1]), *rest[at:])

    def pull(self, node: Operation, region: Region) -> Sequence[Region | None]:
        """Name every position that some point has along each axis."""
        axes, points, at = _parts(node)
        rest = iter((*region[:at], *region[at + len(points) :]))
        chosen = dict(zip(axes, self._chosen(node, region), strict=True))
        return [
            tuple(
                increasing(chosen[axis]) if axis in chosen else next(rest)
                for axis in range(node.inputs[0].ndim)
            )
        ]

    def _chosen(self, node: Operation, region: Region) -> list[NDArray[np.int64]]:
        """Return the positions of the region's points, flat, one array per axis."""
        _, points, at = _parts(node)
        keys = np.ix_(*(np.asarray(picks, dtype=np.int64) for picks in region[at : at + len(points)]))
        return [array.reshape(points)[keys].ravel() for array in _per_axis(node.parameters)]

    def block(self, node: Operation, region: Region, context: Context) -> NDArray[Any]:
        """Read chunk by chunk of the input, only those that hold a point."""
        axes, points, at = _parts(node)
        source = node.inputs[0]
        chosen = self._chosen(node, region)
        rest = (*region[:at], *region[at + len(points) :])
        out = np.empty((chosen[0].size, *lengths(rest)), node.dtype)
        for members in _by_chunk(chosen, [grid_of(source)[axis] for axis in axes]):
            positions = {axis: array[members] for axis, array in zip(axes, chosen, strict=True)}
            others = iter(rest)
            needed = tuple(
                increasing(positions[axis]) if axis in positions else next(others)
                for axis in range(source.ndim)
            )
            block = np.moveaxis(context.read(source, needed), axes, range(len(axes)))
            out[members] = block[tuple(offsets(positions[axis], needed[axis]) for axis in axes)]
        shape = lengths(region[at : at + len(points)])
        out = out.reshape(*shape, *lengths(rest))
        return np.moveaxis(out, range(len(shape)), range(at, at + len(shape)))

    def peak(self, node: Operation, shape: tuple[int, ...], costs: Costs) -> int:
        """Hold the result twice, and one chunk of the input."""
        axes, points, at = _parts(node)
        rest = iter((*shape[:at], *shape[at + len(points) :]))
        sizes = grid_of(node.inputs[0])
        chunk = tuple(
            max(sizes[axis], default=1) if axis in axes else next(rest) for axis in range(node.inputs[0].ndim)
        )
        count = math.prod(shape[at : at + len(points)])
        return (
            costs.peak(node.inputs[0], chunk) + 2 * nbytes(shape, node.dtype.itemsize) + 8 * count * len(axes)
        )


def _parts(node: Operation) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    parameters: Mapping[str, Any] = node.parameters
    return parameters["axes"], parameters["points"], parameters["at"]


def _per_axis(parameters: Mapping[str, Any]) -> list[NDArray[np.int64]]:
    return np.split(np.asarray(parameters["positions"], dtype=np.int64), len(parameters["axes"]))


def _by_chunk(
    chosen: list[NDArray[np.int64]], grid: Sequence[tuple[int, ...]]
) -> Iterator[NDArray[np.int64]]:
    """Yield the indexes of the points of each chunk that holds any."""
    chunk = np.zeros(chosen[0].size, np.int64)
    for positions, sizes in zip(chosen, grid, strict=True):
        chunk = chunk * len(sizes) + np.searchsorted(starts(sizes), positions, side="right") - 1
    order = np.argsort(chunk, kind="stable")
    edges = np.flatnonzero(np.diff(chunk[order])) + 1
    yield from np.split(order, edges)


def check_inside(selector: Selector, size: int, axis: int) -> None:
    """Refuse positions outside an axis.

    Raises
    ------
    SelectionError
        ``SELECTION_OUT_OF_BOUNDS``, naming axis, position and size.
    """
    if isinstance(selector, int):
        ends = (selector, selector)
    elif len(selector) == 0:
        return
    elif isinstance(selector, range):
        ends = (min(selector[0], selector[-1]), max(selector[0], selector[-1]))
    else:
        ends = (int(selector.min()), int(selector.max()))
    if ends[0] < 0 or ends[1] >= size:
        raise out_of_bounds(ends[0] if ends[0] < 0 else ends[1], size, axis)


def out_of_bounds(position: int, size: int, axis: int) -> SelectionError:
    """Return the error of a position outside an axis."""
    span = f"it has the positions 0 to {size - 1}" if size else "it is empty"
    return SelectionError(
        f"Position {position} lies outside axis {axis}: {span}.", axis=axis, position=position
    )


OPERATORS: list[Operator] = [Select("select"), Pointwise("pointwise")]
