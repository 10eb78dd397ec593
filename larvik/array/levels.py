"""Coarser levels in place of finer ones: the same selection and projection, of fewer pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from larvik.array.expression import Expression, Operation, Selector, Source, sources, walk
from larvik.array.lazy import LazyArray
from larvik.array.operators import OPERATORS
from larvik.array.operators.elementwise import Elementwise
from larvik.array.operators.reduction import Reduction
from larvik.array.record import record

if TYPE_CHECKING:
    import xarray as xr

#: Elements of the finest level per element of the coarser one, along each axis.
Factors = tuple[float, ...]


class NoCoarserError(Exception):
    """An operation that has no counterpart on a coarser level."""


def coarsest_for(image: xr.DataArray, pixels: int) -> xr.DataArray:
    """Return `image` computed from the coarsest level that still has `pixels` along its longest shown dim.

    Parameters
    ----------
    image : DataArray
        Any; only lazy selections and projections of one stored array have coarser forms.
    pixels : int
        Elements along ``y`` or ``x``, whichever is longer (the last two dims where there is no y and x).

    Returns
    -------
    DataArray
        Lazy, dims of `image`; coordinates at the centres of the coarser pixels. `image` itself where
        no coarser level is large enough, or none can stand in.
    """
    data = image.variable._data
    if not isinstance(data, LazyArray) or data.expression is None or image.ndim < 2:
        return image
    found = sources([data.expression])
    if len(found) != 1 or not found[0].siblings:
        return image
    for source in reversed(found[0].siblings[found[0].level + 1 :]):
        try:
            expression, factors = at_level(data.expression, source)
        except NoCoarserError:
            continue
        shown = [image.get_axis_num(dim) for dim in ("y", "x")] if {"y", "x"} <= set(image.dims) else [-2, -1]
        if max(expression.shape[axis] for axis in shown) >= min(
            pixels, max(image.shape[axis] for axis in shown)
        ):
            return _with_data(image, LazyArray(expression, data._evaluator), factors)
    return image


def at_level(expression: Expression, source: Source) -> tuple[Expression, Factors]:
    """Return `expression` over the level `source`, and by how much each of its axes is coarser.

    Raises
    ------
    NoCoarserError
        When some operation depends on the axes that are coarser.
    """
    found: dict[Expression, tuple[Expression, Factors]] = {}
    for node in walk([expression]):
        if isinstance(node, Source):
            sizes = zip(node.shape, source.shape, strict=True)
            found[node] = source, tuple(fine / coarse if coarse else 1.0 for fine, coarse in sizes)
        elif isinstance(node, Operation):
            found[node] = _coarser(node, [found[item] for item in node.inputs])
        else:
            found[node] = node, (1.0,) * node.ndim
    return found[expression]


def _coarser(node: Operation, inputs: Sequence[tuple[Expression, Factors]]) -> tuple[Expression, Factors]:
    kind = OPERATORS[node.op]
    if node.op == "select":
        return _select(node, *inputs[0])
    if node.op == "transpose":
        ((coarse, factors),) = inputs
        axes: Any = node.parameters["axes"]
        return record("transpose", [coarse], node.parameters), tuple(factors[axis] for axis in axes)
    if isinstance(kind, Reduction):
        return _reduce(node, *inputs[0])
    if isinstance(kind, Elementwise):
        return _elementwise(node, inputs)
    raise NoCoarserError


def _select(node: Operation, coarse: Expression, factors: Factors) -> tuple[Expression, Factors]:
    given: Any = node.parameters["selection"]
    selection: list[Selector] = []
    for item, factor, size in zip(given, factors, coarse.shape, strict=True):
        if factor == 1:
            selection.append(item)
        elif isinstance(item, int):
            selection.append(min(int(item / factor), size - 1))
        elif isinstance(item, range) and item.step == 1 and len(item):
            start = min(int(item.start / factor), size - 1)
            selection.append(range(start, max(start + 1, min(size, math.ceil(item.stop / factor)))))
        else:
            raise NoCoarserError
    kept = tuple(factor for item, factor in zip(given, factors, strict=True) if not isinstance(item, int))
    return record("select", [coarse], {"selection": tuple(selection)}), kept


def _reduce(node: Operation, coarse: Expression, factors: Factors) -> tuple[Expression, Factors]:
    axes: Any = node.parameters["axes"]
    if any(factors[axis] != 1 for axis in axes):
        raise NoCoarserError
    keeps = node.parameters["keepdims"]
    kept = tuple(factor for axis, factor in enumerate(factors) if keeps or axis not in axes)
    return record(node.op, [coarse], node.parameters), kept


def _elementwise(node: Operation, inputs: Sequence[tuple[Expression, Factors]]) -> tuple[Expression, Factors]:
    if sum(any(factor != 1 for factor in own) for _, own in inputs) > 1:
        # Two selections that are a pixel apart would fall on the same coarser pixels.
        raise NoCoarserError
    factors = [1.0] * node.ndim
    for item, own in inputs:
        for axis, factor in enumerate(own, start=node.ndim - item.ndim):
            factors[axis] = factor if item.shape[axis - node.ndim + item.ndim] != 1 else factors[axis]
    for original, (item, own) in zip(node.inputs, inputs, strict=True):
        extra = node.ndim - item.ndim
        if any(size != 1 and own[axis] != factors[extra + axis] for axis, size in enumerate(original.shape)):
            raise NoCoarserError
    return record(node.op, [item for item, _ in inputs], node.parameters), tuple(factors)


def _with_data(image: xr.DataArray, data: LazyArray, factors: Factors) -> xr.DataArray:
    """Return `image` with coarser data: coordinates along coarser dims at the centres of the new pixels."""
    import xarray as xr

    coarser = {str(dim): factor for dim, factor in zip(image.dims, factors, strict=True) if factor != 1}
    sizes = dict(zip(map(str, image.dims), data.shape, strict=True))
    coords: dict[Any, Any] = {}
    for name, coord in image.coords.items():
        along = [dim for dim in coord.dims if dim in coarser]
        if not along:
            coords[name] = coord
        elif coord.dims == (name,) and coord.dtype.kind in "iuf":
            centres = (np.arange(sizes[str(name)]) + 0.5) * coarser[str(name)] - 0.5
            positions = np.arange(coord.size)
            values = np.interp(np.minimum(centres, coord.size - 1), positions, coord.to_numpy())
            coords[name] = xr.Variable(coord.dims, values, coord.attrs)
    plain = xr.DataArray(data, dims=image.dims, name=image.name, attrs=image.attrs)
    return plain.assign_coords(
        xr.Coordinates(
            coords, indexes={k: v for k, v in image.xindexes.items() if k in coords and k not in coarser}
        )
    )
