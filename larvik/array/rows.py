"""The arrays of catalog rows: what ``row.array``, ``row.levels`` and ``row.tree`` give."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from larvik.array.open import levels, to_dataarray, tree
from larvik.array.spec import ArraySpec
from larvik.errors import PreconditionError
from larvik.query.fetch import records
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Order, Query

if TYPE_CHECKING:
    import xarray as xr

    from larvik.models.array import LarvikArray

#: Where the ids and names of a row's channels are kept, beside its fetched relations.
_CHANNELS = "biometa.channels"


def open_array(row: LarvikArray, level: int = 0) -> xr.DataArray:
    """Return a level of a row's array, lazy; without `level` the finest.

    Raises
    ------
    PreconditionError
        ``PRECONDITION_FAILED``, for a row that was not stored yet.
    SelectionError
        ``SELECTION_OUT_OF_BOUNDS``, for a level that is not there.
    """
    return to_dataarray(**_arguments(row), level=level)


def open_levels(row: LarvikArray) -> list[xr.DataArray]:
    """Return every level of a row's array, finest first, lazy."""
    return levels(**_arguments(row))


def open_tree(row: LarvikArray) -> xr.DataTree:
    """Return the levels of a row's array as a DataTree."""
    return tree(open_levels(row), name=row.name)


def _arguments(row: LarvikArray) -> dict[str, Any]:
    if not row.spec:
        raise PreconditionError(
            f"{type(row).__name__} {row.name!r} has no pixels yet: from_xarray() and imports make arrays.",
            field="spec",
        )
    connection = row._bound()
    origin = {"model": row._spec.name, "url": connection.url, "kind": getattr(row, "kind", None)}
    spec = ArraySpec.from_dict(row.spec)
    channels = _channels(row) if "c" in spec.dims else ()
    if channels and len(channels) == len(spec.channel_names):
        # The database is the truth of names: a channel may have been renamed since it was stored.
        names = [name or stored for (_, name), stored in zip(channels, spec.channel_names, strict=True)]
        spec = replace(spec, channel_names=tuple(names))
    return {
        "spec": spec,
        "array_id": row.id,
        "version": row.version,
        "evaluator": connection.arrays.evaluator,
        "name": row.name,
        "attrs": {"larvik": {key: value for key, value in origin.items() if value is not None}},
        "channel_ids": tuple(id for id, _ in channels),
    }


def _channels(row: LarvikArray) -> tuple[tuple[str, str | None], ...]:
    """Return id and name of the row's channels; one statement fetches those of the row's whole page."""
    if _CHANNELS not in row._related:
        rows = {item.id: item for item in row._page or [row] if getattr(item, "dims", None)}
        rows.setdefault(row.id, row)
        query = Query(
            "Channel",
            (Compare(("object_id",), Lookup.IN, tuple(rows)),),
            (Order(("object_id",)), Order(("index",))),
            columns=("id", "object_id", "name"),
        )
        found: dict[str, list[tuple[Any, Any]]] = {key: [] for key in rows}
        for page in records(row._bound(), query):
            for record in page:
                pair = (record.values["id"], record.values["name"])
                found[str(record.values["object_id"])].append(pair)
        for key, item in rows.items():
            item._related[_CHANNELS] = tuple(found[key])
    channels: tuple[tuple[str, str | None], ...] = row._related[_CHANNELS]
    return channels
