"""Reductions: extremes, sums, moments, truth, positions; streamed over the reduced axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Expression, Operation
from larvik.array.grids import bounded, grid_of
from larvik.array.operators.accumulators import Accumulator, Folding, Layout, Locating, Spreading, Summing
from larvik.array.operators.base import Context, Costs, Operator
from larvik.array.operators.exact import ExactLocating, ExactMean, ExactSpread
from larvik.array.regions import Grid, Picks, Region, lengths, nbytes, whole

#: Makes the accumulator of one evaluation.
Factory = Callable[[Layout], Accumulator]

#: Elements that are summed at once; a longer chunk is summed in pieces, the same whatever is read at a time.
PIECE_ELEMENTS = 2**17

#: Chunks and pieces of reductions along their axes; asked for by every estimate.
_CUTS: WeakKeyDictionary[Operation, tuple[Grid, Grid]] = WeakKeyDictionary()

_COMMON: dict[str, type] = {"axes": tuple, "keepdims": bool}


class Reduction(Operator):
    """A NumPy reduction over any axes."""

    def __init__(
        self,
        name: str,
        factory: Factory,
        *,
        has_dtype: bool = False,
        has_ddof: bool = False,
        has_identity: bool = True,
    ) -> None:
        super().__init__(name)
        self._function = getattr(np, name)
        self._factory = factory
        self._has_identity = has_identity
        self._locates = "arg" in name
        self.has_dtype = has_dtype
        self.has_ddof = has_ddof
        self.takes = {
            **_COMMON,
            **({"dtype": str} if has_dtype else {}),
            **({"ddof": float} if has_ddof else {}),
        }
        self.optional = frozenset({"dtype"}) if has_dtype else frozenset()

    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Drop the axes; run the function on single elements for the dtype."""
        source, axes = inputs[0], parameters["axes"]
        if list(axes) != sorted({*axes}) or not all(0 <= axis < source.ndim for axis in axes):
            raise ValueError(f"axes {axes} are not distinct increasing axes of {source.ndim} dims")
        if self._locates and len(axes) not in (1, source.ndim):
            raise ValueError(f"{self.name} takes one axis or all, not {axes}")
        shape: tuple[int, ...] = tuple(
            1 if axis in axes else size
            for axis, size in enumerate(source.shape)
            if parameters["keepdims"] or axis not in axes
        )
        is_empty = any(source.shape[axis] == 0 for axis in axes)
        if is_empty and not self._has_identity and 0 not in shape:
            raise ValueError(f"{self.name} of no elements has no value")
        is_moment = self.has_ddof or self.name in ("mean", "nanmean")
        if is_moment and np.dtype(parameters.get("dtype", "float64")).kind != "f":
            raise ValueError(f"{self.name} gives floating point numbers, not {parameters['dtype']}")
        options = {key: parameters[key] for key in ("dtype", "ddof") if key in parameters}
        return shape, np.asarray(self._function(np.ones(2, source.dtype), **options)).dtype

    def grid(self, node: Operation) -> Grid:
        """Drop the reduced axes."""
        axes, keeps = _axes(node), node.parameters["keepdims"]
        sizes = grid_of(node.inputs[0])
        return tuple(
            (1,) if axis in axes else size for axis, size in enumerate(sizes) if keeps or axis not in axes
        )

    def pull(self, node: Operation, region: Region) -> Sequence[Region | None]:
        """Ask for all of the reduced axes."""
        return [self._needed(node, region, [range(node.inputs[0].shape[axis]) for axis in _axes(node)])]

    def _needed(self, node: Operation, region: Region, bounds: Sequence[range]) -> Region:
        axes = _axes(node)
        reduced = dict(zip(axes, bounds, strict=True))
        kept = [
            picks for axis, picks in enumerate(region) if axis not in axes or not node.parameters["keepdims"]
        ]
        rest = iter(kept)
        needed: list[Picks] = []
        for axis in range(node.inputs[0].ndim):
            needed.append(reduced[axis] if axis in reduced else next(rest))
        return tuple(needed)

    def block(self, node: Operation, region: Region, context: Context) -> NDArray[Any]:
        """Stream the input over the reduced axes."""
        source, axes = node.inputs[0], _axes(node)
        kept = lengths(self._needed(node, region, [range(1) for _ in axes]))
        if any(source.shape[axis] == 0 for axis in axes):
            empty = np.empty([0 if axis in axes else size for axis, size in enumerate(kept)], source.dtype)
            result = np.asarray(self._function(empty, axis=axes, keepdims=True))
        else:
            accumulator = self._factory(self._layout(node, kept))

            def parts(reading: Context, bounds: tuple[range, ...]) -> Iterator[Any]:
                block = reading.read(source, self._needed(node, region, bounds))
                return accumulator.parts(block, bounds)

            steps = context.steps(node, kept)
            for part in context.each(parts, steps, self._part_bytes(node, accumulator, steps.longest)):
                accumulator.join(part)
            result = accumulator.result()
        return result.reshape(lengths(region)).astype(node.dtype, copy=False)

    def _layout(self, node: Operation, kept: tuple[int, ...]) -> Layout:
        source = node.inputs[0]
        pieces = tuple(max(sizes, default=1) for sizes in self.pieces(node))
        return Layout(
            source.shape, _axes(node), self.reduced_grid(node), pieces, source.dtype, node.dtype, kept,
            float(_number(node, "ddof")),
        )  # fmt: skip

    def _part_bytes(self, node: Operation, accumulator: Accumulator, step: Sequence[int]) -> int:
        """Return the bytes of the parts of one step."""
        count = 1
        if not accumulator.is_whole:
            for length, sizes in zip(step, self.pieces(node), strict=True):
                count *= -(-length // max(1, *sizes))
        return count * accumulator.part_bytes * math.prod(accumulator.layout.kept)

    def reduced_grid(self, node: Operation) -> Grid:
        """Return the chunks of the input along the reduced axes."""
        return self._cuts(node)[0]

    def pieces(self, node: Operation) -> Grid:
        """Return the pieces that the chunks are summed in."""
        return self._cuts(node)[1]

    def _cuts(self, node: Operation) -> tuple[Grid, Grid]:
        found = _CUTS.get(node)
        if found is None:
            sizes = grid_of(node.inputs[0])
            grid = tuple(sizes[axis] for axis in _axes(node))
            found = _CUTS[node] = grid, bounded(grid, 1, PIECE_ELEMENTS)
        return found

    def peak(self, node: Operation, shape: tuple[int, ...], costs: Costs) -> int:
        """Hold one step of the input, the chunk that is worked on, and the accumulators."""
        kept = lengths(self._needed(node, whole(shape), [range(1) for _ in _axes(node)]))
        return self.step_peak(node, kept, costs.steps(node, kept).longest, costs)

    def step_peak(self, node: Operation, kept: tuple[int, ...], step: Sequence[int], costs: Costs) -> int:
        """Return the bytes held while a step is taken, `step` long along the reduced axes."""
        taken, chunk = list(kept), list(kept)
        for axis, length, sizes in zip(_axes(node), step, self.reduced_grid(node), strict=True):
            taken[axis] = length
            chunk[axis] = max(sizes, default=0)
        worked = min(math.prod(taken), math.prod(chunk))
        accumulator = self._factory(self._layout(node, tuple(1 for _ in kept)))
        working = accumulator.worked_bytes * worked + self.gathered_bytes(node, kept)
        return costs.peak(node.inputs[0], tuple(taken)) + working

    def gathered_bytes(self, node: Operation, kept: tuple[int, ...]) -> int:
        """Return the bytes held for what is gathered, whatever a step takes."""
        return 6 * nbytes(kept, 8)


def _axes(node: Operation) -> tuple[int, ...]:
    axes: Any = node.parameters["axes"]
    return tuple(axes)


def _number(node: Operation, name: str) -> float:
    value: Any = node.parameters.get(name, 0.0)
    return float(value)


def _fold(reduce: Callable[..., Any], join: Callable[..., Any]) -> Factory:
    return lambda layout: Folding(layout, reduce, join, None)


def _sum(*, skips: bool, multiplies: bool = False) -> Factory:
    ufunc = np.multiply if multiplies else np.add

    def make(layout: Layout) -> Accumulator:
        if layout.dtype.kind == "f":
            return Summing(layout, skips=skips, multiplies=multiplies)
        return Folding(layout, _without_nan(ufunc) if skips else ufunc.reduce, ufunc, layout.dtype)

    return make


def _mean(*, skips: bool = False) -> Factory:
    def make(layout: Layout) -> Accumulator:
        return ExactMean(layout) if ExactMean.takes(layout) else Summing(layout, divides=True, skips=skips)

    return make


def _spread(*, skips: bool = False, roots: bool = False) -> Factory:
    def make(layout: Layout) -> Accumulator:
        if ExactSpread.takes(layout):
            return ExactSpread(layout, roots=roots, skips=skips)
        return Spreading(layout, skips=skips, roots=roots)

    return make


def _locate(*, largest: bool, skips: bool = False) -> Factory:
    def make(layout: Layout) -> Accumulator:
        if ExactLocating.takes(layout):
            return ExactLocating(layout, largest=largest)
        return Locating(layout, largest=largest, skips=skips)

    return make


def _without_nan(ufunc: np.ufunc) -> Callable[..., Any]:
    def reduce(block: NDArray[Any], **options: Any) -> Any:
        if block.dtype.kind == "f":
            block = np.where(np.isnan(block), block.dtype.type(ufunc.identity), block)
        return ufunc.reduce(block, **options)

    return reduce


OPERATORS: list[Operator] = [
    Reduction("max", _fold(np.max, np.maximum), has_identity=False),
    Reduction("min", _fold(np.min, np.minimum), has_identity=False),
    Reduction("nanmax", _fold(np.fmax.reduce, np.fmax), has_identity=False),
    Reduction("nanmin", _fold(np.fmin.reduce, np.fmin), has_identity=False),
    Reduction("any", _fold(np.any, np.logical_or)),
    Reduction("all", _fold(np.all, np.logical_and)),
    Reduction("count_nonzero", _fold(np.count_nonzero, np.add)),
    Reduction("sum", _sum(skips=False), has_dtype=True),
    Reduction("nansum", _sum(skips=True), has_dtype=True),
    Reduction("prod", _sum(skips=False, multiplies=True), has_dtype=True),
    Reduction("nanprod", _sum(skips=True, multiplies=True), has_dtype=True),
    Reduction("mean", _mean(), has_dtype=True),
    Reduction("nanmean", _mean(skips=True), has_dtype=True),
    Reduction("var", _spread(), has_dtype=True, has_ddof=True),
    Reduction("std", _spread(roots=True), has_dtype=True, has_ddof=True),
    Reduction("nanvar", _spread(skips=True), has_dtype=True, has_ddof=True),
    Reduction("nanstd", _spread(skips=True, roots=True), has_dtype=True, has_ddof=True),
    Reduction("argmax", _locate(largest=True), has_identity=False),
    Reduction("argmin", _locate(largest=False), has_identity=False),
    Reduction("nanargmax", _locate(largest=True, skips=True), has_identity=False),
    Reduction("nanargmin", _locate(largest=False, skips=True), has_identity=False),
]
