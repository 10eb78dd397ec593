"""biometa of derived arrays: the rows of the pixels that went in, renumbered for those that came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from larvik.biometa.tables import Biometa, Row, columns, make_row
from larvik.errors import MetadataError

if TYPE_CHECKING:
    import xarray as xr

    from larvik.array.spec import Axis
    from larvik.biometa.frame import BiometaFrame
    from larvik.formats.base import SeriesInfo

#: Rows of planes that one array may pass on.
MAX_PLANES = 100_000


def carried(array: Any, info: SeriesInfo, otherwise: Biometa) -> Biometa:
    """Return the biometa that a new array inherits from the arrays it was computed from.

    Parameters
    ----------
    array : DataArray or array-like
        The pixels; plain arrays inherit nothing.
    info : SeriesInfo
        What is known of them: dims, shape, spacing, channel names.
    otherwise : Biometa
        What to return when there is nothing to inherit.

    Returns
    -------
    Biometa
        Channels and planes numbered as in the new array, those of reduced dims as contributors;
        sizes of the new array; objective and detectors where all comes from one array.
    """
    if not _is_linked(array):
        return otherwise
    try:
        return _carried(array, info, otherwise)
    except MetadataError:  # ids were lost on the way: the channel names are what is left
        return otherwise


def _is_linked(array: Any) -> bool:
    attrs, coords = getattr(array, "attrs", {}), getattr(array, "coords", {})
    return "channel_id" in coords or "array_id" in coords or bool(attrs.get("larvik"))


def _carried(array: xr.DataArray, info: SeriesInfo, otherwise: Biometa) -> Biometa:
    from larvik.biometa.accessor import BiometaAccessor

    source = BiometaAccessor(array)
    found = source.channels
    is_single = "array_id" not in found.columns
    channels = _channels(_rows("channels", found), info, is_single)
    if channels is None:
        return otherwise
    if not is_single:
        return Biometa(scan=(_scan({}, info),), channels=channels)
    scans = _rows("scan", source.scan)
    return Biometa(
        scan=(_scan(scans[0] if scans else {}, info),),
        channels=channels,
        planes=_planes(array, source, info, [row["Index"] for row in found.to_dict("records")]),
        objective=tuple(_rows("objective", source.objective)),
        detector=tuple(_rows("detector", source.detector)),
    )


def _rows(table: str, frame: BiometaFrame) -> list[Row]:
    """Return the rows of a frame by field name, with None where nothing is known."""
    names = {spec.label: name for name, spec in columns(table).items()}
    records: Iterable[Mapping[Any, Any]] = frame.to_dict("records")
    return [make_row(table, **{names[k]: _plain(v) for k, v in row.items() if k in names}) for row in records]


def _plain(value: Any) -> Any:
    is_missing = (
        value is None or (not isinstance(value, str | dict) and value != value) or str(value) == "<NA>"
    )
    return None if is_missing else value


def _channels(rows: list[Row], info: SeriesInfo, is_single: bool) -> tuple[Row, ...] | None:
    """Return the channels in their new order; None when they do not fit the new ``c``."""
    if "c" in info.dims:
        if len(rows) != info.shape[info.dims.index("c")]:
            return None
        rows = [
            {**row, "name": name or row["name"]} for row, name in zip(rows, info.channel_names, strict=True)
        ]
    detector = {} if is_single else {"detector_index": None}
    return tuple({**row, "index": index, **detector} for index, row in enumerate(rows))


def _scan(row: Mapping[str, Any], info: SeriesInfo) -> Row:
    """Return the scan with the sizes and the spacing of the new array."""
    sizes = dict(zip(info.dims, info.shape, strict=True))
    changed: dict[str, Any] = {f"size_{dim}": sizes.get(dim, 1) for dim in "xyzct"}
    for dim in "xyz":
        changed[f"physical_size_{dim}"] = _step(info, dim, "micrometer")
    changed["time_increment"] = _step(info, "t", "second") if "t" not in info.coordinates else None
    changed["pixel_type"] = {"float32": "float", "float64": "double", "bool": "bit"}.get(
        info.dtype, info.dtype
    )
    changed["significant_bits"] = (
        row.get("significant_bits") if row.get("pixel_type") == changed["pixel_type"] else None
    )
    return make_row("scan", **{**row, **changed, "name": info.name})


def _step(info: SeriesInfo, dim: str, unit: str) -> float | None:
    axes: dict[str, tuple[Axis, float]] = {
        axis.name: (axis, step) for axis, step in zip(info.axes, info.spacing, strict=True)
    }
    axis, step = axes.get(dim, (None, 0.0))
    return step if axis is not None and axis.unit == unit and step > 0 else None


def _planes(array: xr.DataArray, source: Any, info: SeriesInfo, indices: list[int]) -> tuple[Row, ...]:
    """Return the planes numbered as in the new array; none when they cannot be told apart there."""
    rows = _rows("planes", source.planes)
    if not rows or len(rows) > MAX_PLANES:
        return ()
    moved = {
        "the_c": {int(index): place for place, index in enumerate(indices)} if "c" in info.dims else None
    }
    for dim, column in (("t", "the_t"), ("z", "the_z")):
        moved[column] = None
        if dim not in info.dims:
            continue
        places: set[int] = next(iter(source._places(dim).values()), set())
        values = np.atleast_1d(array.coords[dim].to_numpy())
        if len(places) != len(values):
            return ()
        by_rank = np.argsort(values).tolist()  # the new position of the smallest value, of the next, ...
        moved[column] = dict(zip(sorted(places), by_rank, strict=True))
    try:
        return tuple(
            {
                **row,
                **{column: numbers[row[column]] for column, numbers in moved.items() if numbers is not None},
            }
            for row in rows
        )
    except KeyError:
        return ()
