"""Importing one file: inspect, find what is there already, stream the pixels of the rest into uploads.

Works on any connection's catalog and arrays: the process that sees the file reads it, wherever the
rows and pixels go.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from larvik.array.spec import ArraySpec
from larvik.errors import CallCancelledError, LarvikError, SelectionError
from larvik.formats.base import SeriesInfo, SeriesSource, file_name, inspect_file, is_url, open_series
from larvik.ids import new_id
from larvik.query.query import Record
from larvik.services.digests import file_digest, store_digest
from larvik.services.import_options import Cancelled, Failure, ImportOptions, ImportOutcome, Progress
from larvik.services.import_parents import Original, Parents, Rows, find_original, find_parents
from larvik.services.sending import BlockUploads, send_blocks
from larvik.storage.base import open_store

Along = dict[str, list[dict[str, Any]]]


class Uploads(BlockUploads, Protocol):
    """The part of a connection's arrays that an import needs."""

    def begin(
        self, model: str, values: Mapping[str, object], spec: ArraySpec,
        biometa: Mapping[str, Sequence[Mapping[str, object]]],
    ) -> Any:  # fmt: skip
        """Open a session."""

    def commit(self, upload: Any, *, progress: Any = None, cancelled: Any = None) -> Record:
        """Make the array visible."""

    def abort(self, upload: Any) -> None:
        """Drop the session."""


def import_all(
    rows: Rows,
    uploads: Uploads,
    paths: Sequence[str],
    options: ImportOptions,
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ImportOutcome:
    """Import every path; one that fails leaves the others imported, and says why.

    Raises
    ------
    CallCancelledError
        When `cancelled` says so: what was whole by then stays, the rest leaves nothing.
    """
    outcome = ImportOutcome()
    for path in paths:
        work = FileImport(rows, uploads, path, options, progress, cancelled)
        try:
            work.run()
        except CallCancelledError:
            raise
        except LarvikError as error:
            outcome.failures.append(Failure.of(path, error))
        outcome.records += work.records
    return outcome


class FileImport:
    """The import of one file.

    Attributes
    ----------
    records : list of Record
        Rows of its images so far, made or found.
    """

    def __init__(
        self,
        rows: Rows,
        uploads: Uploads,
        path: str,
        options: ImportOptions,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> None:
        self._rows = rows
        self._uploads = uploads
        self._path = path
        self._options = options
        self._progress = progress
        self._cancelled = cancelled
        self._done = self._total = 0
        self.records: list[Record] = []

    def run(self) -> list[Record]:
        """Import the chosen series, images before their labels; return their rows."""
        chosen = choose(self._path, inspect_file(self._path), self._options.series)
        original = find_original(self._rows, identify(self._path, chosen[0], cancelled=self._cancelled))
        parents = find_parents(self._rows, self._options, file_name(self._path).partition(".")[0])
        made: dict[int, str] = {}
        self._total = sum(max(info.nbytes, 1) for info in chosen)
        for info in chosen:
            known = None if self._options.again else original.images.get(info.index)
            record = known or self._import(info, original, parents, made)
            made[info.index] = str(record.values["id"])
            self.records.append(record)
            self._advance(info, 1.0, is_end=True)
        return self.records

    def _import(
        self, info: SeriesInfo, original: Original, parents: Parents, made: Mapping[int, str]
    ) -> Record:
        with open_series(self._path, info.index) as source:
            values, along = describe(source, original, parents, made)
            upload = self._uploads.begin("Representation", values, source.spec, along)
            try:
                send_blocks(
                    self._uploads,
                    upload,
                    source.read,
                    advance=lambda share: self._advance(info, 0.75 * share),
                    cancelled=self._cancelled,
                )
                record = self._uploads.commit(
                    upload,
                    progress=lambda done, total: self._advance(info, 0.75 + 0.25 * done / max(total, 1)),
                    cancelled=self._cancelled,
                )
            except BaseException:  # Ctrl-C included: the session must not outlive the import
                with suppress(LarvikError):
                    self._uploads.abort(upload)
                raise
        # What came along is stored now; the next series refers to it.
        parents.new.clear()
        original.is_new = False
        return record

    def _advance(self, info: SeriesInfo, fraction: float, *, is_end: bool = False) -> None:
        """Tell the progress in bytes of the file's series; pyramids count as a quarter of the work."""
        size = max(info.nbytes, 1)
        if self._progress is not None:
            self._progress(self._done + int(size * fraction), self._total)
        if is_end:
            self._done += size


def identify(
    path: str, info: SeriesInfo, *, in_place: bool = False, cancelled: Cancelled | None = None
) -> dict[str, object]:
    """Return the columns of the File that `path` is: name, format, size and digest.

    The content of what is registered in place, or is in an object store, is not read for it: names and
    sizes of its objects, and its metadata, are its identity.
    """
    if is_url(path) or in_place:
        digest, size = store_digest(open_store(path))
    else:
        digest, size = file_digest(Path(path), cancelled=cancelled)
    return {"name": file_name(path), "format": info.format, "size_bytes": size, "digest": digest}


def choose(path: str, found: Sequence[SeriesInfo], wanted: Sequence[int] | None) -> list[SeriesInfo]:
    """Return the series to import, each after the image that it labels.

    Raises
    ------
    SelectionError
        ``SERIES_NOT_FOUND``; names file and series.
    """
    known = {info.index: info for info in found}
    for index in wanted or ():
        if index not in known:
            raise SelectionError(
                f"{file_name(path)} has no series {index}; it has {len(known)}, counted from 0.",
                reason="SERIES_NOT_FOUND",
                file=file_name(path),
                series=index,
            )
    indices = list(dict.fromkeys(wanted)) if wanted else list(known)
    return sorted((known[index] for index in indices), key=lambda info: info.parent is not None)


def describe(
    source: SeriesSource, original: Original, parents: Parents, made: Mapping[int, str]
) -> tuple[dict[str, object], Along]:
    """Return the columns of a new Representation, and the rows that are stored with it."""
    info = source.info
    series, is_new_series = original.series_row(info.index, info.name, info.to_dict())
    along: Along = {model: [dict(row) for row in some] for model, some in parents.new.items()}
    if original.is_new:
        along["File"] = [original.file]
    if is_new_series:
        along["Series"] = [series]
    along.update(source.biometa.rows())
    pairs = {"plate": info.plate, "well": info.well, "field": info.field}
    if any(value is not None for value in pairs.values()):
        along["KeyValue"] = [
            {"key": key, "value": str(value)} for key, value in pairs.items() if value is not None
        ]
    is_label = info.kind == "label" or info.parent is not None
    parent_id = made.get(info.parent) if info.parent is not None else None
    if parent_id is None and info.parent in original.images:
        parent_id = str(original.images[info.parent].values["id"])
    values: dict[str, object] = {
        "id": new_id(),
        "name": (info.name or os.path.basename(file_name(str(original.file["name"]))))[:400],
        "type": "label" if is_label else "initial",
        "kind": info.kind,
        "sample_id": parents.sample_id,
        "series_id": series["id"],
        "parent_id": parent_id,
        "acquired_at": source.acquired_at,
        "acquired_local": source.acquired_local,
        "attributes": dict(source.attributes) or None,
    }
    return values, along
