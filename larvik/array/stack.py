"""Many arrays as one: the stack of a query along a new dim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from larvik.array.spec import ArraySpec
from larvik.errors import InvalidArgumentError
from larvik.query.paths import UNORDERED
from larvik.schema import FieldType

if TYPE_CHECKING:
    import xarray as xr

#: Ways to align arrays whose coordinates differ, as xarray names them.
JOINS = ("inner", "outer", "left", "right", "override")


#: Labels of rows without a value; of other types the empty text.
_MISSING: dict[FieldType, Any] = {
    FieldType.INT64: np.nan,
    FieldType.FLOAT64: np.nan,
    FieldType.TIMESTAMP: np.datetime64("NaT", "us"),
}


def stack(rows: Sequence[Any], dim: str, join: Any) -> xr.DataArray:
    """Return the arrays of `rows` as one lazy DataArray along the new first dim `dim`.

    See `larvik.query.special.ArrayQuerySet.stack`.
    """
    import xarray as xr

    if not rows:
        raise InvalidArgumentError("The query has no rows to stack.", reason="QUERY_EMPTY")
    if join is not None and join not in JOINS:
        raise _refused(f"join is {join!r}; it can be {', '.join(JOINS)}", "join")
    specs = [ArraySpec.from_dict(row.spec) for row in rows]
    if dim in specs[0].dims:
        raise _refused(f"the arrays have a dim {dim!r} already; a stack needs a new one", "dim")
    _refuse_differences(rows, specs, join)
    labels, extra = _labels(rows, dim)
    stacked: xr.DataArray = xr.concat(
        [row.array for row in rows],
        dim=xr.Variable(dim, labels),
        coords="different",
        compat="equals",
        join=join or "override",
        combine_attrs="drop_conflicts",
    )
    ids = np.array([row.id for row in rows], dtype=str)
    extra = extra if dim == "array_id" else {**extra, "array_id": (dim, ids)}
    return stacked.assign_coords(extra).rename(None)


def _refuse_differences(rows: Sequence[Any], specs: Sequence[ArraySpec], join: str | None) -> None:
    for row, spec in zip(rows[1:], specs[1:], strict=True):
        for what, first, other, is_alignable in _facts(specs[0], spec):
            if first == other or (
                is_alignable and join is not None and (join != "override" or what != "shape")
            ):
                continue
            cure = "; select or coarsen the arrays first"
            if is_alignable:
                cure = "; align them by coordinates with join='inner' or 'outer'"
                cure += "" if what == "shape" else ", or take those of the first with join='override'"
            raise InvalidArgumentError(
                f"Arrays of unequal {what} cannot be stacked:"
                f" {rows[0]!r} has {first}, {row!r} has {other}{cure}.",
                reason="AXES_MISMATCH",
                field=what,
                array_id=row.id,
            )


def _facts(one: ArraySpec, other: ArraySpec) -> Iterator[tuple[str, Any, Any, bool]]:
    """Yield what must be equal: its name, both values, and whether coordinates can align it."""
    yield "dims", one.dims, other.dims, False
    yield "dtype", one.dtype, other.dtype, False
    yield "units", [axis.unit for axis in one.axes], [axis.unit for axis in other.axes], False
    yield "shape", one.shape, other.shape, True
    yield "spacing", one.levels[0].spacing, other.levels[0].spacing, True
    yield "origin", one.levels[0].origin, other.levels[0].origin, True
    yield "channel names", one.channel_names, other.channel_names, True
    yield "coordinates", dict(one.coordinates), dict(other.coordinates), True


def _labels(rows: Sequence[Any], dim: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the labels along `dim`, and coordinates that say more."""
    spec = rows[0]._spec
    if spec.relation(dim) is not None:
        return _labels_of_related([getattr(row, dim) for row in rows], dim)
    column = spec.field(dim)
    if column is None:
        return np.array([row.id for row in rows], dtype=str), {}
    if column.type in UNORDERED:
        raise _refused(f"{spec.name}.{dim} is a {column.type.value} field, which cannot label a dim", "dim")
    missing = _MISSING.get(column.type, "")
    values = [getattr(row, dim) for row in rows]
    return np.array([missing if value is None else _label(value) for value in values]), {}


def _labels_of_related(related: Sequence[Any], dim: str) -> tuple[np.ndarray, dict[str, Any]]:
    ids = ["" if other is None else other.id for other in related]
    names = ["" if other is None else getattr(other, "name", other.id) for other in related]
    is_unique = len(set(names)) == len(set(ids))
    labels = np.array(names if is_unique else ids, dtype=str)
    return labels, {f"{dim}_id": (dim, np.array(ids, dtype=str))}


def _label(value: Any) -> Any:
    if isinstance(value, datetime):
        return np.datetime64(value.replace(tzinfo=None), "us")  # xarray knows no zones; times are UTC
    return value


def _refused(problem: str, field: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Cannot stack: {problem}.", reason="ARGUMENT_INVALID", field=field)
