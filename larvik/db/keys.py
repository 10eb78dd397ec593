"""API keys as they are stored: a hash, never the secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from larvik.db.engine import Database


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One key.

    Attributes
    ----------
    id : str
        Public part of the token, by which it is found.
    hash : bytes
        SHA-256 of the whole token.
    is_preset : bool
        Whether it came from the settings rather than from Larvik.
    """

    id: str
    subject_id: str
    name: str
    hash: bytes
    scopes: tuple[str, ...]
    is_preset: bool
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """A key with the subject that it belongs to."""

    key: StoredKey
    name: str
    kind: str


class Keys:
    """The keys of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = database.tables.api_key

    def find(self, id: str) -> KeyOwner | None:
        """Return the key called `id`, revoked and expired ones too; one SELECT."""
        subject = self._database.tables.of("Subject")
        statement = select(*self._table.c, subject.c.name.label("subject"), subject.c.kind).join(
            subject, subject.c.id == self._table.c.subject_id
        )
        with self._database.read() as connection:
            row = connection.execute(statement.where(self._table.c.id == id)).mappings().one_or_none()
        return None if row is None else KeyOwner(_key(row), row["subject"], row["kind"])

    def list(self) -> list[StoredKey]:
        """Return every key, oldest first; one SELECT."""
        with self._database.read() as connection:
            rows = connection.execute(select(self._table).order_by(self._table.c.created_at)).mappings()
            return [_key(row) for row in rows]

    def subject_id(self, name: str) -> str | None:
        """Return the id of the subject called `name`, or None; one SELECT."""
        subject = self._database.tables.of("Subject")
        with self._database.read() as connection:
            found: str | None = connection.execute(
                select(subject.c.id).where(subject.c.name == name)
            ).scalar()
        return found

    def put(self, key: StoredKey) -> None:
        """Store `key`, in place of one with the same id; others may do so at the same time."""
        row = {column.name: getattr(key, column.name) for column in self._table.c}
        make = sqlite.insert if self._database.dialect == "sqlite" else postgresql.insert
        with self._database.write() as connection:
            statement = make(self._table).values(row)
            connection.execute(statement.on_conflict_do_update(index_elements=[self._table.c.id], set_=row))

    def revoke(self, id: str, now: datetime) -> bool:
        """Revoke the key `id`; False when there is none that still works."""
        with self._database.write() as connection:
            statement = update(self._table).where(self._table.c.id == id, self._table.c.revoked_at.is_(None))
            return bool(connection.execute(statement.values(revoked_at=now)).rowcount)

    def revoked(self, now: datetime) -> frozenset[str]:
        """Return the ids of the keys that no longer work; one SELECT."""
        column = self._table.c
        ended = or_(column.revoked_at.is_not(None), column.expires_at <= now)
        with self._database.read() as connection:
            return frozenset(connection.execute(select(column.id).where(ended)).scalars())


def _key(row: Any) -> StoredKey:
    return StoredKey(**{name: row[name] for name in StoredKey.__slots__})
