"""Operations that move elements without changing them: axes, shapes, joins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Expression, Operation
from larvik.array.grids import MAX_CHUNKS, bounded, grid_of
from larvik.array.operators.base import Context, Costs, Operator
from larvik.array.operators.elementwise import narrowed
from larvik.array.regions import Grid, Picks, Region, count, lengths, nbytes, regular, starts


class Transpose(Operator):
    """Axes in another order."""

    takes: Mapping[str, type] = {"axes": tuple}

    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Check that each axis is named once."""
        axes = parameters["axes"]
        if sorted(axes) != list(range(inputs[0].ndim)):
            raise ValueError(f"axes {axes} are not an order of {inputs[0].ndim} dims")
        return tuple(inputs[0].shape[axis] for axis in axes), inputs[0].dtype

    def grid(self, node: Operation) -> Grid:
        """Follow the axes."""
        sizes = grid_of(node.inputs[0])
        return tuple(sizes[axis] for axis in _tuple(node, "axes"))

    def pull(self, node: Operation, region: Region) -> Sequence[Region | None]:
        """Put the entries back in the input's order."""
        back = np.argsort(_tuple(node, "axes"))
        return [tuple(region[axis] for axis in back)]

    def block(self, node: Operation, region: Region, context: Context) -> NDArray[Any]:
        """Return a view with the axes in the other order."""
        (needed,) = self.pull(node, region)
        assert needed is not None
        return context.read(node.inputs[0], needed).transpose(_tuple(node, "axes"))


class BroadcastTo(Operator):
    """The same elements repeated along new or single axes."""

    takes: Mapping[str, type] = {"shape": tuple}

    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Check that the shape is one that the input broadcasts to."""
        shape = parameters["shape"]
        if np.broadcast_shapes(inputs[0].shape, shape) != shape:
            raise ValueError(f"shape {inputs[0].shape} does not broadcast to {shape}")
        return shape, inputs[0].dtype

    def grid(self, node: Operation) -> Grid:
        """Follow the input; one chunk along repeated axes, cut by bytes."""
        item = node.inputs[0]
        sizes = grid_of(item)
        extra = node.ndim - item.ndim
        return bounded(
            tuple(
                sizes[axis - extra] if axis >= extra and item.shape[axis - extra] == size else (size,)
                for axis, size in enumerate(node.shape)
            ),
            node.dtype.itemsize,
        )

    def pull(self, node: Operation, region: Region) -> Sequence[Region | None]:
        """Ask for single elements along repeated axes."""
        return [narrowed(node.inputs[0], node, region)]

    def block(self, node: Operation, region: Region, context: Context) -> NDArray[Any]:
        """Return a view that repeats."""
        (needed,) = self.pull(node, region)
        assert needed is not None
        return np.broadcast_to(context.read(node.inputs[0], needed), lengths(region))


class Concatenate(Operator):
    """Arrays one after the other along an axis."""

    takes: Mapping[str, type] = {"axis": int}

    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Check that the other axes are equal; promote the dtypes."""
        axis, first = parameters["axis"], inputs[0]
        if not 0 <= axis < first.ndim:
            raise ValueError(f"axis {axis} is not one of {first.ndim} dims")
        for item in inputs:
            beside = (*item.shape[:axis], *item.shape[axis + 1 :])
            if item.ndim != first.ndim or beside != (*first.shape[:axis], *first.shape[axis + 1 :]):
                raise ValueError(f"shapes {first.shape} and {item.shape} differ beside axis {axis}")
        size = sum(item.shape[axis] for item in inputs)
        shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
        return shape, np.result_type(*(item.dtype for item in inputs))

    def grid(self, node: Operation) -> Grid:
        """Join the chunks along the axis, equal ones where that were too many; elsewhere take the finest."""
        axis = _int(node, "axis")
        grids = [grid_of(item) for item in node.inputs]
        axes = [max((grid[number] for grid in grids), key=len) for number in range(node.ndim)]
        if sum(len(grid[axis]) for grid in grids) <= MAX_CHUNKS:
            axes[axis] = tuple(size for grid in grids for size in grid[axis] if size) or (0,)
        else:
            # Joins of joins double the chunks with every operation.
            (axes[axis],) = regular((node.shape[axis],), (-(-node.shape[axis] // MAX_CHUNKS),))
        return tuple(axes)

    def pull(self, node: Operation, region: Region) -> Sequence[Region | None]:
        """Ask each input for its own part."""
        axis = _int(node, "axis")
        edges = starts([item.shape[axis] for item in node.inputs])
        needed: list[Region | None] = []
        for first, last in pairwise(edges):
            part = _between(region[axis], int(first), int(last))
            needed.append((*region[:axis], part, *region[axis + 1 :]) if len(part) else None)
        return needed

    def block(self, node: Operation, region: Region, context: Context) -> NDArray[Any]:
        """Read the parts into one array."""
        axis = _int(node, "axis")
        out = np.empty(lengths(region), node.dtype)
        at = 0
        for item, needed in zip(node.inputs, self.pull(node, region), strict=True):
            if needed is not None:
                until = at + len(needed[axis])
                out[(slice(None),) * axis + (slice(at, until),)] = context.read(item, needed)
                at = until
        return out

    def peak(self, node: Operation, shape: tuple[int, ...], costs: Costs) -> int:
        """Hold the result and one part at a time."""
        axis = _int(node, "axis")
        parts = [
            (*shape[:axis], min(shape[axis], item.shape[axis]), *shape[axis + 1 :]) for item in node.inputs
        ]
        return nbytes(shape, node.dtype.itemsize) + max(
            costs.peak(item, part) for item, part in zip(node.inputs, parts, strict=True)
        )


def _between(picks: Picks, first: int, last: int) -> Picks:
    """Return the picks in [first, last), counted from `first`."""
    if isinstance(picks, range):
        begin = max(0, -(-(first - picks.start) // picks.step))
        end = max(begin, min(len(picks), -(-(last - picks.start) // picks.step)))
        part = picks[begin:end]
        return range(part.start - first, part.stop - first, part.step)
    return picks[(picks >= first) & (picks < last)] - first


def _tuple(node: Operation, name: str) -> tuple[int, ...]:
    value: Any = node.parameters[name]
    return tuple(value)


def _int(node: Operation, name: str) -> int:
    value: Any = node.parameters[name]
    return int(value)


class Reshape(Operator):
    """The same elements in C order, in another shape."""

    takes: Mapping[str, type] = {"shape": tuple}

    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Check that the sizes agree."""
        shape = parameters["shape"]
        if any(size < 0 for size in shape) or math.prod(shape) != inputs[0].size:
            raise ValueError(f"{inputs[0].size} elements of shape {inputs[0].shape} do not fit shape {shape}")
        return shape, inputs[0].dtype

    def grid(self, node: Operation) -> Grid:
        """Keep the chunks of axes that stay; follow the first axis of those that are joined or split."""
        sizes = grid_of(node.inputs[0])
        axes: list[tuple[int, ...]] = [(size,) for size in node.shape]
        if not node.size:
            return tuple(axes)
        for befores, afters in factors(node.inputs[0].shape, node.shape):
            if len(befores) == len(afters) == 1:
                axes[afters[0]] = sizes[befores[0]]
            elif befores and afters:
                rows = math.prod(node.inputs[0].shape[axis] for axis in befores[1:])
                axes[afters[0]] = _rows(
                    [size * rows for size in sizes[befores[0]]],
                    math.prod(node.shape[axis] for axis in afters[1:]),
                )
        return bounded(tuple(axes), node.dtype.itemsize)

    def pull(self, node: Operation, region: Region) -> Sequence[Region | None]:
        """Ask for the boxes of the input that hold the region."""
        if not math.prod(lengths(region)):
            return [None]
        needed: list[Picks] = []
        for befores, afters in factors(node.inputs[0].shape, node.shape):
            needed += _box(
                [node.inputs[0].shape[axis] for axis in befores],
                [node.shape[axis] for axis in afters],
                [region[axis] for axis in afters],
            )
        return [tuple(needed)]

    def block(self, node: Operation, region: Region, context: Context) -> NDArray[Any]:
        """Read the boxes, then regroup the axes, last first."""
        cut = _row_edge(node, region)
        if cut is not None:
            axis, at = cut
            parts = [
                (*region[:axis], part, *region[axis + 1 :]) for part in (region[axis][:at], region[axis][at:])
            ]
            return np.concatenate([self.block(node, part, context) for part in parts], axis)
        (needed,) = self.pull(node, region)
        assert needed is not None
        block = context.read(node.inputs[0], needed)
        for befores, afters in reversed(factors(node.inputs[0].shape, node.shape)):
            first = befores[0] if befores else _position(befores, afters, node)
            block = _regroup(block, first, befores, afters, needed, region, node)
        return block


def factors(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return runs of axes of two shapes that hold the same number of elements, in order.

    Every axis is in one run; single axes stand in runs of their own. The shapes hold the same
    number of elements, and not 0.
    """
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = ([i], [j]) if i < len(before) and j < len(after) else ([], [])
        if not left or before[i] != after[j]:
            if i < len(before) and before[i] == 1:
                runs.append(([i], []))
                i += 1
                continue
            if j < len(after) and after[j] == 1:
                runs.append(([], [j]))
                j += 1
                continue
        a, b = before[i], after[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                left.append(i)
                a, i = a * before[i], i + 1
            else:
                right.append(j)
                b, j = b * after[j], j + 1
        runs.append((left, right))
    return runs


def _box(before: list[int], after: list[int], region: list[Picks]) -> list[Picks]:
    """Return the smallest box of axes `before` that holds `region` of axes `after`."""
    if not after:
        return [range(1) for _ in before]
    if len(before) == len(after) == 1:
        return [region[0]]
    if not before:
        return []
    low, high = _ends(after, region)
    first = [int(item) for item in np.unravel_index(low, before)]
    last = [int(item) for item in np.unravel_index(high, before)]
    box: list[Picks] = []
    is_split = False
    for size, start, stop in zip(before, first, last, strict=True):
        box.append(range(size) if is_split else range(start, stop + 1))
        is_split = is_split or start != stop
    return box


def _row_edge(node: Operation, region: Region) -> tuple[int, int] | None:
    """Return an axis, and where along it a region is better read in two parts.

    The box that holds the end of one row and the begin of the next holds both rows, however few
    elements are wanted.
    """
    shape = node.inputs[0].shape
    for befores, afters in factors(shape, node.shape):
        sizes, picks = [node.shape[axis] for axis in afters], [region[axis] for axis in afters]
        before = [shape[axis] for axis in befores]
        wanted = count(tuple(picks))
        if len(before) < 2 or count(tuple(_box(before, sizes, picks))) <= 2 * wanted:
            continue
        low, high = _ends(sizes, picks)
        if high - low + 1 != wanted:
            continue  # spread over many rows
        rows = next(rows for rows in _row_lengths(before) if low // rows != high // rows)
        number = next(number for number, item in enumerate(picks) if len(item) > 1)
        beneath = math.prod(sizes[number + 1 :])
        at = -(-(high // rows * rows - low) // beneath)
        if 0 < at < len(picks[number]):
            return afters[number], at
    return None


def _row_lengths(shape: Sequence[int]) -> Iterator[int]:
    """Yield the elements of a row of each axis but the last, and 1."""
    for axis in range(1, len(shape) + 1):
        yield math.prod(shape[axis:])


def _ends(sizes: Sequence[int], region: Sequence[Picks]) -> tuple[int, int]:
    """Return the first and the last position of a region in C order."""
    first, last = ([int(picks[end]) for picks in region] for end in (0, -1))
    return int(np.ravel_multi_index(first, sizes)), int(np.ravel_multi_index(last, sizes))


def _regroup(
    block: NDArray[Any],
    first: int,
    befores: list[int],
    afters: list[int],
    needed: Region,
    region: Region,
    node: Operation,
) -> NDArray[Any]:
    """Turn the axes of one run, which begin at axis `first` of `block`, into those after."""
    ahead, behind = block.shape[:first], block.shape[first + len(befores) :]
    wanted = [region[axis] for axis in afters]
    if len(befores) == len(afters) == 1:
        return block
    if not befores or not afters:
        return block.reshape(*ahead, *(1 for _ in afters), *behind)
    flat = block.reshape(*ahead, -1, *behind)
    sizes = [node.shape[axis] for axis in afters]
    corner = [int(needed[axis][0]) for axis in befores]
    offset = int(np.ravel_multi_index(corner, [node.inputs[0].shape[axis] for axis in befores]))
    low, high = _ends(sizes, wanted)
    if high - low + 1 == math.prod(lengths(tuple(wanted))):
        flat = flat[(slice(None),) * first + (slice(low - offset, high + 1 - offset),)]
    else:
        keys = np.ix_(*(np.asarray(picks, dtype=np.int64) for picks in wanted))
        positions = np.ravel_multi_index(np.broadcast_arrays(*keys), sizes).ravel() - offset
        flat = np.take(flat, positions, axis=first)
    return flat.reshape(*ahead, *lengths(tuple(wanted)), *behind)


def _position(befores: list[int], afters: list[int], node: Operation) -> int:
    """Return the axis of the input before which a run without input axes stands."""
    at = 0
    for left, right in factors(node.inputs[0].shape, node.shape):
        if right == afters and not left:
            return at
        at += len(left)
    return at


def _rows(flat: Sequence[int], beneath: int) -> tuple[int, ...]:
    """Return the lengths of rows of `beneath` elements that chunks of a flat run come to."""
    edges = sorted({int(edge) // beneath for edge in starts(flat)})
    return tuple(int(size) for size in np.diff(edges)) or (0,)


OPERATORS: list[Operator] = [
    Transpose("transpose"),
    BroadcastTo("broadcast_to"),
    Concatenate("concatenate", 1, 10_000),
    Reshape("reshape"),
]
