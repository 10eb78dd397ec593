"""Which arrays' group copies of the metadata are behind the database, which is their truth.

A mark is set in the transaction that changed a row or its parts; whoever rewrites the group clears
it, unless the row changed again meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from larvik.db.columns import TEXT, Timestamp
from larvik.db.engine import Database
from larvik.db.lookups import has_id
from larvik.db.tables import Tables
from larvik.schema import ModelSpec


@dataclass(frozen=True, slots=True)
class DirtyArray:
    """An array whose group is to be rewritten from its row, at this revision or a later one."""

    id: str
    model: str
    revision: int


def mark(
    tables: Tables, dialect: str, connection: Connection, spec: ModelSpec, ids: Sequence[str], now: datetime
) -> None:
    """Note that the groups of the arrays `ids` are behind; what is registered in place is never written."""
    table, target = tables.of(spec.name), tables.metadata_dirty
    behind = select(table.c.id, literal(spec.name, TEXT), table.c.revision, literal(now, Timestamp())).where(
        has_id(dialect, table.c.id, ids), table.c.is_registered.is_(False)
    )
    make = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = make(target).from_select(["array_id", "model", "revision", "marked_at"], behind)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[target.c.array_id], set_={"revision": statement.excluded.revision}
        )
    )


def forget(tables: Tables, dialect: str, connection: Connection, ids: Sequence[str]) -> None:
    """Drop the marks of arrays that are gone."""
    target = tables.metadata_dirty
    connection.execute(delete(target).where(has_id(dialect, target.c.array_id, ids)))


class DirtyArrays:
    """The marks, for whoever rewrites groups."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pending(self, limit: int = 100) -> list[DirtyArray]:
        """Return arrays to rewrite, the longest waiting first; one SELECT."""
        table = self._database.tables.metadata_dirty
        statement = select(table.c.array_id, table.c.model, table.c.revision).order_by(table.c.marked_at)
        with self._database.read() as connection:
            return [DirtyArray(*row) for row in connection.execute(statement.limit(limit))]

    def done(self, array: DirtyArray) -> None:
        """Clear the mark of `array`, unless its row changed since it was pending."""
        table = self._database.tables.metadata_dirty
        with self._database.write() as connection:
            connection.execute(
                delete(table).where(table.c.array_id == array.id, table.c.revision == array.revision)
            )
