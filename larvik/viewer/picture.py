"""What to show of an array of any dims: which planes, in which colours, with what words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larvik.errors import InvalidArgumentError, MetadataError, PreconditionError, suggestion
from larvik.viewer import render

if TYPE_CHECKING:
    import xarray as xr

#: Up to this many channels are added into one picture; more are shown side by side.
MAX_COMPOSITE = 4
MAX_PANELS = 16
RGB_NAMES = ({"r", "g", "b"}, {"red", "green", "blue"})


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: ``rgb`` of shape (y, x, 3), uint8; ``legend`` pairs words with colours."""

    rgb: NDArray[np.uint8]
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """Panels that share one scale.

    Attributes
    ----------
    panels : tuple of Panel
    title : str
        Name, time and projection.
    spacing : float or None
        Width of one shown pixel in `unit`.
    aspect : float
        Height of a pixel over its width.
    """

    panels: tuple[Panel, ...]
    title: str = ""
    spacing: float | None = None
    unit: str | None = None
    aspect: float = 1.0
    notes: tuple[str, ...] = field(default=())


def make_picture(
    image: xr.DataArray,
    *,
    t: int | None = None,
    z: int | None = None,
    channels: Sequence[int | str] | None = None,
    contrast: Mapping[int | str, tuple[float, float]] | None = None,
) -> Picture:
    """Return the picture of `image`: one time point, z projected by maximum, channels in colour.

    Parameters
    ----------
    image : DataArray
        Any dims that include two to show: ``y`` and ``x``, else the last two.
    t, z : int, optional
        Positions; by default the first time point, and the maximum over z.
    channels : sequence of int or str, optional
        Positions or names along ``c``.
    contrast : mapping, optional
        (black, brightest) by channel position or name; by default from metadata or percentiles.

    Raises
    ------
    InvalidArgumentError
        ``PICTURE_IMPOSSIBLE`` for fewer than two dims, or dims without elements.
    SelectionError
        For a position or a name that is not there.
    """
    image, notes = _to_planes(image, t, z)
    axes = _display_dims(image)
    names, rows = _channel_rows(image, axes)
    positions = _positions(channels, names)
    stack = image.transpose(*(dim for dim in image.dims if dim not in axes), *axes).to_numpy()
    planes = [stack[position] if stack.ndim == 3 else stack for position in positions]
    chosen = [names[position] for position in positions]
    panels = _panels(
        image, planes, chosen, [rows.get(position, {}) for position in positions], contrast or {}
    )
    spacing, unit, aspect = _scale(image, axes)
    words = [str(image.name)] if image.name not in (None, "image") else []
    title = " · ".join([*words, *notes])
    return Picture(tuple(panels), title, spacing, unit, aspect)


def _display_dims(image: xr.DataArray) -> tuple[str, str]:
    if image.ndim < 2:
        raise InvalidArgumentError(
            f"A picture needs two dims, and this array has {list(image.dims)}.", reason="PICTURE_IMPOSSIBLE"
        )
    if 0 in image.shape:
        raise InvalidArgumentError(
            f"The array has no elements: its shape is {image.shape}.", reason="PICTURE_IMPOSSIBLE"
        )
    if {"y", "x"} <= set(image.dims):
        return "y", "x"
    rest = [str(dim) for dim in image.dims if dim != "c"]
    return (rest[-2], rest[-1]) if len(rest) >= 2 else (str(image.dims[-2]), str(image.dims[-1]))


def _to_planes(image: xr.DataArray, t: int | None, z: int | None) -> tuple[xr.DataArray, list[str]]:
    """Reduce everything but channels and the two shown dims; say how in words."""
    notes = []
    shown = _display_dims(image)
    for dim in [str(dim) for dim in image.dims]:
        if dim in shown or (dim == "c" and "c" not in shown):
            continue
        size = image.sizes[dim]
        if dim == "z" and z is None:
            if size > 1:
                notes.append(f"max over {size} z")
            image = image.max(dim="z", keep_attrs=True)
            continue
        position = {"t": t, "z": z}.get(dim) or 0
        _check_position(dim, position, size)
        if size > 1:
            notes.append(f"{dim} {position + 1} of {size}")
        image = image.isel({dim: position})
    return image, notes


def _check_position(dim: str, position: int, size: int) -> None:
    if not -size <= position < size:
        from larvik.errors import SelectionError

        raise SelectionError(f"{dim}={position} lies outside the {size} positions of {dim}.", field=dim)


def _channel_rows(
    image: xr.DataArray, axes: tuple[str, str]
) -> tuple[list[str], dict[int, Mapping[str, Any]]]:
    """Return the channel names along c, and the rows of biometa by position."""
    count = image.sizes["c"] if "c" in image.dims and "c" not in axes else 1
    names = [str(index) for index in range(count)]
    if "c" in image.coords:
        names = [str(value) for value in np.atleast_1d(image.coords["c"].to_numpy())]
    elif count == 1:
        names = [""]
    rows: dict[int, Mapping[str, Any]] = {}
    try:
        table = image.biometa.channels
    except (AttributeError, MetadataError, LookupError, PreconditionError):
        return names, rows
    if len(table) == count:
        rows = dict(enumerate(table.to_dict("records")))
    return names, rows


def _positions(channels: Sequence[int | str] | None, names: list[str]) -> list[int]:
    if channels is None:
        return list(range(len(names)))
    found = []
    for channel in channels:
        if isinstance(channel, str):
            if channel not in names:
                from larvik.errors import SelectionError

                raise SelectionError(
                    f"There is no channel {channel!r}. {suggestion(channel, names)}", field="channels"
                )
            found.append(names.index(channel))
        else:
            _check_position("c", channel, len(names))
            found.append(channel % len(names))
    return found


def _panels(
    image: xr.DataArray,
    planes: list[NDArray[np.generic]],
    names: list[str],
    rows: list[Mapping[str, Any]],
    contrast: Mapping[int | str, tuple[float, float]],
) -> list[Panel]:
    kind = (image.attrs.get("larvik") or {}).get("kind", "intensity")
    if kind in ("label", "mask"):
        return [Panel(render.label_picture(plane)) for plane in planes[:MAX_PANELS]]
    if len(planes) == 3 and planes[0].dtype == np.uint8 and {name.casefold() for name in names} in RGB_NAMES:
        return [Panel(render.true_color(planes))]
    windows = [_window(plane, row, contrast.get(name, contrast.get(index)))
               for index, (plane, row, name) in enumerate(zip(planes, rows, names, strict=True))]  # fmt: skip
    wanted = [row.get("Color") if isinstance(row.get("Color"), str) else None for row in rows]
    if len(planes) <= MAX_COMPOSITE:
        colors = render.channel_colors(wanted)
        legend = tuple((name, color) for name, color in zip(names, colors, strict=True) if name)
        return [Panel(render.composite(planes, colors, windows), legend)]
    return [
        Panel(render.composite([plane], [color or render.GRAY], [window]), ((name, color or render.GRAY),))
        for plane, color, window, name in list(zip(planes, wanted, windows, names, strict=True))[:MAX_PANELS]
    ]


def _window(
    plane: NDArray[np.generic], row: Mapping[str, Any], wanted: tuple[float, float] | None
) -> tuple[float, float]:
    if wanted is not None:
        return float(wanted[0]), float(wanted[1])
    start, end = row.get("WindowStart"), row.get("WindowEnd")
    if start is not None and end is not None and np.isfinite([start, end]).all() and end > start:
        return float(start), float(end)
    return render.window_of(plane)


def _scale(image: xr.DataArray, axes: tuple[str, str]) -> tuple[float | None, str | None, float]:
    """Return the width of a pixel, its unit, and the ratio of height to width."""
    steps = []
    for dim in axes:
        values = image.coords[dim].to_numpy() if dim in image.coords else np.arange(2)
        numeric = values.size > 1 and np.issubdtype(values.dtype, np.number)
        steps.append(float(abs(values[1] - values[0])) if numeric else 1.0)
    unit = image.coords[axes[1]].attrs.get("units") if axes[1] in image.coords else None
    aspect = steps[0] / steps[1] if steps[1] > 0 and steps[0] > 0 else 1.0
    return (steps[1], unit, aspect) if unit not in (None, "pixel") and steps[1] > 0 else (None, None, aspect)
