"""NGFF ``multiscales`` and ``omero`` documents, from and to an ArraySpec (OME-Zarr 0.5; 0.4 is read)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from larvik.array.channel_names import clean_name, unique_names
from larvik.array.spec import AXIS_TYPES, ArraySpec, Axis, Level
from larvik.errors import UnsupportedError
from larvik.storage.base import check_key
from larvik.storage.documents import invalid
from larvik.storage.units import to_canonical
from larvik.storage.zarr_metadata import ArrayMetadata

#: Most levels of an image.
MAX_LEVELS = 64


def multiscales_document(spec: ArraySpec, name: str, kind: str) -> list[dict[str, Any]]:
    """Return the ``multiscales`` of OME-Zarr 0.5 for an array of format ``ome-zarr``."""
    axes = []
    for axis in spec.axes:
        entry = {"name": axis.name, "type": axis.type}
        if axis.unit in ("micrometer", "second"):
            entry["unit"] = axis.unit
        axes.append(entry)
    datasets = [
        {
            "path": level.path,
            "coordinateTransformations": [
                {"type": "scale", "scale": list(level.spacing)},
                {"type": "translation", "translation": list(level.origin)},
            ],
        }
        for level in spec.levels
    ]
    method = "mean" if kind == "intensity" else "nearest"
    return [{"name": name, "axes": axes, "datasets": datasets, "type": method}]


def read_multiscales(
    value: Any, version: str, load: Callable[[str], ArrayMetadata | None], labels: Sequence[str]
) -> ArraySpec:
    """Return the spec of the first multiscale image of a group.

    Parameters
    ----------
    value : Any
        The ``multiscales`` document, as found.
    version : str
        ``0.4`` or ``0.5``.
    load : callable
        Returns the metadata of the array at a path below the group, None when there is none.
    labels : sequence of str
        Channel names of the ``omero`` document.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INVALID``, ``SHAPE_INVALID``, ``DTYPE_UNSUPPORTED`` or ``KEY_INVALID``; names the field.
    """
    if not isinstance(value, list) or not value or not isinstance(value[0], Mapping):
        raise invalid("not a list of images", "multiscales")
    image = value[0]
    axes = _read_axes(image.get("axes"))
    canonical = [to_canonical(axis.get("unit"), _type(axis)) for axis in axes]
    factors = tuple(factor for _, factor in canonical)
    outer = _read_transforms(image.get("coordinateTransformations"), len(axes), "multiscales")
    datasets = image.get("datasets")
    if not isinstance(datasets, list) or not 1 <= len(datasets) <= MAX_LEVELS:
        raise invalid(f"not a list of 1 to {MAX_LEVELS} levels", "multiscales.datasets")
    levels, dtypes = [], []
    for dataset in datasets:
        level, dtype = _read_level(dataset, load, outer, factors)
        levels.append(level)
        dtypes.append(dtype)
    if len(set(dtypes)) > 1:
        raise invalid(f"of several dtypes: {', '.join(dtypes)}", "multiscales.datasets")
    pairs = [pair for fine, coarse in pairwise(levels) for pair in zip(fine.shape, coarse.shape, strict=True)]
    if any(coarse > fine for fine, coarse in pairs):
        raise invalid("not ordered from the finest level to the coarsest", "multiscales.datasets")
    names = [axis["name"] for axis in axes]
    size = levels[0].shape[names.index("c")] if "c" in names else 0
    return ArraySpec(
        axes=tuple(
            Axis(axis["name"], _type(axis), unit) for axis, (unit, _) in zip(axes, canonical, strict=True)
        ),
        dtype=dtypes[0],
        levels=_without_unknown_units(levels, [unit for unit, _ in canonical]),
        channel_names=unique_names(labels, size),
        format="ome-zarr" if version == "0.5" else f"ome-zarr-{version}",
    )


def channel_labels(omero: Any) -> list[str]:
    """Return the channel names of an ``omero`` document, as far as it has any."""
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list):
        return []
    return [
        clean_name(label) if isinstance(label := channel.get("label"), str) else ""
        for channel in (item if isinstance(item, Mapping) else {} for item in channels[:10_000])
    ]


def ngff_version(attributes: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return the NGFF version of a group and the mapping that holds ``multiscales``; None for no image.

    Raises
    ------
    UnsupportedError
        ``FORMAT_UNSUPPORTED``, for versions other than 0.4 and 0.5.
    """
    ome = attributes.get("ome")
    if isinstance(ome, Mapping) and "multiscales" in ome:
        version, found = str(ome.get("version", "0.5")), ome
    elif "multiscales" in attributes:
        images = attributes["multiscales"]
        first = images[0] if isinstance(images, list) and images and isinstance(images[0], Mapping) else {}
        version, found = str(first.get("version", "0.4")), attributes
    else:
        return None
    if version not in ("0.4", "0.5"):
        raise UnsupportedError(
            f"The image is OME-Zarr {version[:20]}; Larvik reads 0.4 and 0.5. Convert it first.",
            reason="FORMAT_UNSUPPORTED",
            field="version",
        )
    return version, found


def _read_axes(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not 2 <= len(value) <= 5:
        raise invalid("not a list of 2 to 5 axes", "multiscales.axes")
    names = [axis.get("name") if isinstance(axis, Mapping) else None for axis in value]
    if not all(isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable() for name in names):
        raise invalid("not made of named axes", "multiscales.axes")
    if len(set(names)) < len(names):
        raise invalid("naming an axis twice", "multiscales.axes")
    return value


def _type(axis: Mapping[str, Any]) -> str:
    declared = axis.get("type")
    if declared in ("time", "channel", "space"):
        return str(declared)
    return AXIS_TYPES.get(axis["name"], "other")


def _read_level(
    dataset: Any,
    load: Callable[[str], ArrayMetadata | None],
    outer: tuple[list[float], list[float]],
    factors: tuple[float, ...],
) -> tuple[Level, str]:
    """Return one level, its transforms combined and in canonical units, and its dtype."""
    path = dataset.get("path") if isinstance(dataset, Mapping) else None
    if not isinstance(path, str):
        raise invalid("without a path", "multiscales.datasets")
    metadata = load(check_key(path.strip("/") or path, field="multiscales.datasets.path"))
    if metadata is None:
        raise invalid(f"naming {path!r}, where there is no array", "multiscales.datasets.path")
    if len(metadata.shape) != len(factors) or metadata.dtype == "string":
        raise invalid(f"naming {path!r}, no numeric array of {len(factors)} dims", "multiscales.datasets")
    scale, translation = _read_transforms(
        dataset.get("coordinateTransformations"), len(factors), "multiscales.datasets"
    )
    spacing = [a * b for a, b in zip(scale, outer[0], strict=True)]
    origin = [a * b + c for a, b, c in zip(translation, outer[0], outer[1], strict=True)]
    spacing = [value * factor for value, factor in zip(spacing, factors, strict=True)]
    origin = [value * factor for value, factor in zip(origin, factors, strict=True)]
    if min(spacing) <= 0 or not all(map(math.isfinite, (*spacing, *origin))):
        raise invalid("not finite in micrometers or seconds", "multiscales.coordinateTransformations")
    level = Level(path, metadata.shape, metadata.chunks, metadata.shards, tuple(spacing), tuple(origin))
    return level, metadata.dtype


def _without_unknown_units(levels: Sequence[Level], units: Sequence[str | None]) -> tuple[Level, ...]:
    """Return `levels` with axes of unknown unit in pixels (or frames) of the finest level."""
    first = levels[0]
    unknown = [unit not in ("micrometer", "second") and s != 1.0
               for unit, s in zip(units, first.spacing, strict=True)]  # fmt: skip

    def relative(level: Level) -> Level:
        rows = list(zip(level.spacing, level.origin, first.spacing, first.origin, unknown, strict=True))
        return replace(
            level,
            spacing=tuple(s / s0 if flag else s for s, _, s0, _, flag in rows),
            origin=tuple((o - o0) / s0 if flag else o for _, o, s0, o0, flag in rows),
        )

    return tuple(map(relative, levels))


def _read_transforms(value: Any, rank: int, where: str) -> tuple[list[float], list[float]]:
    """Return scale and translation, ones and zeros where there is none."""
    scale, translation = [1.0] * rank, [0.0] * rank
    if value is None:
        return scale, translation
    if not isinstance(value, list) or len(value) > 16:
        raise invalid("not a list of transformations", f"{where}.coordinateTransformations")
    for item in value:
        kind = item.get("type") if isinstance(item, Mapping) else None
        if kind == "scale":
            factors = _numbers(item.get("scale"), rank, f"{where}.scale")
            if min(factors) <= 0:
                raise invalid("not made of numbers above 0", f"{where}.scale")
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            translation = [a * b for a, b in zip(translation, factors, strict=True)]
        elif kind == "translation":
            shift = _numbers(item.get("translation"), rank, f"{where}.translation")
            translation = [a + b for a, b in zip(translation, shift, strict=True)]
        elif kind != "identity":
            shown = str(kind)[:40]
            raise invalid(f"{shown!r}, not scale or translation", f"{where}.coordinateTransformations")
    return scale, translation


def _numbers(value: Any, rank: int, where: str) -> list[float]:
    if not isinstance(value, list) or len(value) != rank:
        raise invalid(f"not a list of {rank} numbers", where)
    if not all(type(item) in (int, float) and abs(item) < 1e300 for item in value):
        raise invalid("not made of finite numbers", where)
    return [float(item) for item in value]
