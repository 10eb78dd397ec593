"""What a reader of image files gives: the series of a file, and one of them to read region by region."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from dataclasses import field as value
from datetime import datetime
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from larvik.array.spec import ArraySpec, Axis, Level, itemsize
from larvik.biometa.tables import Biometa, acquisition_time
from larvik.errors import (
    InvalidArgumentError,
    LarvikError,
    NotFoundError,
    PermissionDeniedError,
    SelectionError,
    UnsupportedError,
)

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

#: Entry point group that readers join.
GROUP = "larvik.readers"
#: What Larvik reads by itself, for messages.
BUILT_IN = "OME-TIFF, TIFF, ImageJ TIFF, and OME-Zarr 0.4 and 0.5"


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """One image inside a file: everything about it but its pixels.

    Attributes
    ----------
    index : int
        Position in the file, from 0.
    name : str
        Name that the file gives it, else one made of the file's name.
    format : str
        Name of the reader that understood it.
    axes : tuple of Axis
        In array order.
    shape : tuple of int
        Elements per dim.
    dtype : str
        NumPy name, the file's own.
    spacing, origin : tuple of float
        Per dim, in the axis unit.
    coordinates : mapping of str to tuple
        Values of dims that are not ``origin + i * spacing``.
    channel_names : tuple of str
        Along ``c``, as in the file; empty names where it gives none.
    kind : str
        ``intensity``, ``label`` or ``mask``.
    parent : int or None
        Series that this one labels.
    plate, well, field : str, str, int or None
        Where on a plate it was taken.
    store_url, location : str or None
        Store, and group in it, where it can be registered in place; None where it must be copied.
    warnings : tuple of str
        What was inconsistent and how it was understood.
    """

    index: int
    name: str
    format: str
    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    dtype: str
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    coordinates: Mapping[str, tuple[Any, ...]] = value(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    kind: str = "intensity"
    parent: int | None = None
    plate: str | None = None
    well: str | None = None
    field: int | None = None
    store_url: str | None = None
    location: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dims, in order."""
        return tuple(axis.name for axis in self.axes)

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return math.prod(self.shape) * itemsize(self.dtype)

    def spec(self, chunks: Sequence[int] | None = None) -> ArraySpec:
        """Return the description of the array, with one level whose grid is that of the file."""
        from larvik.array.channel_names import unique_names
        from larvik.storage.layout import is_ngff

        grid = tuple(chunks or self.shape)
        size = self.shape[self.dims.index("c")] if "c" in self.dims else 0
        return ArraySpec(
            axes=self.axes,
            dtype=self.dtype,
            levels=(Level("0", self.shape, grid, grid, self.spacing, self.origin),),
            coordinates=self.coordinates,
            channel_names=unique_names(self.channel_names, size),
            format="ome-zarr" if is_ngff(self.dims) else "zarr",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as stored in ``Series.info``: without places on this machine."""
        found = {"dims": list(self.dims), **asdict(self)}
        return {name: item for name, item in found.items() if name not in ("store_url", "location")}


@dataclass(slots=True)
class SeriesSource:
    """One series, open for reading. A context manager; `close` releases its files.

    Attributes
    ----------
    info : SeriesInfo
        What it is.
    biometa : Biometa
        OME metadata, and the file's own metadata whole.
    chunks : tuple of int
        Elements that the file stores together, per dim: regions that are multiples read each once.
    attributes : mapping
        Attributes of the file's group that Larvik does not know, to be preserved.
    """

    info: SeriesInfo
    biometa: Biometa
    chunks: tuple[int, ...]
    _read: Callable[[tuple[slice, ...]], np.ndarray]
    _close: Callable[[], None] = lambda: None
    attributes: Mapping[str, Any] = value(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dim."""
        return self.info.shape

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dims, in order."""
        return self.info.dims

    @property
    def dtype(self) -> str:
        """NumPy name of the dtype."""
        return self.info.dtype

    @property
    def spec(self) -> ArraySpec:
        """Description of the array, with one level whose grid is that of the file."""
        return self.info.spec(self.chunks)

    @property
    def acquired_at(self) -> datetime | None:
        """Start of the acquisition in UTC, when the file tells its zone."""
        return self._acquired()[0]

    @property
    def acquired_local(self) -> str | None:
        """ISO 8601 local time of the start, when the file tells no zone."""
        return self._acquired()[1]

    def _acquired(self) -> tuple[datetime | None, str | None]:
        return (
            acquisition_time(self.biometa.scan[0]["acquisition_date"]) if self.biometa.scan else (None, None)
        )

    def read(self, selection: tuple[slice, ...]) -> np.ndarray:
        """Return a region.

        Parameters
        ----------
        selection : tuple of slice
            One per dim, within the shape, step 1.

        Returns
        -------
        ndarray
            C-contiguous, native byte order, dtype of the series. Memory is bounded by the region, and by
            what the file stores together; the rest of the file is not read.

        Raises
        ------
        SelectionError
            ``SELECTION_OUT_OF_BOUNDS``.
        InvalidArgumentError
            ``FILE_UNREADABLE``, naming file and series, when stored bytes are missing or corrupt.
        """
        return self._read(check_selection(selection, self.shape))

    def close(self) -> None:
        """Release files; idempotent."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@runtime_checkable
class Reader(Protocol):
    """One file format. Plug-ins name a class like this under the entry point group ``larvik.readers``.

    The class is made without arguments. Everything that it raises is a `larvik.errors` class.
    """

    name: str

    def accepts(self, path: str) -> bool:
        """Tell whether the content (not the name) looks like this format; reads a few kilobytes at most."""

    def inspect(self, path: str) -> list[SeriesInfo]:
        """Return every series of the file, in seconds, without reading pixels."""

    def open(self, path: str, index: int) -> SeriesSource:
        """Open one series for reading."""


def inspect_file(path: str | os.PathLike[str]) -> list[SeriesInfo]:
    """Return every series of a file or folder, without reading pixels.

    Parameters
    ----------
    path : str or path
        A file, an OME-Zarr folder, or ``s3://bucket/key`` of one.

    Raises
    ------
    NotFoundError
        ``FILE_NOT_FOUND``.
    InvalidArgumentError
        ``FILE_UNREADABLE`` or ``METADATA_INVALID``, when it is damaged or contradicts itself.
    UnsupportedError
        ``FORMAT_UNSUPPORTED``, when no reader knows it; names those that there are.
    """
    where = _text(path)
    found = find_reader(where).inspect(where)
    if not found:
        raise unreadable(where, "it contains no image")
    return found


def open_series(path: str | os.PathLike[str], index: int = 0) -> SeriesSource:
    """Open series `index` of a file; see `inspect_file` for paths and errors.

    Raises
    ------
    SelectionError
        ``SERIES_NOT_FOUND``, when the file has no such series.
    """
    where = _text(path)
    return find_reader(where).open(where, index)


def find_reader(path: str) -> Reader:
    """Return the first reader that accepts the content of `path`."""
    check_readable(path)
    for reader in readers():
        if reader.accepts(path):
            return reader
    known = ", ".join(reader.name for reader in readers())
    raise UnsupportedError(
        f"{file_name(path)} is in no format that Larvik reads. It reads {BUILT_IN} (readers here:"
        f" {known}); other "
        "formats need a package that joins the entry point group larvik.readers, or a conversion"
        " to OME-TIFF.",
        reason="FORMAT_UNSUPPORTED",
        file=file_name(path),
    )


@cache
def readers() -> tuple[Reader, ...]:
    """Return every reader: those of plug-ins first, so that they may know a format better."""
    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.value.startswith("larvik.")):
        try:
            found.append(entry.load()())
        except Exception:  # a broken plug-in must not take the other formats away
            log.exception("formats.reader_broken", extra={"reader": entry.name})
    return tuple(found)


def check_readable(path: str) -> None:
    """Refuse a local path that is missing, or that may not be read."""
    if is_url(path):
        return
    if "\0" in path or not os.path.lexists(path):
        raise NotFoundError(
            f"There is no file {file_name(path)}.", reason="FILE_NOT_FOUND", file=file_name(path)
        )
    if not os.access(path, os.R_OK):
        raise PermissionDeniedError(
            f"{file_name(path)} may not be read: give this user the right to.",
            reason="FILE_DENIED",
            file=file_name(path),
        )


def is_url(path: str) -> bool:
    """Tell whether `path` names an object store."""
    return path.startswith("s3://")


def file_name(path: str) -> str:
    """Return the last part of a path, which messages may name: folders of a server stay private."""
    name = path.rstrip("/").rpartition("/")[2] or path
    return "".join(ch if ch.isprintable() else "?" for ch in name[:200])


def unreadable(path: str, problem: str, series: int | None = None) -> InvalidArgumentError:
    """Return the error for a file that is damaged."""
    where = "" if series is None else f", series {series}"
    more = {} if series is None else {"series": series}
    return InvalidArgumentError(
        f"{file_name(path)}{where} cannot be read: {problem}. Check the copy against the original.",
        reason="FILE_UNREADABLE",
        file=file_name(path),
        **more,
    )


def inconsistent(path: str, problem: str, field: str) -> InvalidArgumentError:
    """Return the error for a file whose metadata contradicts its content."""
    return InvalidArgumentError(
        f"{file_name(path)} contradicts itself: {problem}. Nothing was read; correct the"
        " metadata, or export the "
        "file again.",
        reason="METADATA_INCONSISTENT",
        file=file_name(path),
        field=field,
    )


@contextmanager
def typed_errors(path: str, series: int | None = None) -> Iterator[None]:
    """Turn whatever a foreign library raises over a damaged file into ``FILE_UNREADABLE``."""
    try:
        yield
    except LarvikError:
        raise
    except Exception as error:  # format libraries raise any class over damaged bytes
        words = (
            " ".join(str(error).split())[:160] if not isinstance(error, OSError) else (error.strerror or "")
        )
        raise unreadable(path, f"{type(error).__name__} {words}".strip(), series) from error


def check_selection(selection: Sequence[slice], shape: Sequence[int]) -> tuple[slice, ...]:
    """Return `selection` with its bounds filled in.

    Raises
    ------
    SelectionError
        ``SELECTION_OUT_OF_BOUNDS``.
    """
    if len(selection) != len(shape):
        raise SelectionError(f"The selection has {len(selection)} dims, the series {len(shape)}.")
    found = []
    for item, size in zip(selection, shape, strict=True):
        start = 0 if item.start is None else item.start
        stop = size if item.stop is None else item.stop
        if item.step not in (None, 1) or not 0 <= start <= stop <= size:
            raise SelectionError(f"{item} lies outside a dim of {size}, or has a step.")
        found.append(slice(start, stop))
    return tuple(found)


def check_index(path: str, index: int, count: int) -> None:
    """Refuse a series that is not there."""
    if not 0 <= index < count:
        raise SelectionError(
            f"{file_name(path)} has no series {index}; it has {count}, counted from 0.",
            reason="SERIES_NOT_FOUND",
            file=file_name(path),
            series=index,
        )


def _text(path: str | os.PathLike[str]) -> str:
    where = os.fspath(path)
    return where if is_url(where) else os.path.abspath(os.path.expanduser(where.removeprefix("file://")))
