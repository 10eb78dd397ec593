"""Rows as they are stored, whatever anybody may see of them: for keeping copies, repair and backup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import func, select

from larvik.db.engine import Database

Row = dict[str, Any]


def whole_rows(
    database: Database, model: str, id: str, parts: Sequence[str]
) -> tuple[Row | None, dict[str, list[Row]]]:
    """Return one row, trash included, and its rows of the models `parts`; None when there is no such row."""
    table = database.tables.of(model)
    with database.read() as connection:
        row = connection.execute(select(table).where(table.c.id == id)).mappings().one_or_none()
        found: dict[str, list[Row]] = {}
        for part in parts if row is not None else ():
            there = database.tables.of(part)
            statement = select(there).where(there.c.object_id == id).order_by(there.c.id)
            found[part] = [dict(one) for one in connection.execute(statement).mappings()]
    return (None if row is None else dict(row)), found


def stored_columns(database: Database, model: str, columns: Sequence[str], size: int = 1000) -> Iterator[Row]:
    """Yield `columns` and ``id`` of every row of `model`, trash included, by id, page by page."""
    table = database.tables.of(model)
    chosen = [table.c[name] for name in dict.fromkeys(("id", *columns))]
    last: str | None = None
    while True:
        statement = select(*chosen).order_by(table.c.id).limit(size)
        if last is not None:
            statement = statement.where(table.c.id > last)
        with database.read() as connection:
            rows = connection.execute(statement).mappings().all()
        yield from (dict(row) for row in rows)
        if len(rows) < size:
            return
        last = rows[-1]["id"]


def bytes_by(database: Database, model: str, column: str) -> dict[str | None, tuple[int, int]]:
    """Return number and stored bytes of the rows of `model`, trash included, by the value of `column`."""
    table = database.tables.of(model)
    statement = select(
        table.c[column], func.count(), func.coalesce(func.sum(table.c.stored_bytes), 0)
    ).group_by(table.c[column])
    with database.read() as connection:
        return {key: (int(count), int(size)) for key, count, size in connection.execute(statement)}
