"""Which page of which file every plane of an OME-TIFF image is, by its ``TiffData``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from larvik.biometa.document import OmeImage, TiffData
from larvik.errors import NotFoundError
from larvik.formats.base import file_name, inconsistent

#: An image may declare at most this many times the planes that it has.
MAX_MISSING = 100


@dataclass(frozen=True, slots=True)
class PlaneTable:
    """Where the planes of an image are.

    Attributes
    ----------
    files : tuple of str
        Paths of the files of the set that hold planes of this image.
    places : ndarray of shape (t, c, z, 2), int64
        Number of the file in `files`, and IFD in it; -1 where the document names none.
    warnings : tuple of str
        What was inconsistent and how it was understood.
    """

    files: tuple[str, ...]
    places: np.ndarray
    warnings: tuple[str, ...] = ()


def find_planes(image: OmeImage, path: str, channels: int, page_count: Callable[[str], int]) -> PlaneTable:
    """Return where the planes of `image` are.

    Parameters
    ----------
    image : OmeImage
        Of the document in `path`, or in a companion file beside it.
    path : str
        The file that was opened.
    channels : int
        Channels that are stacked, each of one or more samples.
    page_count : callable
        Returns the number of pages of a file.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INCONSISTENT``, when planes lie outside the declared sizes or the files.
    NotFoundError
        ``FILE_NOT_FOUND``, when a file of the set is missing; names it.
    """
    sizes = {"T": image.sizes["T"], "C": channels, "Z": image.sizes["Z"]}
    total = sizes["T"] * sizes["C"] * sizes["Z"]
    entries = image.tiff_data or (TiffData(0, None, 0, 0, 0, None, None),)
    files: list[str] = []
    warnings: list[str] = []
    counts: dict[str, int] = {}
    found: list[tuple[int, int, int, int]] = []
    names = {entry.file_name for entry in entries if entry.file_name}
    for entry in entries:
        where = _resolve(entry, image, path, names, warnings)
        if where not in files:
            files.append(where)
            counts[where] = page_count(where)
        first = entry.ifd or 0
        count = (
            entry.count if entry.count is not None else 1 if entry.ifd is not None else counts[where] - first
        )
        if count < 0 or first < 0 or first + count > counts[where]:
            # Without a count "all of the file" is meant, which may be the planes of other images too.
            raise inconsistent(
                path,
                f"image {image.index} needs pages {first} to {first + count - 1} of"
                f" {file_name(where)}, which has "
                f"{counts[where]}",
                "TiffData",
            )
        found.append((files.index(where), first, min(count, total), _position(entry, image, sizes, path)))
    places = _fill(found, total, image.dimension_order, sizes, path, is_open=entries[-1].count is None)
    return PlaneTable(tuple(files), places, tuple(dict.fromkeys(warnings)))


def _fill(
    found: list[tuple[int, int, int, int]],
    total: int,
    order: str,
    sizes: dict[str, int],
    path: str,
    *,
    is_open: bool,
) -> np.ndarray:
    pages = sum(count for _, _, count, _ in found)
    if total > max(1, pages) * MAX_MISSING:
        raise inconsistent(path, f"it declares {total} planes and has {pages}", "SizeT")
    flat = np.full((total, 2), -1, np.int64)
    for number, first, count, start in found:
        if start + count > total and not is_open:
            raise inconsistent(path, f"TiffData names {start + count} planes of {total}", "TiffData")
        count = min(count, total - start)
        flat[start : start + count, 0] = number
        flat[start : start + count, 1] = np.arange(first, first + count)
    # Planes are numbered with the first dim of the order fastest; NumPy wants it last.
    dims = order[:1:-1]
    shaped = flat.reshape(*(sizes[dim] for dim in dims), 2)
    return np.ascontiguousarray(shaped.transpose(*(dims.index(dim) for dim in "TCZ"), 3))


def _position(entry: TiffData, image: OmeImage, sizes: dict[str, int], path: str) -> int:
    """Return the number of the first plane of an entry, in the order of the document."""
    samples = image.samples[0]
    first = {"Z": entry.first_z, "T": entry.first_t, "C": entry.first_c}
    if samples > 1 and first["C"] >= sizes["C"]:  # some writers count samples, not channels
        first["C"] //= samples
    position, stride = 0, 1
    for dim in image.dimension_order[2:]:
        if not 0 <= first[dim] < sizes[dim]:
            raise inconsistent(
                path, f"TiffData has First{dim}={first[dim]}, and Size{dim} is {sizes[dim]}", f"Size{dim}"
            )
        position += first[dim] * stride
        stride *= sizes[dim]
    return position


def _resolve(entry: TiffData, image: OmeImage, path: str, names: set[str], warnings: list[str]) -> str:
    """Return the path of the file that an entry names; never outside the folder of `path`."""
    folder, own = os.path.split(path)
    name = entry.file_name
    if not name or name == own or (entry.uuid and entry.uuid == image.document.uuid):
        return path
    folder = os.path.realpath(folder)
    where = os.path.realpath(os.path.join(folder, name.replace("\\", "/")))
    if os.path.isabs(name) or "\0" in name or os.path.commonpath([folder, where]) != folder:
        raise inconsistent(path, f"it names a file outside its folder ({file_name(name)})", "FileName")
    if os.path.isfile(where):
        return where
    if len(names) == 1:
        warnings.append(f"The file was called {file_name(name)} when it was written.")
        return path
    raise NotFoundError(
        f"{own} belongs to a set of files, of which {file_name(name)} is missing. Put it into the"
        " same folder.",
        reason="FILE_NOT_FOUND",
        file=file_name(name),
    )
