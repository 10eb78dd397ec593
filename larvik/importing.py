"""`import_file`: from image files to representations, on a folder and on a server alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from larvik.errors import InvalidArgumentError, LarvikError

if TYPE_CHECKING:
    from larvik.connection import Cancelled, Connection, Progress
    from larvik.models import Experiment, Representation, Sample
    from larvik.query.query import Record
    from larvik.services.import_options import Failure, ImportOptions

Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of some files.

    Attributes
    ----------
    representations : list of Representation
        Those that were made, and those of earlier imports.
    failures : list of Failure
        Path, reason and message of each file that could not be imported.
    """

    representations: list[Representation]
    failures: list[Failure]


def import_file(
    path: Path,
    *,
    sample: str | Sample | None = None,
    experiment: str | Experiment | None = None,
    series: int | Sequence[int] | None = None,
    in_place: bool = False,
    again: bool = False,
    server_path: bool = False,
    connection: Connection | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[Representation]:
    """Import the images of one file, and return their representations.

    Parameters
    ----------
    path : str or path
        A file, an OME-Zarr folder or an ``s3://`` URL. This process reads it and sends the pixels.
    sample, experiment : str or row, optional
        Where the images belong; a name that is missing is created. With an experiment alone, the file
        becomes a sample of its own.
    series : int or sequence of int, optional
        Only these, counted from 0; by default all.
    in_place : bool
        Register OME-Zarr where it is, copying nothing; the path is then the server's.
    again : bool
        Import anew what was imported before; by default the existing representations are returned.
    server_path : bool
        The path is one that the server sees, below one of its import roots.
    connection : Connection, optional
        By default the current one.
    progress : callable, optional
        Called with (done, total) steps.
    cancelled : callable, optional
        Asked now and then; True stops, and leaves nothing of the image being imported. So does Ctrl-C.

    Returns
    -------
    list of Representation
        In the order of the series, labels last.

    Raises
    ------
    NotFoundError, InvalidArgumentError, UnsupportedError
        What is wrong with the file, see `larvik.formats.base.inspect_file`.
    SelectionError
        ``SERIES_NOT_FOUND``.
    """
    options = _options(sample, experiment, series, in_place, again)
    found = _connection(connection)
    records = _import_one(found, _text(path), options, server_path or in_place, progress, cancelled)
    return _rows(found, records)


def import_files(
    paths: Iterable[Path],
    *,
    sample: str | Sample | None = None,
    experiment: str | Experiment | None = None,
    series: int | Sequence[int] | None = None,
    in_place: bool = False,
    again: bool = False,
    server_path: bool = False,
    connection: Connection | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ImportResult:
    """Import many files: one that cannot be read leaves the others imported, and says why.

    Parameters are those of `import_file`, and hold for every path. Progress is told file by file.
    """
    from larvik.errors import CallCancelledError
    from larvik.services.import_options import Failure

    if isinstance(paths, str | os.PathLike):
        raise InvalidArgumentError("import_files takes many paths; use import_file for one.", field="paths")
    options = _options(sample, experiment, series, in_place, again)
    found = _connection(connection)
    result = ImportResult([], [])
    for path in map(_text, paths):
        try:
            records = _import_one(found, path, options, server_path or in_place, progress, cancelled)
            result.representations.extend(_rows(found, records))
        except CallCancelledError:
            raise
        except LarvikError as error:
            result.failures.append(Failure.of(path, error))
    return result


def _import_one(
    connection: Connection,
    path: str,
    options: ImportOptions,
    by_server: bool,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> list[Record]:
    if by_server:
        return connection.arrays.import_path(path, options.to_dict(), progress=progress)
    from larvik.services.import_flow import FileImport

    return FileImport(connection.catalog, connection.arrays, path, options, progress, cancelled).run()


def _options(sample: Any, experiment: Any, series: Any, in_place: bool, again: bool) -> ImportOptions:
    from larvik.models import Experiment, Sample
    from larvik.services.import_options import ImportOptions

    values: dict[str, object] = {"in_place": in_place, "again": again, "series": series}
    for name, value, kind in (("sample", sample, Sample), ("experiment", experiment, Experiment)):
        values[f"{name}_id" if isinstance(value, kind) else name] = (
            value.id if isinstance(value, kind) else value
        )
    return ImportOptions.of(values)


def _connection(given: Connection | None) -> Connection:
    from larvik.connection import alive, current

    return current() if given is None else alive(given)


def _rows(connection: Connection, records: Iterable[Record]) -> list[Representation]:
    from larvik.query.fetch import hydrate

    return [cast("Representation", hydrate(record, connection)) for record in records]


def _text(path: Path) -> str:
    where = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(where, str) or not where or "\0" in where:
        shown = repr(path)[:80]
        raise InvalidArgumentError(f"{shown} is no path of a file.", reason="PATH_INVALID", field="path")
    return where
