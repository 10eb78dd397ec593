"""Writing OME-TIFF: tiled, BigTIFF, pyramid in SubIFDs, streamed band by band."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from larvik.array.evaluator import Reader
from larvik.array.spec import ArraySpec, itemsize
from larvik.biometa.ome_write import to_ome_xml, why_not_ome
from larvik.biometa.tables import Biometa
from larvik.errors import UnsupportedError
from larvik.formats.ome_tiff import import_tifffile
from larvik.formats.target import Cancelled, Progress, Steps, new_target

#: Side of a tile; smaller planes are written whole.
TILE = 512
#: Bytes that are read from the source at once, about.
BAND_BYTES = 32 << 20


def export_ome_tiff(
    path: str,
    levels: Sequence[Reader],
    spec: ArraySpec,
    biometa: Biometa,
    *,
    name: str,
    compression: str | None = "zlib",
    overwrite: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> None:
    """Write an array as OME-TIFF (BigTIFF, tiles of 512, coarser levels as SubIFDs).

    Parameters
    ----------
    path : str
        Target file.
    levels : sequence of Reader
        Finest first, as many as `spec` has; they are read in bands of bounded size.
    spec : ArraySpec
        Of the array; its dims are ``t c z y x`` or some of them, ``y`` and ``x`` included.
    biometa : Biometa
        What the OME-XML says beside sizes and spacing.
    name : str
        Name of the image.
    compression : str, optional
        ``zlib`` (the default, which every reader knows), ``lzw``, ``zstd``, or None.
    overwrite : bool
        Whether an existing file may be replaced.
    progress, cancelled : callable, optional
        Told of, and asked between, bands.

    Raises
    ------
    UnsupportedError
        ``FORMAT_UNSUPPORTED``, for dims or a dtype that OME-TIFF cannot hold: export OME-Zarr instead.
    AlreadyExistsError, NotFoundError, ResourceExhaustedError, CallCancelledError
        As `larvik.formats.target.new_target` says; no half-written file stays.
    """
    problem = why_not_ome(spec)
    if problem:
        raise UnsupportedError(
            f"OME-TIFF cannot hold this array: {problem}. Export it as .ome.zarr, or cast it first.",
            reason="FORMAT_UNSUPPORTED",
            field="dtype" if "dtype" in problem else "dims",
        )
    tifffile = import_tifffile()
    # UTF-8, as other writers do: Bio-Formats does not understand character references.
    xml = to_ome_xml(spec, biometa, name, with_planes=True).encode()
    steps = Steps(sum(math.prod(level.shape) for level in levels), progress, cancelled)
    with (
        new_target(path, overwrite=overwrite) as partial,
        tifffile.TiffWriter(partial, bigtiff=True, ome=False) as tiff,
    ):
        for number, level in enumerate(levels):
            rows, columns = _plane(spec.dims, level.shape)
            tile = (TILE, TILE) if max(rows, columns) > TILE else None
            planes = math.prod(level.shape) // (rows * columns)
            bands = _bands(level, spec, steps)
            tiff.write(
                _tiles(bands) if tile else bands,
                shape=(planes, rows, columns),
                dtype=_stored_dtype(spec.dtype),
                photometric="minisblack",
                tile=tile,
                compression=compression,
                predictor=_predictor(spec.dtype, compression),
                software="larvik",
                description=xml if number == 0 else None,
                metadata=None,
                subifds=len(levels) - 1 if number == 0 else 0,
                subfiletype=0 if number == 0 else 1,
                resolutionunit="CENTIMETER" if _resolution(spec, number) else None,
                resolution=_resolution(spec, number),
            )


def _stored_dtype(dtype: str) -> str:
    """Return the dtype of the pixels in the file: bits are stored as bytes, which every reader knows."""
    return "uint8" if dtype == "bool" else dtype


def _predictor(dtype: str, compression: str | None) -> bool:
    return compression is not None and "int" in dtype and itemsize(dtype) > 1


def _resolution(spec: ArraySpec, level: int) -> tuple[float, float] | None:
    """Return pixels per centimeter along x and y, where both are known."""
    found = []
    for dim in ("x", "y"):
        number = spec.dims.index(dim)
        if spec.axes[number].unit != "micrometer":
            return None
        found.append(1e4 / spec.levels[level].spacing[number])
    return found[0], found[1]


def _plane(dims: Sequence[str], shape: Sequence[int]) -> tuple[int, int]:
    return shape[dims.index("y")], shape[dims.index("x")]


def _bands(level: Reader, spec: ArraySpec, steps: Steps) -> Iterator[np.ndarray]:
    """Yield the planes in the order t, c, z: whole, or as bands of full width and rows of tiles high."""
    dims = spec.dims
    rows, columns = _plane(dims, level.shape)
    is_tiled = max(rows, columns) > TILE
    height = rows if not is_tiled else TILE * max(1, BAND_BYTES // (TILE * columns * itemsize(spec.dtype)))
    outer = [dim for dim in "tcz" if dim in dims]
    for index in product(*(range(level.shape[dims.index(dim)]) for dim in outer)):
        place = dict(zip(outer, index, strict=True))
        for top in range(0, rows, height):
            steps.check()
            parts = {"y": slice(top, min(top + height, rows)), "x": slice(0, columns)}
            selection = tuple(parts.get(dim) or slice(place[dim], place[dim] + 1) for dim in dims)
            block = level.read(selection).squeeze(tuple(dims.index(dim) for dim in outer))
            if dims.index("y") > dims.index("x"):
                block = block.T
            steps.add(block.size)
            yield np.ascontiguousarray(block, dtype=_stored_dtype(spec.dtype))


def _tiles(bands: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for band in bands:
        for top in range(0, band.shape[0], TILE):
            for left in range(0, band.shape[1], TILE):
                tile: Any = band[top : top + TILE, left : left + TILE]
                yield np.ascontiguousarray(tile)
