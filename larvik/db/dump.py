"""Every table of a database as Parquet files, portable between databases; and back into an empty one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    LargeBinary,
    Table,
    func,
    insert,
    select,
    update,
)

from larvik.db.columns import Json, JsonList, Timestamp, json_text
from larvik.db.engine import Database
from larvik.db.schema_state import create_schema, has_tables
from larvik.errors import InvalidArgumentError, PreconditionError

#: Tables that are not carried over: sessions end with the store that their bytes are in.
LEFT_OUT = frozenset({"upload", "schema_package", "larvik_store"})
_BATCH = 5000


@contextlib.contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """Give a connection whose every statement sees the database at one moment."""
    with database.read() as connection:
        if database.dialect == "postgresql":
            yield connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            return
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN")
        try:
            yield connection
        finally:
            driver.execute("ROLLBACK")


def dump_tables(database: Database, connection: Connection, folder: Path) -> dict[str, int]:
    """Write one Parquet file for each table into `folder`; return the number of rows by table."""
    counts = {}
    for table in _tables(database):
        columns = list(table.c)
        schema = pa.schema([(column.name, _arrow_type(column)) for column in columns])
        rows = connection.execution_options(stream_results=True).execute(select(table).order_by(columns[0]))
        counts[table.name] = 0
        with pq.ParquetWriter(folder / f"{table.name}.parquet", schema, compression="zstd") as writer:
            for some in rows.partitions(_BATCH):
                arrays = [
                    pa.array([_portable(column, row[number]) for row in some], schema.field(number).type)
                    for number, column in enumerate(columns)
                ]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                counts[table.name] += len(some)
    return counts


def check_empty(database: Database) -> None:
    """Refuse a database that holds rows.

    Raises
    ------
    PreconditionError
        ``DATABASE_NOT_EMPTY``.
    """
    with database.read() as connection:
        if not has_tables(connection, database.dialect):
            return
        for table in _tables(database):
            if connection.execute(select(func.count()).select_from(table)).scalar_one():
                raise PreconditionError(
                    "The database holds rows already. Restore into an empty folder and an empty database.",
                    reason="DATABASE_NOT_EMPTY",
                )


def load_tables(database: Database, folder: Path, expected: object) -> dict[str, int]:
    """Make the tables and store the rows that `dump_tables` wrote, in one transaction; return their numbers.

    `expected` are the numbers that `dump_tables` returned.

    Raises
    ------
    InvalidArgumentError
        ``BACKUP_INVALID``, when a file is missing, damaged, of other columns or of fewer rows.
    """
    create_schema(database)
    counts = {}
    with database.write("models") as connection:
        for table in _tables(database):
            counts[table.name] = _load(connection, table, folder / f"{table.name}.parquet")
        if counts != expected:
            raise _invalid("it does not hold as many rows as it says")
    return counts


def raise_revision(database: Database, model: str, array_id: str, revision: int) -> None:
    """Set the revision of an array's row, whose group has a later one than the restored row."""
    table = database.tables.of(model)
    with database.write("models") as connection:
        connection.execute(update(table).where(table.c.id == array_id).values(revision=revision))


def _load(connection: Connection, table: Table, file: Path) -> int:
    own = [column for column in table.c if any(key.column.table is table for key in column.foreign_keys)]
    count = 0
    try:
        with pq.ParquetFile(file) as stored:
            if stored.schema_arrow.names != [column.name for column in table.c]:
                raise _invalid(f"{file.name} has other columns than this Larvik's")
            for batch in stored.iter_batches(_BATCH):
                rows = [_row(table, row) for row in batch.to_pylist()]
                # References inside the table come when every row is there.
                connection.execute(insert(table), [{**row, **{c.name: None for c in own}} for row in rows])
                count += len(rows)
            for batch in stored.iter_batches(_BATCH) if own else ():
                for row in batch.to_pylist():
                    links = {column.name: row[column.name] for column in own if row[column.name] is not None}
                    if links:
                        connection.execute(update(table).where(table.c.id == row["id"]).values(links))
    except (pa.ArrowException, OSError) as error:
        raise _invalid(f"{file.name} is missing or damaged") from error
    return count


def _tables(database: Database) -> list[Table]:
    return [table for table in database.tables.metadata.sorted_tables if table.name not in LEFT_OUT]


def _arrow_type(column: Column[Any]) -> pa.DataType:
    for kind, arrow in (
        (Timestamp, pa.timestamp("us", "UTC")), (LargeBinary, pa.large_binary()), (Boolean, pa.bool_()),
        (BigInteger, pa.int64()), (Double, pa.float64()),
    ):  # fmt: skip
        if isinstance(column.type, kind):
            return arrow
    return pa.large_string()


def _portable(column: Column[Any], value: Any) -> Any:
    if value is None or not isinstance(column.type, Json):
        return value
    return json_text(value)


def _row(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    for column in table.c:
        if isinstance(column.type, Json) and row[column.name] is not None:
            value = json.loads(row[column.name])
            row[column.name] = tuple(value) if isinstance(column.type, JsonList) else value
    return row


def _invalid(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The backup cannot be restored: {problem}.", reason="BACKUP_INVALID")
