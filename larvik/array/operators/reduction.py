"""Reductions: extremes, sums, moments, truth, positions; streamed over the reduced axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Expression, Operation
from larvik.array.grids import grid_of
from larvik.array.operators.accumulators import Accumulator, Folding, Layout, Locating, Spreading, Summing
from larvik.array.operators.base import Context, Costs, Operator
from larvik.array.regions import Grid, Picks, Region, boxes, lengths, nbytes, whole

#: Makes the accumulator of one evaluation.
Factory = Callable[[Layout], Accumulator]

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
            sizes = tuple(grid_of(source)[axis] for axis in axes)
            layout = Layout(source.shape, axes, sizes, node.dtype, kept, float(_number(node, "ddof")))
            accumulator = self._factory(layout)
            for bounds in boxes(context.steps(node, kept)):
                accumulator.add(context.read(source, self._needed(node, region, bounds)), bounds)
            result = accumulator.result()
        return result.reshape(lengths(region)).astype(node.dtype, copy=False)

    def peak(self, node: Operation, shape: tuple[int, ...], costs: Costs) -> int:
        """Hold one step of the input, the chunk that is worked on, and the accumulators."""
        kept = lengths(self._needed(node, whole(shape), [range(1) for _ in _axes(node)]))
        longest = [
            max((stop - start for start, stop in bounds), default=0) for bounds in costs.steps(node, kept)
        ]
        return self.step_peak(node, kept, longest, costs)

    def step_peak(self, node: Operation, kept: tuple[int, ...], step: Sequence[int], costs: Costs) -> int:
        """Return the bytes held while a step is taken, `step` long along the reduced axes."""
        taken, chunk = list(kept), list(kept)
        for axis, length in zip(_axes(node), step, strict=True):
            taken[axis] = length
            chunk[axis] = max(grid_of(node.inputs[0])[axis], default=0)
        worked = min(math.prod(taken), math.prod(chunk))
        factor = {Folding: 0, Locating: 1, Summing: 2, Spreading: 4}[self._kind(node)]
        return costs.peak(node.inputs[0], tuple(taken)) + 8 * factor * worked + 6 * nbytes(kept, 8)

    def _kind(self, node: Operation) -> type[Accumulator]:
        layout = Layout((1,), (), (), node.dtype, (1,))
        return type(self._factory(layout))


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


def _spread(*, skips: bool = False, roots: bool = False) -> Factory:
    return lambda layout: Spreading(layout, skips=skips, roots=roots)


def _locate(*, largest: bool, skips: bool = False) -> Factory:
    return lambda layout: Locating(layout, largest=largest, skips=skips)


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
    Reduction("mean", lambda layout: Summing(layout, divides=True), has_dtype=True),
    Reduction("nanmean", lambda layout: Summing(layout, divides=True, skips=True), has_dtype=True),
    Reduction("var", _spread(), has_dtype=True, has_ddof=True),
    Reduction("std", _spread(roots=True), has_dtype=True, has_ddof=True),
    Reduction("nanvar", _spread(skips=True), has_dtype=True, has_ddof=True),
    Reduction("nanstd", _spread(skips=True, roots=True), has_dtype=True, has_ddof=True),
    Reduction("argmax", _locate(largest=True), has_identity=False),
    Reduction("argmin", _locate(largest=False), has_identity=False),
    Reduction("nanargmax", _locate(largest=True, skips=True), has_identity=False),
    Reduction("nanargmin", _locate(largest=False, skips=True), has_identity=False),
]
