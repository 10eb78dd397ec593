"""Arrays in memory as series: NumPy, Dask and xarray, lazy ones included."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from larvik.array.spec import DTYPES, Axis, default_axis
from larvik.biometa.tables import Biometa, make_row
from larvik.errors import InvalidArgumentError
from larvik.formats.base import SeriesInfo, SeriesSource

if TYPE_CHECKING:
    import xarray as xr

FORMAT = "memory"
#: Dims of arrays without names, from the right.
DEFAULT_DIMS = "tczyx"
#: Part of a step by which coordinates may deviate and still be regular.
TOLERANCE = 1e-3
#: Units that mean micrometer or second, and the factor to them.
UNITS = {
    "micrometer": ("micrometer", 1.0), "micron": ("micrometer", 1.0), "µm": ("micrometer", 1.0),
    "um": ("micrometer", 1.0), "nanometer": ("micrometer", 1e-3), "nm": ("micrometer", 1e-3),
    "millimeter": ("micrometer", 1e3), "mm": ("micrometer", 1e3), "meter": ("micrometer", 1e6),
    "second": ("second", 1.0), "s": ("second", 1.0), "millisecond": ("second", 1e-3), "ms": ("second", 1e-3),
    "minute": ("second", 60.0), "min": ("second", 60.0), "hour": ("second", 3600.0), "h": ("second", 3600.0),
}  # fmt: skip
#: Most characters of one label.
MAX_LABEL = 1000


def from_memory(
    array: Any,
    *,
    name: str | None = None,
    kind: str | None = None,
    dims: Sequence[str] | None = None,
    biometa: Biometa | None = None,
) -> SeriesSource:
    """Return an array in memory as a series.

    Parameters
    ----------
    array : DataArray or array-like
        A DataArray keeps its dims, its coordinates and its unit (attribute ``units`` of a coordinate).
        Other arrays, Dask included, have `dims`, by default the last of ``t c z y x``. Native dtype.
    name : str, optional
        By default the name of a DataArray.
    kind : str, optional
        ``intensity``, ``label`` or ``mask``; by default mask for bool, what a DataArray of ours says, else
        intensity.
    dims : sequence of str, optional
        Names of the dims of an array that has none.
    biometa : Biometa, optional
        By default the channel names.

    Returns
    -------
    SeriesSource
        Reads region by region, so that a lazy array is never whole in memory. Coordinates of ``z y x`` must
        be evenly spaced; those of other dims become coordinates of the array.

    Raises
    ------
    InvalidArgumentError
        ``DTYPE_UNSUPPORTED``, ``AXES_MISMATCH`` or ``COORDINATES_INVALID``; names the field.
    """
    import xarray as xr

    image = array if isinstance(array, xr.DataArray) else None
    data = array if image is not None or _is_array(array) else np.asarray(array)
    names = _dims(image, data, dims)
    dtype = np.dtype(data.dtype).name
    if dtype not in DTYPES:
        raise _invalid(
            f"the array has dtype {dtype}; Larvik stores {', '.join(DTYPES)}", "dtype", "DTYPE_UNSUPPORTED"
        )
    if not data.shape or 0 in data.shape:
        raise _invalid(
            f"the array has shape {tuple(data.shape)}; it needs dims and elements", "shape", "SHAPE_INVALID"
        )
    coordinates: dict[str, tuple[Any, ...]] = {}
    axes, spacing, origin = [], [], []
    for dim, size in zip(names, data.shape, strict=True):
        axis, step, start, values = _axis(image, dim, int(size))
        axes.append(axis)
        spacing.append(step)
        origin.append(start)
        if values is not None:
            coordinates[dim] = values
    channels = _channels(image, names, data.shape)
    ours = (image.attrs.get("larvik") if image is not None else None) or {}
    info = SeriesInfo(
        index=0,
        name=name or (str(image.name) if image is not None and image.name is not None else "array"),
        format=FORMAT,
        axes=tuple(axes),
        shape=tuple(int(size) for size in data.shape),
        dtype=dtype,
        spacing=tuple(spacing),
        origin=tuple(origin),
        coordinates=coordinates,
        channel_names=channels,
        kind=kind
        or (
            "mask"
            if dtype == "bool"
            else ours.get("kind", "intensity")
            if isinstance(ours, Mapping)
            else "intensity"
        ),
    )
    rows = tuple(
        make_row("channels", index=index, name=label or None) for index, label in enumerate(channels or [""])
    )
    return SeriesSource(
        info, biometa or Biometa(channels=rows), _chunks(data), lambda region: _region(data, region, dtype)
    )


def _region(data: Any, selection: tuple[slice, ...], dtype: str) -> np.ndarray:
    part = (
        data.isel(dict(zip(data.dims, selection, strict=True))) if hasattr(data, "isel") else data[selection]
    )
    if hasattr(part, "to_numpy"):
        part = part.to_numpy()
    elif hasattr(part, "compute"):
        part = part.compute()
    return np.ascontiguousarray(part, dtype=dtype)


def _is_array(array: Any) -> bool:
    return all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")) and isinstance(
        array.shape, tuple
    )


def _dims(image: xr.DataArray | None, data: Any, dims: Sequence[str] | None) -> tuple[str, ...]:
    if image is not None and dims is None:
        names = tuple(str(dim) for dim in image.dims)
    elif dims is not None:
        names = tuple(dims)
    elif len(data.shape) <= len(DEFAULT_DIMS):
        names = tuple(DEFAULT_DIMS[len(DEFAULT_DIMS) - len(data.shape) :])
    else:
        raise _invalid(
            f"an array of {len(data.shape)} dims needs names for them: pass dims=", "dims", "AXES_MISMATCH"
        )
    if len(names) != len(data.shape) or len(set(names)) != len(names):
        raise _invalid(f"{names} does not name {len(data.shape)} different dims", "dims", "AXES_MISMATCH")
    return names


def _axis(
    image: xr.DataArray | None, dim: str, size: int
) -> tuple[Axis, float, float, tuple[Any, ...] | None]:
    """Return axis, spacing and origin of a dim, and its values when they are not evenly spaced."""
    plain = Axis("t", "time") if dim == "t" else default_axis(dim, calibrated=False)
    if image is None or dim not in image.coords or dim == "c":
        return plain, 1.0, 0.0, None
    coordinate = image.coords[dim]
    values = np.asarray(coordinate.to_numpy())
    if values.ndim != 1:
        return plain, 1.0, 0.0, None
    if values.dtype.kind in "mM":
        values, units = _seconds(values), "second"
    else:
        units = str(coordinate.attrs.get("units", "")).strip()
    if values.dtype.kind not in "biuf":
        return plain, 1.0, 0.0, _labels(dim, values)
    unit, factor = UNITS.get(units, UNITS.get(units.removesuffix("s"), (None, 1.0)))
    numbers = values.astype("f8") * factor
    if not np.isfinite(numbers).all():
        raise _invalid(f"the coordinate {dim!r} has values that are not finite", dim, "COORDINATES_INVALID")
    is_known = {"space": "micrometer", "time": "second"}.get(plain.type) == unit and unit is not None
    axis = default_axis(dim) if is_known else plain
    step, start = _regular(numbers)
    if step is not None:
        return axis, step, start, None
    if dim in ("z", "y", "x"):
        raise _invalid(
            f"the coordinate {dim!r} is not evenly spaced, or does not rise; interpolate the"
            " array, or drop the "
            "coordinate",
            dim,
            "COORDINATES_INVALID",
        )
    return axis, 1.0, 0.0, tuple(values.tolist() if factor == 1.0 else numbers.tolist())


def _seconds(values: np.ndarray) -> np.ndarray:
    """Return times or durations in seconds from the first."""
    if values.dtype.kind == "M":
        values = values - values[0]
    found: np.ndarray = values / np.timedelta64(1, "s")
    return found


def _regular(numbers: np.ndarray) -> tuple[float | None, float]:
    """Return the spacing of evenly rising numbers, None for others, and the first of them."""
    start = float(numbers[0])
    if len(numbers) == 1:
        return 1.0, start
    step = float(numbers[-1] - start) / (len(numbers) - 1)
    even = step > 0 and math.isfinite(step) and np.allclose(
        numbers, start + step * np.arange(len(numbers)), rtol=0, atol=step * TOLERANCE
    )  # fmt: skip
    return (step if even else None), start


def _labels(dim: str, values: np.ndarray) -> tuple[Any, ...]:
    if dim in ("z", "y", "x"):
        raise _invalid(
            f"the coordinate {dim!r} is made of {values.dtype}, not of numbers", dim, "COORDINATES_INVALID"
        )
    labels = [str(value) for value in values.tolist()]
    if any(len(label) > MAX_LABEL for label in labels):
        raise _invalid(
            f"the coordinate {dim!r} has labels of more than {MAX_LABEL} characters",
            dim,
            "COORDINATES_INVALID",
        )
    return tuple(label.replace("\0", "") for label in labels)


def _channels(image: xr.DataArray | None, names: Sequence[str], shape: Sequence[int]) -> tuple[str, ...]:
    if "c" not in names:
        return ()
    size = int(shape[names.index("c")])
    if image is None or "c" not in image.coords or image.coords["c"].ndim != 1:
        return ("",) * size
    values = image.coords["c"].to_numpy()
    is_counted = values.dtype.kind in "iu" and list(values) == list(range(size))
    return (
        ("",) * size
        if is_counted
        else tuple(str(value)[:MAX_LABEL].replace("\0", "") for value in values.tolist())
    )


def _chunks(data: Any) -> tuple[int, ...]:
    """Return the chunks of a chunked array, else its shape."""
    chunks = getattr(data, "chunks", None)
    if not chunks or not all(isinstance(part, tuple) and part for part in chunks):
        return tuple(int(size) for size in data.shape)
    return tuple(max(1, int(part[0])) for part in chunks)


def _invalid(problem: str, field: str, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"This array cannot be stored: {problem}.", reason=reason, field=field)
