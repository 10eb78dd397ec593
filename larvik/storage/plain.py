"""Plain Zarr groups that xarray opens: arrays that NGFF has no place for, with their coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from larvik.array.channel_names import clean_name, unique_names
from larvik.array.spec import ArraySpec, Axis, Level, default_axis
from larvik.errors import InvalidArgumentError, NotFoundError
from larvik.storage.base import Store, join
from larvik.storage.documents import invalid, write_json
from larvik.storage.engine import RegionReader
from larvik.storage.layout import PLAIN_PATH
from larvik.storage.units import to_canonical
from larvik.storage.zarr_metadata import ArrayMetadata, bytes_codec, read_array_metadata, v3_document

#: Most members of a group that are looked at.
MAX_MEMBERS = 4096
#: Most elements of a coordinate that is read.
MAX_COORDINATE = 1 << 24


def write_coordinates(store: Store, location: str, spec: ArraySpec) -> dict[str, dict[str, Any]]:
    """Write one array per dim that has coordinates, and return their documents by name.

    Dims without calibration (unit ``pixel`` or none, from 0 in steps of 1) have none, as in xarray.
    """
    documents = {}
    level = spec.levels[0]
    for axis, size, spacing, origin in zip(spec.axes, level.shape, level.spacing, level.origin, strict=True):
        values = spec.coordinates.get(axis.name)
        if axis.name == "c" and spec.channel_names:
            values = spec.channel_names
        if values is None:
            if axis.unit in (None, "pixel") and (spacing, origin) == (1.0, 0.0):
                continue
            values = tuple(origin + number * spacing for number in range(size))
        documents[axis.name] = _write_coordinate(store, join(location, axis.name), axis, values)
    return documents


def axes_document(spec: ArraySpec) -> list[dict[str, Any]]:
    """Return type, unit, spacing and origin of each dim, as kept in the group's ``larvik`` attribute."""
    level = spec.levels[0]
    return [
        {"name": axis.name, "type": axis.type, "unit": axis.unit, "spacing": spacing, "origin": origin}
        for axis, spacing, origin in zip(spec.axes, level.spacing, level.origin, strict=True)
    ]


def read_plain(
    store: Store, location: str, attributes: Mapping[str, Any], variable: str | None = None
) -> ArraySpec:
    """Return the spec of a group that xarray can read: one array with named dims, and coordinates.

    Raises
    ------
    NotFoundError
        ``ARRAY_NOT_FOUND``, when the group has no such array.
    InvalidArgumentError
        ``VARIABLE_AMBIGUOUS``, when it has several and none is named; ``METADATA_INVALID``.
    """
    members = _members(store, location)
    name = _variable(members, attributes, variable, location)
    metadata = members[name]
    if not metadata.shape or metadata.dtype == "string":
        raise invalid("not a numeric array with dims", f"{location}/{name}")
    dims = metadata.dimension_names or tuple(f"dim_{number}" for number in range(len(metadata.shape)))
    if len(set(dims)) < len(dims):
        raise invalid("naming a dim twice", f"{location}/{name}: dimension_names")
    known = _known_axes(attributes, dims)
    axes, spacing, origin = [], [], []
    coordinates: dict[str, tuple[Any, ...]] = {}
    labels: Sequence[Any] = ()
    for number, dim in enumerate(dims):
        found = members.get(dim)
        values, unit = _read_coordinate(store, join(location, dim), found, metadata.shape[number], dim)
        axis, step, start, irregular = _axis(dim, values, unit, known.get(dim))
        axes.append(axis)
        spacing.append(step)
        origin.append(start)
        if dim == "c":
            labels = values.tolist() if values is not None else ()
        elif irregular is not None:
            coordinates[dim] = irregular
    size = metadata.shape[dims.index("c")] if "c" in dims else 0
    level = Level(name, metadata.shape, metadata.chunks, metadata.shards, tuple(spacing), tuple(origin))
    return ArraySpec(
        axes=tuple(axes),
        dtype=metadata.dtype,
        levels=(level,),
        coordinates=coordinates,
        channel_names=unique_names([clean_name(str(label)) for label in labels], size),
        format="zarr",
    )


def _write_coordinate(store: Store, location: str, axis: Axis, values: Sequence[Any]) -> dict[str, Any]:
    if all(isinstance(value, str) for value in values):
        dtype, codec, data = "string", {"name": "vlen-utf8"}, vlen_utf8(values)
    else:
        numbers = np.asarray(values)
        dtype = numbers.dtype.name if numbers.dtype.kind in "biuf" else "float64"
        codec, data = bytes_codec(dtype), numbers.astype(f"<{np.dtype(dtype).str[1:]}").tobytes()
    attributes = {"units": axis.unit} if axis.unit else {}
    document = v3_document([len(values)], [len(values)], dtype, [axis.name], [codec], attributes)
    store.write(join(location, "c/0"), data)
    write_json(store, join(location, "zarr.json"), document)
    return document


def vlen_utf8(values: Sequence[str]) -> bytes:
    """Return strings as Zarr's ``vlen-utf8`` codec stores them: count, then length and bytes of each."""
    encoded = [value.encode() for value in values]
    parts = [len(encoded).to_bytes(4, "little")]
    for item in encoded:
        parts += [len(item).to_bytes(4, "little"), item]
    return b"".join(parts)


def _members(store: Store, location: str) -> dict[str, ArrayMetadata]:
    names = store.children(location)[:MAX_MEMBERS]
    names = [name for name in names if not name.startswith(".") and name != "zarr.json"]
    found = ((name, read_array_metadata(store, join(location, name))) for name in names)
    return {name: metadata for name, metadata in found if metadata is not None}


def _variable(
    members: Mapping[str, ArrayMetadata],
    attributes: Mapping[str, Any],
    variable: str | None,
    location: str,
) -> str:
    larvik = attributes.get("larvik")
    if variable is None and isinstance(larvik, Mapping) and PLAIN_PATH in members:
        variable = PLAIN_PATH
    dims = {dim for metadata in members.values() for dim in metadata.dimension_names or ()}
    auxiliary = set(str(attributes.get("coordinates", "")).split()) | dims
    choices = [name for name in members if name not in auxiliary]
    if variable is None and len(choices) > 1:
        raise InvalidArgumentError(
            f"The group {location!r} has several arrays; name one of: {', '.join(sorted(choices)[:20])}.",
            reason="VARIABLE_AMBIGUOUS",
            field="variable",
        )
    name = variable or (choices[0] if choices else "")
    if name not in members:
        raise NotFoundError(
            f"There is no array {name!r} in the group {location!r}." if name
            else f"There is no array in the group {location!r}.",
            reason="ARRAY_NOT_FOUND",
            location=location,
        )  # fmt: skip
    return name


def _known_axes(attributes: Mapping[str, Any], dims: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return the axes that Larvik kept, by name, as far as they are sound."""
    larvik = attributes.get("larvik")
    axes = larvik.get("axes") if isinstance(larvik, Mapping) else None
    found = {}
    for axis in axes if isinstance(axes, list) else ():
        if isinstance(axis, Mapping) and axis.get("name") in dims and isinstance(axis.get("type"), str):
            step, start = axis.get("spacing"), axis.get("origin")
            if isinstance(step, int | float) and isinstance(start, int | float) and step > 0:
                found[axis["name"]] = axis
    return found


def _read_coordinate(
    store: Store, location: str, metadata: ArrayMetadata | None, size: int, dim: str
) -> tuple[np.ndarray | None, Any]:
    """Return values and unit of the coordinate of a dim; None without one."""
    if metadata is None or metadata.shape != (size,) or size > MAX_COORDINATE:
        return None, None
    if metadata.dimension_names not in (None, (dim,)):
        return None, None
    values = RegionReader(store, location, metadata).read((slice(0, size),))
    return values, metadata.attributes.get("units")


def _axis(
    dim: str, values: np.ndarray | None, unit: Any, known: Mapping[str, Any] | None
) -> tuple[Axis, float, float, tuple[Any, ...] | None]:
    """Return axis, spacing and origin of a dim, and its values when they are not regular."""
    if values is not None and values.dtype == object:
        irregular = None if dim == "c" else tuple(str(value) for value in values)
        return default_axis(dim, calibrated=False), 1.0, 0.0, irregular
    if known is not None:
        axis = Axis(dim, known["type"], known.get("unit") if isinstance(known.get("unit"), str) else None)
        step, start = float(known["spacing"]), float(known["origin"])
        same = values is None or _is_regular(values, step, start)
        return axis, step, start, None if same or values is None else tuple(values.tolist())
    axis = default_axis(dim, calibrated=False)
    if values is None or not np.isfinite(values.astype("f8")).all():
        return axis, 1.0, 0.0, None
    # CF writes "seconds since 2026-01-01": times count from the first frame here.
    text = unit.partition(" since ")[0] if isinstance(unit, str) else None
    name, factor = to_canonical(text, axis.type)
    numbers = values.astype("f8") * factor
    if isinstance(unit, str) and " since " in unit:
        numbers = numbers - numbers[0]
    axis = Axis(dim, axis.type, name)
    return axis, *_regular(numbers)


def _regular(numbers: np.ndarray) -> tuple[float, float, tuple[float, ...] | None]:
    """Return spacing and origin of evenly rising numbers; else 1, 0 and the numbers."""
    start = float(numbers[0])
    if len(numbers) == 1:
        return 1.0, start, None
    step = float(numbers[-1] - numbers[0]) / (len(numbers) - 1)
    if step > 0 and math.isfinite(step) and _is_regular(numbers, step, start):
        return step, start, None
    return 1.0, 0.0, tuple(numbers.tolist())


def _is_regular(numbers: np.ndarray, step: float, start: float) -> bool:
    return bool(np.allclose(numbers, start + step * np.arange(len(numbers)), rtol=0, atol=step / 1e3))
