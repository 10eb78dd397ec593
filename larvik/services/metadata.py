"""The group's copy of the metadata: made at commit, rewritten after edits; the database is its truth."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from larvik.array.spec import ArraySpec
from larvik.biometa.ome_write import to_ome_xml, why_not_ome
from larvik.biometa.tables import MODELS, Biometa
from larvik.db.dirty import DirtyArrays
from larvik.db.engine import Database
from larvik.db.whole_rows import whole_rows
from larvik.errors import LarvikError, NotFoundError
from larvik.storage.base import Store
from larvik.storage.group import GroupMetadata, channel_displays
from larvik.storage.ngff import read_group, update_metadata

logger = logging.getLogger(__name__)

#: How long the copier sleeps when nothing wakes it, in seconds: other processes write too.
POLL_S = 2.0
_BATCH = 100


def group_metadata(
    spec: ArraySpec, row: Mapping[str, Any], biometa: Mapping[str, Iterable[Mapping[str, Any]]]
) -> GroupMetadata:
    """Return what the group of an array says of its row and biometa.

    Parameters
    ----------
    spec : ArraySpec
        Of the array.
    row : mapping
        Columns of its row.
    biometa : mapping
        Rows of its parts by model name.
    """
    tables = Biometa.from_rows(biometa)
    ome_xml = None if why_not_ome(spec) else to_ome_xml(spec, tables, str(row["name"]))
    return GroupMetadata(
        name=str(row["name"]),
        channels=channel_displays(spec.channel_names, tables.channels),
        ome_xml=ome_xml,
        attributes=row["attributes"] or {},
        array_id=str(row["id"]),
        version=int(row["version"]),
        revision=int(row["revision"]),
    )


class MetadataCopier:
    """Rewrites the groups of arrays whose row or biometa was edited.

    Parameters
    ----------
    database, store : Database, Store
        Where rows and groups are.

    Notes
    -----
    Edits mark their arrays in their own transaction, so none is lost: `drain` works off the marks,
    in any process, as often as it likes; the last revision wins. `start` does so in the background.
    Once closed it stays closed.
    """

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self._dirty = DirtyArrays(database)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self, poll_s: float | None = POLL_S) -> None:
        """Work off marks in a background thread: when `wake` is called, and every `poll_s` seconds."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(
                    target=self._run, args=(poll_s,), name="larvik-metadata", daemon=True
                )
                self._thread.start()

    def wake(self) -> None:
        """Tell that something was edited; starts the thread when it does not run yet."""
        self._wake.set()
        self.start(None)

    def close(self) -> None:
        """Stop the thread and write what is left; marks of groups that fail stay for the next process."""
        with self._lock:
            self._stop.set()
            thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join()
            self._drain_quietly()

    def drain(self) -> int:
        """Rewrite every group that is behind; return how many. One that fails is left for next time."""
        written, failed = 0, set[str]()
        while pending := [
            mark for mark in self._dirty.pending(_BATCH + len(failed)) if mark.id not in failed
        ]:
            for mark in pending:
                try:
                    written += self.rewrite(mark.model, mark.id)
                    self._dirty.done(mark)
                except LarvikError as error:
                    failed.add(mark.id)
                    logger.warning("metadata.copy_failed array_id=%s reason=%s", mark.id, error.reason)
                except Exception:  # one row that we cannot write out must not end the copying of all others
                    failed.add(mark.id)
                    logger.exception("metadata.copy_failed array_id=%s reason=INTERNAL", mark.id)
        return written

    def rewrite(self, model: str, array_id: str) -> bool:
        """Rewrite the group of one array from the database; False when there is nothing to write to."""
        written = False
        while (expected := self.expected(model, array_id)) is not None:
            location, metadata = expected
            try:
                written |= update_metadata(self._store, location, metadata)
            except NotFoundError:
                return False  # `doctor` reports rows without bytes
            # Another process may have written a later revision before ours came: the last to write looks.
            row, _ = whole_rows(self._database, model, array_id, ())
            if row is None or row["revision"] == metadata.revision:
                break
        return written

    def is_stale(self, model: str, array_id: str) -> bool:
        """Tell whether the group's copy differs from what the database says; reads both."""
        expected = self.expected(model, array_id)
        if expected is None:
            return False
        location, metadata = expected
        there = read_group(self._store, location)
        return (there.revision, there.name, there.array_id) != (
            metadata.revision,
            metadata.name,
            metadata.array_id,
        )

    def expected(self, model: str, array_id: str) -> tuple[str, GroupMetadata] | None:
        """Return where an array that Larvik wrote is, and what its group should say; None for others."""
        row, parts = whole_rows(self._database, model, array_id, list(MODELS.values()))
        if row is None or row["is_registered"]:
            return None
        spec = ArraySpec.from_dict(row["spec"])
        return row["location"], group_metadata(spec, row, parts)

    def _run(self, poll_s: float | None) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._drain_quietly()
            self._wake.wait(poll_s)

    def _drain_quietly(self) -> None:
        try:
            self.drain()
        except LarvikError as error:
            logger.warning("metadata.drain_failed reason=%s", error.reason)
