"""The tables of user packages: what their models have and the database lacks is added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Index, Table, text
from sqlalchemy.schema import CreateColumn

from larvik.db.tables import Tables
from larvik.errors import PreconditionError


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to add."""

    text: str
    item: Table | Index | Column[Any]

    def apply(self, connection: Connection) -> None:
        """Add it."""
        if isinstance(self.item, Column):
            connection.execute(text(_add_column(connection, self.item)))
        else:
            self.item.create(connection)


def package_steps(connection: Connection, tables: Tables) -> list[Step]:
    """Return what to add so that the tables of user packages are as their models want them.

    Raises
    ------
    PreconditionError
        ``SCHEMA_CHANGE_UNSUPPORTED``, for any other difference; names it.
    """
    names = {
        table.name
        for package in {spec.package for spec in tables.registry} - {"larvik"}
        for table in tables.of_package(package)
    }
    if not names:
        return []
    context = MigrationContext.configure(
        connection, opts={"include_name": lambda name, kind, parents: kind != "table" or name in names}
    )
    mine = [diff for diff in _flat(compare_metadata(context, tables.metadata)) if _table_name(diff) in names]
    new = {diff[1].name for diff in mine if diff[0] == "add_table"}
    steps = (_step(diff, tables.metadata.tables[_table_name(diff)], new) for diff in mine)
    return [step for step in steps if step is not None]


def _flat(diffs: Iterable[Any]) -> Iterator[Any]:
    for diff in diffs:
        if isinstance(diff, list):
            yield from diff
        else:
            yield diff


def _table_name(diff: Any) -> str:
    if diff[0] in {"add_table", "remove_table"}:
        return str(diff[1].name)
    if diff[0] in {"add_column", "remove_column"} or diff[0].startswith("modify_"):
        return str(diff[2])
    return str(diff[1].table.name)


def _step(diff: Any, table: Table, new: set[str]) -> Step | None:
    """Return how `table`, as its model wants it, comes about; Alembic's own copies lack indexes."""
    kind = diff[0]
    if kind == "add_table":
        return Step(f"Create the table {table.name}.", table)
    if kind == "add_index":
        index = next(index for index in table.indexes if index.name == diff[1].name)
        return None if table.name in new else Step(f"Create the index {index.name}.", index)
    if kind == "add_column":
        column = table.c[diff[3].name]
        if not column.nullable:
            raise _refused(
                table.name, f"the new column {column.name} is required; make it nullable or start a new model"
            )
        return Step(f"Add the column {column.name} to the table {table.name}.", column)
    if (kind == "remove_column" and diff[3].nullable) or kind in {"remove_index", "add_fk"}:
        return None  # what a model no longer has stays where it is; a new column brings its reference along
    raise _refused(table.name, kind.replace("_", " "))


def _refused(table: str, problem: str) -> PreconditionError:
    return PreconditionError(
        f"The table {table} cannot follow its model: {problem}. Larvik adds tables, indexes and columns that"
        " may be empty; anything else is to be done by hand.",
        reason="SCHEMA_CHANGE_UNSUPPORTED",
        table=table,
    )


def _add_column(connection: Connection, column: Column[Any]) -> str:
    prepare = connection.dialect.identifier_preparer
    definition = str(CreateColumn(column).compile(dialect=connection.dialect))
    for key in column.foreign_keys:
        target = prepare.quote(key.column.table.name)
        definition += f" REFERENCES {target} (id) ON DELETE {key.ondelete}"
    return f"ALTER TABLE {prepare.quote(column.table.name)} ADD COLUMN {definition}"
