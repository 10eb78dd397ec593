"""Stored arrays as xarray objects: lazy pixels, coordinates in physical units, levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

import larvik.accessors  # noqa: F401  # what a DataArray of ours answers to is registered before the first is made
from larvik.array.channel_index import labels, make_index
from larvik.array.channel_names import unique_names
from larvik.array.expression import Source
from larvik.array.lazy import LazyArray
from larvik.array.spec import ArraySpec, Axis, Level

if TYPE_CHECKING:
    from larvik.array.evaluator import Evaluator


def to_dataarray(
    spec: ArraySpec,
    array_id: str,
    version: int,
    evaluator: Evaluator | str,
    *,
    level: int = 0,
    name: str | None = None,
    attrs: Mapping[str, Any] | None = None,
    channel_ids: Sequence[str] = (),
) -> xr.DataArray:
    """Return a level of a stored array, lazy: nothing is read.

    Parameters
    ----------
    spec : ArraySpec
        Axes, dtype and levels.
    array_id : str
        Id of the array.
    version : int
        Version of its pixels.
    evaluator : Evaluator or str
        What computes from it, or the URL of the connection that does.
    level : int
        Index of the level, 0 for the finest.
    name : str, optional
        Name of the DataArray.
    attrs : mapping, optional
        Attributes beside ``larvik``, and entries that join ``larvik`` when given under that name.
    channel_ids : sequence of str
        Ids of the rows of biometa's channels, in the order of ``c``.

    Returns
    -------
    xarray.DataArray
        Dims of the spec, native dtype. ``t`` in seconds since the first frame, ``z y x`` in
        micrometers at pixel centres (integers with the unit ``pixel`` where nothing is calibrated);
        ``c`` takes names and positions. biometa follows the pixels by the coordinate ``channel_id``
        along ``c``, where ids were given, and by ``attrs["larvik"]``, which holds ``id`` and ``version``.

    Raises
    ------
    SelectionError
        ``SELECTION_OUT_OF_BOUNDS``, for a level that is not there.
    """
    sources = level_sources(spec, array_id, version)
    if not 0 <= level < len(sources):
        from larvik.errors import SelectionError

        raise SelectionError(f"There is no level {level}: levels are 0 to {len(sources) - 1}.", field="level")
    given = dict(attrs or {})
    given["larvik"] = {"id": array_id, "version": version, **given.get("larvik", {})}
    data = xr.DataArray(
        LazyArray(sources[level], evaluator),
        dims=spec.dims,
        coords=coordinates(spec, level),
        name=name,
        attrs=given,
    )
    return with_channels(data, spec.channel_names, channel_ids) if "c" in spec.dims else data


def with_channels(array: xr.DataArray, names: Sequence[str], ids: Sequence[str] = ()) -> xr.DataArray:
    """Return `array` with channel names along ``c`` under the index that takes names and positions."""
    index = make_index(unique_names(names, array.sizes["c"]))
    variable = xr.Variable(("c",), labels(index.index))
    array = array.assign_coords(xr.Coordinates({"c": variable}, indexes={"c": index}))
    if len(ids) == array.sizes["c"]:
        array = array.assign_coords(channel_id=("c", labels(ids)))
    return array


def level_sources(spec: ArraySpec, array_id: str, version: int) -> list[Source]:
    """Return the sources of every level; each knows the others."""
    plain = [_source(spec, array_id, version, number) for number in range(len(spec.levels))]
    return [
        Source(array_id, version, number, item.shape, item.dtype, item.chunks, siblings=tuple(plain))
        for number, item in enumerate(plain)
    ]


def _source(spec: ArraySpec, array_id: str, version: int, level: int) -> Source:
    stored = spec.levels[level]
    return Source(array_id, version, level, stored.shape, spec.dtype, stored.chunks)


def levels(
    spec: ArraySpec,
    array_id: str,
    version: int,
    evaluator: Evaluator | str,
    *,
    name: str | None = None,
    attrs: Mapping[str, Any] | None = None,
    channel_ids: Sequence[str] = (),
) -> list[xr.DataArray]:
    """Return every level, finest first, each with coordinates at its own pixel centres."""
    return [
        to_dataarray(
            spec, array_id, version, evaluator, level=number, name=name, attrs=attrs, channel_ids=channel_ids
        )
        for number in range(len(spec.levels))
    ]


def tree(arrays: Sequence[xr.DataArray], *, name: str | None = None) -> xr.DataTree:
    """Return the levels as a DataTree: nodes ``"0"``, ``"1"``, ... with a variable ``image``."""
    nodes = {str(number): array.to_dataset(name="image") for number, array in enumerate(arrays)}
    return xr.DataTree.from_dict(nodes, name=name)


def coordinates(spec: ArraySpec, level: int = 0) -> dict[str, xr.Variable]:
    """Return the coordinate of each dim that has one, the channels apart."""
    found = {}
    for number, axis in enumerate(spec.axes):
        values = None if axis.name == "c" else _values(spec, axis, number, spec.levels[level])
        if values is not None:
            found[axis.name] = xr.Variable((axis.name,), values, {"units": axis.unit} if axis.unit else {})
    return found


def _values(spec: ArraySpec, axis: Axis, number: int, level: Level) -> np.ndarray[Any, Any] | None:
    size, spacing, origin = level.shape[number], level.spacing[number], level.origin[number]
    stored = spec.coordinates.get(axis.name)
    if stored is not None and len(stored) == size:
        return np.asarray(stored)
    steps = np.arange(size)
    is_counted = axis.unit in (None, "pixel")
    if axis.type == "other" and axis.unit is None and spacing == 1 and origin == 0:
        return None
    if is_counted and float(spacing).is_integer() and float(origin).is_integer():
        return int(origin) + steps * int(spacing)
    return origin + steps * spacing
