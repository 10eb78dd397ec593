"""Finds, and frees or repairs, what crashes and other programs leave behind. Rows are never deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from larvik.db.dirty import DirtyArrays
from larvik.db.upload_sessions import UploadSessions
from larvik.db.whole_rows import stored_columns, whole_rows
from larvik.errors import InvalidArgumentError, LarvikError
from larvik.ids import parse_id
from larvik.services.tables import TABLES
from larvik.services.uploads import IDLE
from larvik.storage.inventory import StoredArray, delete_array, list_arrays, stored_bytes
from larvik.storage.local import PARTIAL
from larvik.storage.ngff import fingerprint

if TYPE_CHECKING:
    from larvik.services.bundle import Services

#: Bytes without a row are left alone while they are younger: somebody may just be writing them.
GRACE = timedelta(minutes=10)


class Trouble(StrEnum):
    """What can be wrong."""

    IDLE_UPLOAD = "idle upload"  # a session that ended nowhere; fix: dropped with its bytes
    ORPHAN_ARRAY = "array without a row"  # fix: deleted
    ORPHAN_TABLE = "table without a row"  # fix: deleted
    PARTIAL_FILE = "partial file"  # an interrupted write inside a committed array; fix: deleted
    MISSING_BYTES = "row without bytes"  # reported only: restore a backup, or delete the row
    MISSING_SOURCE = "registered source is gone or changed"  # reported only
    STALE_METADATA = "stale copy of the metadata"  # fix: rewritten from the database
    DEAD_LOCK = "dead lock"  # fix: removed


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    trouble : Trouble
        What.
    subject : str
        Id of the array or session, or key in the store.
    message : str
        One sentence, with the cure where `fix` has none.
    size_bytes : int
        What it takes of the store.
    is_fixed : bool
        Whether it was freed or repaired just now.
    """

    trouble: Trouble
    subject: str
    message: str
    size_bytes: int = 0
    is_fixed: bool = False


class Doctor:
    """Examines the Larvik that `services` are open over."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._database = services.database
        self._store = services.store
        self._uploads = services.uploads
        self._locks = services.locks
        self._copier = services.copier
        self._roots = services.roots
        self._sessions = UploadSessions(services.database)

    def examine(
        self, *, fix: bool = False, idle: timedelta | None = None, grace: timedelta | None = None
    ) -> Iterator[Finding]:
        """Yield what is wrong, and with `fix` free or repair it.

        Parameters
        ----------
        fix : bool
            Whether to change anything.
        idle : timedelta, optional
            Sessions that nothing was written to for so long are dropped: a day. When no other process
            has the folder open, all of them are left behind. Those of this process are dropped after a
            day, never sooner.
        grace : timedelta, optional
            Bytes without a row are taken for left behind when they are older: 10 minutes, or any age when
            no other process has the folder open.
        """
        with self._services.alone() as is_alone:
            idle = idle if idle is not None else timedelta(0) if is_alone else IDLE
            grace = grace if grace is not None else timedelta(0) if is_alone else GRACE
            yield from self._idle_uploads(fix, idle)
            yield from self._orphans(fix, grace)
            yield from self._orphan_tables(fix, grace)
            yield from self._rows_without_bytes()
            yield from self._stale_metadata(fix)
            yield from self._dead_locks(fix)

    def _idle_uploads(self, fix: bool, idle: timedelta) -> Iterator[Finding]:
        since = datetime.now(UTC) - idle
        sessions = self._uploads.idle(since, spare_own=True)
        sizes = {one.id: stored_bytes(self._store, one.location) for one in sessions}
        dropped = {one.id for one in self._uploads.expire(since, spare_own=True)} if fix else set()
        for session in sessions:
            age = datetime.now(UTC) - session.touched_at
            message = f"An upload session of a {session.model} was left {_duration(age)} ago."
            yield Finding(Trouble.IDLE_UPLOAD, session.id, message, sizes[session.id], session.id in dropped)

    def _orphans(self, fix: bool, grace: timedelta) -> Iterator[Finding]:
        for stored in list_arrays(self._store):
            is_known = bool(self._sessions.known([stored.array_id])) if _is_id(stored.array_id) else False
            if is_known:
                if not self._uploads.is_own(stored.array_id):  # its writers are at work here
                    yield from self._partial_files(stored, fix, grace)
            elif _is_old(stored.modified, grace):
                fixed = fix and self._free(stored)
                message = "Bytes in the store belong to no row and no upload session."
                yield Finding(Trouble.ORPHAN_ARRAY, stored.location, message, stored.size_bytes, fixed)

    def _free(self, stored: StoredArray) -> bool:
        if not _is_id(stored.array_id):
            delete_array(self._store, stored.location)
            return True
        with self._locks.if_free(stored.array_id) as free:
            if not free or self._sessions.known([stored.array_id]):
                return False
            delete_array(self._store, stored.location)
            self._locks.remove(stored.array_id)
        return True

    def _partial_files(self, stored: StoredArray, fix: bool, grace: timedelta) -> Iterator[Finding]:
        for key in stored.partial:
            info = self._store.stat(key)
            if info is not None and _is_old(info.modified, grace):
                if fix:
                    self._store.delete(key)
                yield Finding(Trouble.PARTIAL_FILE, key, "A write was interrupted.", info.size, fix)

    def _orphan_tables(self, fix: bool, grace: timedelta) -> Iterator[Finding]:
        for key, size in list(self._store.list(TABLES)):
            table_id = key.rpartition("/")[2].partition(".")[0]
            info = self._store.stat(key)
            if info is None or not _is_old(info.modified, grace):
                continue
            partial = key.endswith(PARTIAL)
            if not partial and _is_id(table_id) and self._has_table(table_id):
                continue
            if fix:
                self._store.delete(key)
            trouble = Trouble.PARTIAL_FILE if partial else Trouble.ORPHAN_TABLE
            yield Finding(trouble, key, "A stored file belongs to no row.", size, fix)

    def _has_table(self, table_id: str) -> bool:
        return whole_rows(self._database, "Table", table_id, ())[0] is not None

    def _rows_without_bytes(self) -> Iterator[Finding]:
        for spec in self._database.registry:
            if spec.is_array:
                columns = ("location", "is_registered", "fingerprint")
                for row in stored_columns(self._database, spec.name, columns):
                    if row["is_registered"]:
                        yield from self._changed_source(row)
                    elif self._store.size(f"{row['location']}/zarr.json") is None:
                        message = (
                            f"The bytes of this {spec.name} are missing. Restore a backup, or delete the row."
                        )
                        yield Finding(Trouble.MISSING_BYTES, row["id"], message)
        for row in stored_columns(self._database, "Table", ("location",)):
            if self._store.size(row["location"]) is None:
                message = "The rows of this Table are missing. Restore a backup, or delete it."
                yield Finding(Trouble.MISSING_BYTES, row["id"], message)

    def _changed_source(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        try:
            store, location = self._roots.open(row["location"])
            if fingerprint(store, location) == row["fingerprint"]:
                return
            message = "The source that this array is read from was changed. Import it again."
        except LarvikError as error:
            message = f"The source that this array is read from cannot be read: {error.message}"
        yield Finding(Trouble.MISSING_SOURCE, row["id"], message)

    def _stale_metadata(self, fix: bool) -> Iterator[Finding]:
        marked = {mark.id for mark in DirtyArrays(self._database).pending(1_000_000)}
        for spec in self._database.registry:
            if not spec.is_array:
                continue
            for row in stored_columns(self._database, spec.name, ("is_registered",)):
                if not row["is_registered"] and (row["id"] in marked or self._differs(spec.name, row["id"])):
                    fixed = fix and self._rewritten(spec.name, row["id"])
                    message = "The group's copy of the metadata is not that of the database."
                    yield Finding(Trouble.STALE_METADATA, row["id"], message, 0, fixed)
        if fix:
            self._copier.drain()

    def _differs(self, model: str, array_id: str) -> bool:
        try:
            return self._copier.is_stale(model, array_id)
        except LarvikError:
            return False  # bytes that are missing or damaged are another finding

    def _rewritten(self, model: str, array_id: str) -> bool:
        try:
            return self._copier.rewrite(model, array_id)
        except LarvikError:
            return False

    def _dead_locks(self, fix: bool) -> Iterator[Finding]:
        for session in self._locks.sessions():
            if self._sessions.owner(session) is not None if _is_id(session) else False:
                continue
            with self._locks.if_free(session) as free:
                if free:
                    if fix:
                        self._locks.remove(session)
                    yield Finding(Trouble.DEAD_LOCK, session, "A lock of a session that ended.", 0, fix)


def _is_old(modified: float, grace: timedelta) -> bool:
    return time.time() - modified >= grace.total_seconds()


def _is_id(text: str) -> bool:
    try:
        return parse_id(text) == text
    except InvalidArgumentError:
        return False


def _duration(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours" if hours >= 1 else "minutes"
