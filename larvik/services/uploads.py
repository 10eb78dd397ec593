"""Upload sessions: how an array comes to be. Begin, write whole shards, commit; or nothing is left.

Bytes first, then one transaction that stores the row, everything that belongs to it, and ends the
session. The session's row is written before any byte, so whatever a crash leaves is known by name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from larvik import faults
from larvik.array.channel_names import MAX_CHANNELS
from larvik.array.spec import ArraySpec
from larvik.db.engine import Database
from larvik.db.unit_of_work import UnitOfWork, transact
from larvik.db.upload_sessions import UploadSession
from larvik.db.whole_rows import whole_rows
from larvik.errors import AlreadyExistsError, InvalidArgumentError, LarvikError
from larvik.ids import new_id, parse_id
from larvik.query.query import Record
from larvik.schema import ModelSpec
from larvik.services.locks import SessionLocks
from larvik.services.metadata import group_metadata
from larvik.services.principal import WRITE, Principal
from larvik.services.rows import Rows, row_from_json
from larvik.services.shards import ShardService, ended
from larvik.services.storing import session_content, store_session, try_storing
from larvik.storage.base import Store
from larvik.storage.inventory import array_location, delete_array
from larvik.storage.layout import plan_layout
from larvik.storage.writer import ArrayWriter

#: A session that nothing was written to for this long may be removed.
IDLE = timedelta(days=1)
_EXPIRE_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Begun:
    """An open session.

    ``spec`` has the grid that was chosen: blocks are the shards of level 0. ``document`` is the metadata of
    that level as JSON, which tells how chunks are encoded.
    """

    id: str
    model: str
    array_id: str
    spec: ArraySpec
    document: str


class UploadService(ShardService):
    """Opens, fills and ends upload sessions; takes what `ShardService` takes."""

    def __init__(
        self, database: Database, store: Store, locks: SessionLocks, *, decode_uploads: bool = True
    ) -> None:
        super().__init__(database, store, locks, decode_uploads=decode_uploads)
        self._expired_at = -_EXPIRE_EVERY_S
        self._committed_count = 0

    def begin(
        self, principal: Principal, model: str, values: Mapping[str, object], spec: ArraySpec, rows: Rows
    ) -> Begun:
        """Open a session for one new array; a repeated call finds the session that is there.

        Parameters
        ----------
        principal : Principal
            Who begins; nobody else writes to the session.
        model : str
            A model with an array.
        values : mapping
            Columns of its row. The id of the session is the id of the row.
        spec : ArraySpec
            Axes, dtype, shape, spacing, origin and coordinates; the grid is chosen here.
        rows : mapping
            Rows that are stored in the same transaction, by model: parts without ``object_id``
            (``Channel``, ``Tag``, ...), and whole rows of other models (``File``, ``Sample``, ...).

        Raises
        ------
        InvalidArgumentError
            ``MODEL_INVALID``, or what a create of these rows would raise, at once.
        AlreadyExistsError
            ``OBJECT_EXISTS``, when an array or a different session has the id.
        """
        principal.require(WRITE)
        array = self._array_model(model)
        array_id = parse_id(values.get("id") or new_id(), field="id")
        values = {**values, "id": array_id}
        if not spec.levels:
            raise InvalidArgumentError(
                "The spec has no level: it needs one, which says shape, spacing and origin.",
                reason="SHAPE_INVALID",
                field="levels",
            )
        planned = plan_layout(
            spec.dims, spec.shape, spec.dtype, spec.axes, spec.levels[0].spacing, spec.levels[0].origin,
            spec.coordinates, _channel_names(spec, rows), kind=str(values.get("kind") or "intensity"),
        )  # fmt: skip
        content = session_content(self._database.registry, array, values, planned, rows)
        kind = content["values"].get("kind") or "intensity"
        writer = ArrayWriter(self._store, array_location(array_id), planned, kind=kind)
        begun = Begun(array_id, model, array_id, planned, json.dumps(writer.document))
        with self._locks.exclusive(array_id):
            known = self._sessions.get(array_id) or self._add(principal, model, array_id, content)
            self._own.add(array_id)
            if known is not None:
                self._check_same(principal, known, model, content)
                self._sessions.touch(array_id)
                return begun
        self._expire_now_and_then()
        faults.reach("uploads.begun")
        return begun

    def commit(
        self,
        principal: Principal,
        upload_id: str,
        *,
        progress: Callable[[int, int], object] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Record:
        """Build the levels, then store the row and what belongs to it in one transaction; return the row.

        A repeated commit, whose first answer was lost, returns the row.

        Raises
        ------
        PreconditionError
            ``ARRAY_INCOMPLETE``, when blocks are missing.
        NotFoundError
            ``UPLOAD_NOT_FOUND``.
        CallCancelledError
            When `cancelled` says so; the session stays.
        """
        upload_id = parse_id(upload_id, field="upload")
        self._builder.forget(upload_id)  # what it has not built, all threads build now
        with self._locks.exclusive(upload_id):
            session = self._sessions.get(upload_id)
            if session is None:
                self._locks.remove(upload_id)
                return self._committed(principal, upload_id)
            self._check_owner(principal, upload_id)
            writer = self._session(upload_id, session.created_at).writer
            row = self._row(session)
            metadata = group_metadata(writer.spec, row, session.content["rows"])
            stored_bytes = writer.finish(metadata=metadata, progress=progress, cancelled=cancelled)
            faults.reach("uploads.finished")
            record = transact(
                self._database, session.subject_id, lambda work: self._store_row(work, session, stored_bytes)
            ) or self._committed(principal, upload_id)
            faults.reach("uploads.row.committed")
            self._forget(upload_id)
        self._refresh_statistics()
        return record

    def abort(self, principal: Principal, upload_id: str) -> None:
        """Drop the session and its bytes; nothing happens when it ended."""
        principal.require(WRITE)
        upload_id = parse_id(upload_id, field="upload")
        with self._locks.exclusive(upload_id):
            session = self._sessions.get(upload_id)
            if session is None:
                self._locks.remove(upload_id)
            else:
                self._check_owner(principal, upload_id)
                self._drop(session)

    def idle(self, since: datetime | None = None, *, spare_own: bool = False) -> list[UploadSession]:
        """Return the sessions that nothing was written to since `since`, by default for a day.

        With `spare_own`, those that this process works on are idle after a day, whatever `since` says.
        """
        a_day_ago, spared = datetime.now(UTC) - IDLE, self._own if spare_own else ()
        found = self._sessions.untouched_since(since or a_day_ago)
        return [one for one in found if one.touched_at < a_day_ago or one.id not in spared]

    def is_own(self, upload_id: str) -> bool:
        """Tell whether this process began or filled the session, and has not ended it."""
        return upload_id in self._own

    def expire(self, since: datetime | None = None, *, spare_own: bool = False) -> list[UploadSession]:
        """Drop sessions that are idle as `idle` says and that nobody is working on, and their bytes."""
        dropped = []
        for session in self.idle(since, spare_own=spare_own):
            self._builder.forget(session.id)
            self._builder.wait(session.id)  # for one shard at most
            with self._locks.if_free(session.id) as free:
                now = self._sessions.owner(session.id) if free else None
                if now is not None and now[1:] == (session.created_at, session.touched_at):
                    self._drop(session)
                    dropped.append(session)
        return dropped

    def _expire_now_and_then(self) -> None:
        with self._lock:
            is_due = time.monotonic() - self._expired_at > _EXPIRE_EVERY_S
            self._expired_at = time.monotonic() if is_due else self._expired_at
        if is_due:
            with suppress(LarvikError):  # whoever begins a session need not care for others'
                self.expire()

    def _refresh_statistics(self) -> None:
        """Let SQLite plan by what is stored now: after the 1st, 2nd, 4th, ... and each 1000th array."""
        with self._lock:
            self._committed_count += 1
            count = self._committed_count
        if self._database.dialect == "sqlite" and (count & (count - 1) == 0 or count % 1000 == 0):
            with suppress(LarvikError):
                self._database.analyze()

    # Beginning

    def _array_model(self, model: str) -> ModelSpec:
        spec = self._database.registry.get(model)
        if not spec.is_array:
            raise InvalidArgumentError(f"{model} has no array.", reason="MODEL_INVALID", model=model)
        return spec

    def _add(
        self, principal: Principal, model: str, array_id: str, content: dict[str, Any]
    ) -> UploadSession | None:
        """Store a new session; return the one that was begun on another host meanwhile, if so."""
        if self._sessions.known([array_id]):
            raise AlreadyExistsError(f"There is an array {array_id} already.", model=model, id=array_id)
        now = datetime.now(UTC)
        session = UploadSession(
            array_id, model, principal.subject_id, array_location(array_id), now, now, content
        )
        try_storing(self._database, session)
        try:
            with self._database.write() as connection:
                self._sessions.add(session, connection)
                # What a crash left of an earlier session must not count as written. Before the session
                # can be seen, and only by who adds it: nobody has written to it yet.
                self._store.delete_prefix(session.location)
        except AlreadyExistsError:
            meanwhile = self._sessions.get(array_id)
            if meanwhile is None:
                raise
            return meanwhile
        return None

    def _check_same(
        self, principal: Principal, known: UploadSession, model: str, content: Mapping[str, Any]
    ) -> None:
        self._check_owner(principal, known.id)
        asked = (known.model, known.content["values"], known.content["spec"])
        if asked != (model, content["values"], content["spec"]):
            raise AlreadyExistsError(
                f"There is an upload session of {known.id} with other content. Abort it, or take a new id.",
                model=model,
                id=known.id,
            )

    def _drop(self, session: UploadSession) -> None:
        """Remove a session, then its bytes; what a crash between leaves has no row, and `doctor` frees it."""
        if self._sessions.remove(session.id):  # else it was ended on another host: its bytes may be a row's
            delete_array(self._store, session.location)
        self._forget(session.id)

    # Ending

    def _row(self, session: UploadSession) -> dict[str, Any]:
        """Return the columns that the group's copy needs."""
        values = row_from_json(self._database.registry.get(session.model), session.content["values"])
        return {"name": "", "attributes": None, "version": 1, "revision": 1, **values}

    def _store_row(self, work: UnitOfWork, session: UploadSession, stored_bytes: int) -> Record | None:
        """End the session and store its row; None when it was ended on another host meanwhile."""
        if not self._sessions.remove(session.id, work.connection):
            return None
        return store_session(work, self._database.registry, session, stored_bytes)

    def _committed(self, principal: Principal, upload_id: str) -> Record:
        """Return the row of a session that was committed before by `principal`."""
        principal.require(WRITE)
        for spec in self._database.registry:
            if spec.is_array:
                row, _ = whole_rows(self._database, spec.name, upload_id, ())
                if row is not None and row["created_by_id"] == principal.subject_id:
                    return Record(spec.name, row)
        raise ended(upload_id)


def _channel_names(spec: ArraySpec, rows: Rows) -> tuple[str, ...]:
    if spec.channel_names or "c" not in spec.dims:
        return spec.channel_names
    names = {row.get("index"): row.get("name") for row in rows.get("Channel", ())}
    size = min(spec.shape[spec.dims.index("c")], MAX_CHANNELS)  # planning the layout refuses more
    return tuple(str(names.get(index) or "") for index in range(size))
