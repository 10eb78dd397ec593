"""The ``biometa`` accessor of DataArrays: metadata that follows the pixels.

A DataArray of ours says where it comes from in ``attrs["larvik"]`` (id of the array) and in the
coordinate ``channel_id`` along ``c``; where it was taken along ``t`` and ``z`` in their coordinates.
These survive selection, computing and pickling, and so lead back to the rows. A dim that was reduced
away keeps all the rows that may have contributed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from larvik.array.expression import Expression
from larvik.array.origins import origin_of, sources_of
from larvik.array.spec import ArraySpec
from larvik.biometa.frame import BiometaFrame
from larvik.biometa.rows import IDS, Tables, fetch
from larvik.errors import MetadataError
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Query, Trash

if TYPE_CHECKING:
    import xarray as xr

    from larvik.connection import Connection

#: Coordinate along ``c``: the ids of the channel rows.
CHANNEL_ID = "channel_id"
#: Coordinate of stacked arrays: the ids of the arrays.
ARRAY_ID = "array_id"


class BiometaAccessor(Tables):
    """biometa of one DataArray, lazy or computed.

    Parameters
    ----------
    image : DataArray
        Opened by Larvik, or computed from such.

    Notes
    -----
    Selecting keeps the matching rows; reducing a dim keeps its contributors; combining gives the union,
    with a column ``array_id``. Every table costs one to three statements.
    """

    def __init__(self, image: xr.DataArray) -> None:
        self._image = image
        self._specs: dict[str, ArraySpec] = {}

    def _table(self, name: str) -> BiometaFrame:
        if name == "channels":
            frame = self._channels
        elif name == "planes":
            frame = self._planes()
        else:
            frame = self._fetch(name, "object_id", self._array_ids)
        several = frame["array_id"].nunique() > 1 or ARRAY_ID in self._image.coords
        return frame.drop(columns=["id"] if several else [*IDS]).reset_index(drop=True)

    @cached_property
    def _channels(self) -> BiometaFrame:
        """Rows of the channels of these pixels, in the order of ``c``."""
        if CHANNEL_ID in self._image.coords:
            found = self._named_channels()
            if set(self._demanded) <= set(found["array_id"]):
                return found
        elif "c" in self._image.dims:
            raise self._lost(f"the coordinate {CHANNEL_ID!r} along c")
        ids = list(self._demanded) or self._origins
        frame = self._fetch("channels", "object_id", ids)
        kept: BiometaFrame = frame[self._inside(frame, {"c": "Index"})]
        return kept

    def _named_channels(self) -> BiometaFrame:
        """Rows of the channels that the coordinate names, in its order."""
        ids = _unique(self._image.coords[CHANNEL_ID].to_numpy())
        found = self._fetch("channels", "id", ids)
        missing = set(ids) - set(found["id"])
        if missing:
            raise MetadataError(
                f"{len(missing)} of the {len(ids)} channels of this array are no longer in the database, "
                "or you may not see them. Read the array again.",
                reason="METADATA_UNALIGNED",
                field=CHANNEL_ID,
            )
        order = {key: place for place, key in enumerate(ids)}
        ranked: BiometaFrame = found.sort_values("id", key=lambda column: column.map(order))
        return ranked

    @property
    def _origins(self) -> list[str]:
        """Ids of the arrays that the DataArray names itself."""
        if ARRAY_ID in self._image.coords:
            return _unique(self._image.coords[ARRAY_ID].to_numpy())
        origin = self._image.attrs.get("larvik")
        if not isinstance(origin, Mapping) or not origin.get("id"):
            raise self._lost("the id of the array in attrs['larvik']")
        return [str(origin["id"])]

    @cached_property
    def _array_ids(self) -> list[str]:
        """Ids of all arrays that these pixels come from."""
        if CHANNEL_ID in self._image.coords:
            return list(dict.fromkeys([*_unique(self._channels["array_id"]), *self._demanded]))
        return list(self._demanded) or self._origins

    def _planes(self) -> BiometaFrame:
        frame = self._fetch("planes", "object_id", self._array_ids)
        if frame.empty:
            return frame
        channels = pd.MultiIndex.from_frame(pd.DataFrame(self._channels[["array_id", "Index"]]))
        frame = frame[pd.MultiIndex.from_frame(pd.DataFrame(frame[["array_id", "TheC"]])).isin(channels)]
        kept: BiometaFrame = frame[self._inside(frame, {"t": "TheT", "z": "TheZ"})]
        return kept

    def _inside(self, frame: BiometaFrame, dims: Mapping[str, str]) -> np.ndarray:
        """Tell which rows lie at positions of `dims` (dim to column) that went into these pixels."""
        kept = np.ones(len(frame), bool)
        for dim, column in dims.items():
            for places in (self._computed_from(dim), self._selected(dim)):
                if places:
                    pairs = zip(frame["array_id"], frame[column], strict=True)
                    kept &= np.array([number in places.get(array, ()) for array, number in pairs], bool)
        return kept

    def _computed_from(self, dim: str) -> dict[str, set[int]]:
        """Return the positions along `dim` that were read, by array id; nothing where that is not known."""
        return {array: found[dim] for array, found in self._demanded.items() if dim in found}

    def _selected(self, dim: str) -> dict[str, set[int]]:
        """Return the positions along `dim` that its coordinate tells; nothing where the dim was reduced."""
        if dim == "c" or not (dim in self._image.dims or dim in self._image.coords):
            return {}
        if self._computed_from(dim) and dim not in self._image.coords:
            return {}
        places = self._places(dim)
        if any(places.values()) or self._image.sizes.get(dim, 1) == 0:
            return places
        if self._computed_from(dim):
            return {}  # means over times, say: what was read is known all the same
        raise self._lost(f"the values of the coordinate {dim!r}")

    @cached_property
    def _demanded(self) -> dict[str, dict[str, set[int]]]:
        """Return the positions of each stored array that were read, by its id and dim; nothing if not known.

        Known of lazy arrays, and of computed ones in the process that computed them.
        """
        expression = self._expression
        data = self._image.variable._data
        regions = origin_of(data) if expression is None else sources_of(expression)
        found: dict[str, dict[str, set[int]]] = {}
        for array_id, parts in regions.items():
            spec = self._spec(array_id)
            for dim, picks in (pair for region in parts for pair in zip(spec.dims, region, strict=True)):
                if dim in ("t", "c", "z"):
                    places = found.setdefault(array_id, {}).setdefault(dim, set())
                    places.update(int(place) for place in picks)
        return found

    def _places(self, dim: str) -> dict[str, set[int]]:
        """Return the positions along `dim` of the original arrays that these pixels lie at."""
        if dim not in self._image.coords:
            raise self._lost(f"the coordinate {dim!r}")
        values = np.atleast_1d(self._image.coords[dim].to_numpy())
        return {array: _positions(self._spec(array), dim, values) for array in self._array_ids}

    def _spec(self, array_id: str) -> ArraySpec:
        """Return the description of an array; one statement, once."""
        if array_id not in self._specs:
            origin = self._image.attrs.get("larvik") or {}
            models = dict.fromkeys([origin.get("model", "Representation"), *_array_models(self._connection)])
            where = (Compare(("id",), Lookup.EXACT, array_id),)
            for model in models:
                query = Query(model, where, columns=("id", "spec"), trash=Trash.INCLUDE)
                for record in self._connection.catalog.page(query, size=1).records:
                    self._specs[array_id] = ArraySpec.from_dict(_mapping(record.values["spec"]))
                    return self._specs[array_id]
            raise MetadataError(
                f"The array {array_id} is gone or not visible to you.",
                reason="METADATA_UNALIGNED",
                field=ARRAY_ID,
            )
        return self._specs[array_id]

    def _fetch(self, name: str, column: str, ids: Sequence[str]) -> BiometaFrame:
        return fetch(self._connection, name, (Compare((column,), Lookup.IN, tuple(ids)),), by_array=True)

    @property
    def _connection(self) -> Connection:
        from larvik.connection import connection_for, current

        url = (self._image.attrs.get("larvik") or {}).get("url")
        return connection_for(url) if url else current()

    @property
    def _expression(self) -> Expression | None:
        """What was recorded, while the array is lazy and evaluated by Larvik alone."""
        found = getattr(self._image.variable._data, "expression", None)
        return found if isinstance(found, Expression) else None

    def _lost(self, what: str) -> MetadataError:
        operation = getattr(self._expression, "op", None)
        by = f"the operation {operation!r}" if operation else (
            "an operation (arithmetic between different arrays, a new DataArray from plain"
            " values, drop_vars, "
            "a file that dropped them, ...)"
        )  # fmt: skip
        return MetadataError(
            f"The metadata can no longer be matched with the pixels: {by} lost {what}. "
            "Read biometa from the arrays that went into it.",
            reason="METADATA_UNALIGNED",
            operation=operation or "unknown",
        )


def _unique(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in np.asarray(values).ravel()))


def _array_models(connection: Connection) -> list[str]:
    return [spec.name for spec in connection.registry if spec.is_array]


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise MetadataError("The array has no description of its dims.", field="spec")
    return value


def _positions(spec: ArraySpec, dim: str, values: np.ndarray) -> set[int]:
    """Return where `values` lie along `dim` of the array that `spec` describes."""
    if dim not in spec.dims:
        return {0}
    number = spec.dims.index(dim)
    level = spec.levels[0]
    known = np.asarray(
        spec.coordinates.get(
            dim, level.origin[number] + level.spacing[number] * np.arange(level.shape[number])
        )
    )
    order = np.argsort(known, kind="stable")
    ranked = known[order]
    step = float(np.min(np.diff(ranked))) if len(ranked) > 1 else 1.0
    right = (
        np.searchsorted(ranked, values).clip(1, max(1, len(ranked) - 1))
        if len(ranked) > 1
        else np.zeros(len(values), int)
    )
    left = np.maximum(right - 1, 0)
    place = np.where(np.abs(ranked[left] - values) <= np.abs(ranked[right] - values), left, right)
    close = np.abs(ranked[place] - values) <= step / 4
    return {int(number) for number in order[place[close]]}
