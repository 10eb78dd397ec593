"""Upload sessions in SQL: what an array that does not exist yet will be, and where its bytes go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from larvik.db.engine import Database
from larvik.db.lookups import has_id


@dataclass(frozen=True, slots=True)
class UploadSession:
    """One session.

    Attributes
    ----------
    id : str
        Also the id that the array will have.
    model : str
        Name of the array's model.
    subject_id : str or None
        Who began it.
    location : str
        Group below the store's root that its bytes go to.
    created_at, touched_at : datetime
        When it began; when something was last written.
    content : dict
        JSON: columns of the row, spec, rows that are stored with it.
    """

    id: str
    model: str
    subject_id: str | None
    location: str
    created_at: datetime
    touched_at: datetime
    content: dict[str, Any]


class UploadSessions:
    """The sessions of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = database.tables.upload

    def add(self, session: UploadSession, connection: Connection) -> None:
        """Store a new session in the transaction of `connection`.

        Raises
        ------
        AlreadyExistsError
            ``OBJECT_EXISTS``, when there is one with the id; waits for whoever is just adding it.
        """
        row = {
            "id": session.id, "array_id": session.id, "model": session.model, "content": session.content,
            "subject_id": session.subject_id, "location": session.location,
            "created_at": session.created_at, "touched_at": session.touched_at,
        }  # fmt: skip
        connection.execute(insert(self._table).values(row))

    def get(self, id: str) -> UploadSession | None:
        """Return the session, or None without it."""
        with self._database.read() as connection:
            row = connection.execute(select(self._table).where(self._table.c.id == id)).one_or_none()
        return None if row is None else _session(row._mapping)

    def owner(self, id: str) -> tuple[str | None, datetime, datetime] | None:
        """Return who began the session, when, and when it was last touched; None without it. No content."""
        columns = self._table.c
        statement = select(columns.subject_id, columns.created_at, columns.touched_at)
        with self._database.read() as connection:
            row = connection.execute(statement.where(columns.id == id)).one_or_none()
        return None if row is None else (row.subject_id, row.created_at, row.touched_at)

    def touch(self, id: str) -> None:
        """Note that something was written now."""
        with self._database.write() as connection:
            connection.execute(
                update(self._table).where(self._table.c.id == id).values(touched_at=datetime.now(UTC))
            )

    def remove(self, id: str, connection: Connection | None = None) -> bool:
        """Remove the session, in the transaction of `connection` when given; False when it is gone already.

        Of several who end a session at once, on whatever hosts, one alone is told True.
        """
        statement = delete(self._table).where(self._table.c.id == id)
        if connection is not None:
            return bool(connection.execute(statement).rowcount)
        with self._database.write() as own:
            return bool(own.execute(statement).rowcount)

    def untouched_since(self, moment: datetime) -> list[UploadSession]:
        """Return the sessions that nothing was written to since `moment`, oldest first."""
        statement = (
            select(self._table).where(self._table.c.touched_at < moment).order_by(self._table.c.touched_at)
        )
        with self._database.read() as connection:
            return [_session(row._mapping) for row in connection.execute(statement)]

    def known(self, ids: Iterable[str]) -> set[str]:
        """Return those of `ids` that a session, or an array of any model and even in the trash, has."""
        wanted = list(ids)
        tables = [self._database.tables.of(spec.name) for spec in self._database.registry if spec.is_array]
        found: set[str] = set()
        with self._database.read() as connection:
            # Sessions first: a commit in between has stored the array's row by the time rows are looked at.
            for table in (self._table, *tables):
                condition = has_id(self._database.dialect, table.c.id, wanted)
                found.update(connection.execute(select(table.c.id).where(condition)).scalars())
        return found


def _session(row: Any) -> UploadSession:
    names = ("id", "model", "subject_id", "location", "created_at", "touched_at", "content")
    return UploadSession(**{name: row[name] for name in names})
