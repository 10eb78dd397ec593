"""Exporting the array of a row: ``rep.export("image.ome.tiff")``, ``rep.export("image.ome.zarr")``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from larvik.array.spec import ArraySpec
from larvik.biometa.tables import MODELS, Biometa
from larvik.errors import InvalidArgumentError
from larvik.formats.export_tiff import export_ome_tiff
from larvik.formats.export_zarr import LabelImage, export_ome_zarr
from larvik.formats.target import Cancelled, Progress
from larvik.query.fetch import records
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Query

if TYPE_CHECKING:
    from larvik.array.evaluator import Reader
    from larvik.models.array import LarvikArray

TIFF_ENDINGS = (".tif", ".tiff", ".btf")
ZARR_ENDINGS = (".zarr",)


def export_row(
    row: LarvikArray,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    labels: bool = True,
    compression: str | None = "zlib",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> str:
    """Write the array of `row` to a file or folder, and return its path.

    Parameters
    ----------
    row : LarvikArray
        A stored row.
    path : str or path
        Ends in ``.ome.tiff`` (or ``.tif``, ``.btf``), or in ``.ome.zarr``.
    overwrite : bool
        Whether an existing target may be replaced.
    labels : bool
        Whether labels and masks that were derived from the image are written with it (OME-Zarr only).
    compression : str, optional
        Of OME-TIFF: ``zlib``, ``lzw``, ``zstd`` or None.
    progress : callable, optional
        Called with (done, total) pixels.
    cancelled : callable, optional
        Asked now and then; True stops with CallCancelledError and leaves nothing.

    Raises
    ------
    InvalidArgumentError
        ``TARGET_INVALID``, for any other ending.
    UnsupportedError
        ``FORMAT_UNSUPPORTED``, when OME-TIFF cannot hold the array.
    AlreadyExistsError
        ``TARGET_EXISTS``.
    """
    target = os.path.abspath(os.path.expanduser(os.fspath(path)))
    spec = ArraySpec.from_dict(row.spec)
    common: dict[str, Any] = {
        "name": row.name, "overwrite": overwrite, "progress": progress, "cancelled": cancelled,
    }  # fmt: skip
    if target.lower().endswith(TIFF_ENDINGS):
        readers = [_reader(row, spec, level) for level in range(len(spec.levels))]
        export_ome_tiff(target, readers, spec, biometa_of_row(row), compression=compression, **common)
    elif target.lower().endswith(ZARR_ENDINGS):
        found = _labels(row, spec) if labels else []
        kind = getattr(row, "kind", "intensity")
        attributes = dict(row.attributes or {})
        export_ome_zarr(
            target, _reader(row, spec, 0), spec, biometa_of_row(row), kind=kind, labels=found,
            attributes=attributes, **common,
        )  # fmt: skip
    else:
        raise InvalidArgumentError(
            f"{os.path.basename(target)!r} tells no format: name a file .ome.tiff or a folder .ome.zarr.",
            reason="TARGET_INVALID",
            field="path",
        )
    return target


def biometa_of_row(row: LarvikArray) -> Biometa:
    """Return the stored metadata of a row; one statement for each table, and page of it."""
    connection = row._bound()
    where = (Compare(("object_id",), Lookup.EXACT, row.id),)
    tables = {
        model: [record.values for page in records(connection, Query(model, where)) for record in page]
        for model in MODELS.values()
    }
    for model, keys in {
        "Channel": ("index",),
        "Detector": ("index",),
        "Plane": ("the_t", "the_c", "the_z"),
    }.items():
        tables[model].sort(key=lambda values, keys=keys: tuple(values[key] for key in keys))  # type: ignore[misc]
    return Biometa.from_rows(tables)


def _reader(row: LarvikArray, spec: ArraySpec, level: int) -> Reader:
    from larvik.array.open import level_sources

    source = level_sources(spec, row.id, row.version)[level]
    return row._bound().arrays.evaluator.reader(source)


def _labels(row: LarvikArray, spec: ArraySpec) -> list[LabelImage]:
    """Return the labels and masks that were derived from `row` and lie on its pixels."""
    if spec.format != "ome-zarr" or "derived" not in row._reverses() or "kind" not in row._values:
        return []
    sizes = dict(zip(spec.dims, spec.shape, strict=True))
    found = []
    for label in row.related("derived").filter(kind__in=["label", "mask"]):
        other = ArraySpec.from_dict(label.spec)
        fits = all(
            sizes.get(dim) == size for dim, size in zip(other.dims, other.shape, strict=True) if dim in "zyx"
        )
        if fits and other.format == "ome-zarr":
            found.append(LabelImage(label.name, _reader(label, other, 0), other, label.kind))
    return found
