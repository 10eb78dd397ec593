"""The open files of a TIFF series, and what is read from their directories."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from larvik.array.spec import DTYPES, Axis, default_axis
from larvik.errors import InvalidArgumentError
from larvik.formats.base import SeriesInfo, SeriesSource, file_name, inconsistent
from larvik.formats.ome_planes import PlaneTable
from larvik.formats.tiff_planes import PageLayout, Plane

FORMAT = "ome-tiff"
#: Planes of one file up to which every directory is compared with the first; beyond, only offsets are read.
CHECKED_PAGES = 4096
#: Files of a set that are open at a time.
OPEN_FILES = 16


class TiffImage(Protocol):
    """One series of a file."""

    index: int

    def info(self) -> SeriesInfo:
        """Return what the series is."""

    def source(self) -> SeriesSource:
        """Return the series, open for reading."""


class TiffFiles:
    """The open files of a set; a context manager that closes them."""

    def __init__(self, tifffile: Any) -> None:
        self._tifffile = tifffile
        self._open: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def open(self, path: str) -> Any:
        """Return the TiffFile at `path`, opened once; the oldest is closed when there are many."""
        if path not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            self._open[path] = self._tifffile.TiffFile(path, _multifile=False)
        return self._open[path]

    def page_count(self, path: str) -> int:
        """Return the number of pages of a file."""
        if path not in self._counts:
            self._counts[path] = len(self.open(path).pages)
        return self._counts[path]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tiff in self._open.values():
            with suppress(OSError):
                tiff.close()
        self._open.clear()


def make_axes(dims: Sequence[str], spacing: dict[str, Any], *, has_times: bool = False) -> tuple[Axis, ...]:
    """Return the axes of `dims`: physical where `spacing` has a value, else in pixels or frames."""
    found = []
    for dim in dims:
        known = bool(spacing.get(dim)) or (dim == "t" and has_times)
        found.append(default_axis(dim, calibrated=known) if dim != "t" or known else Axis("t", "time"))
    return tuple(found)


def page_planes(files: TiffFiles, table: PlaneTable, first: Any, path: str, series: int) -> list[Plane]:
    """Return every plane of a table in C order; refuses pages that are unlike the first."""
    places = table.places.reshape(-1, 2)
    found: list[Plane | None] = [None] * len(places)
    for number, where in enumerate(table.files):
        tiff = files.open(where)
        wanted = np.flatnonzero(places[:, 0] == number)
        is_checked = len(wanted) <= CHECKED_PAGES
        tiff.pages.useframes = not is_checked
        for position in wanted.tolist():
            ifd = int(places[position, 1])
            page = tiff.pages[ifd]
            if is_checked and page.hash != first.hash:
                raise inconsistent(
                    path,
                    f"page {ifd} of {file_name(where)} is unlike the first of image {series}",
                    "TiffData",
                )
            found[position] = page_plane(page, where)
    return [plane for plane in found if plane is not None]


def page_plane(page: Any, path: str) -> Plane:
    """Return where the segments of a page are."""
    return Plane(
        path,
        tuple(int(offset) for offset in page.dataoffsets),
        tuple(int(count) for count in page.databytecounts),
        page.jpegtables,
    )


def full_page(tiff: Any, ifd: int) -> Any:
    """Return a page with all its tags, which can decode segments."""
    tiff.pages.useframes = False
    return tiff.pages[ifd]


def dtype_name(layout: PageLayout, path: str) -> str:
    """Return the NumPy name of the pixels' dtype; `InvalidArgumentError` when Larvik does not store it."""
    name = layout.dtype.name
    if name not in DTYPES:
        raise InvalidArgumentError(
            f"{file_name(path)} has pixels of dtype {name}. Larvik stores {', '.join(DTYPES)}.",
            reason="DTYPE_UNSUPPORTED",
            field="dtype",
        )
    return name


def stem(path: str) -> str:
    """Return the name of a file without what says that it is a TIFF."""
    return re.sub(r"(\.ome)?\.(tiff?|btf|tf[28]|lsm|stk)$|\.companion\.ome$", "", file_name(path), flags=re.I)
