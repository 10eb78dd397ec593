"""Measurement tables: rows in one Parquet file of the store, columns and types in the database."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from larvik.db.engine import Database
from larvik.db.unit_of_work import transact
from larvik.db.whole_rows import whole_rows
from larvik.errors import (
    AlreadyExistsError,
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from larvik.ids import new_id, parse_id
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Query, Record
from larvik.services.catalog import CatalogService
from larvik.services.principal import READ, WRITE, Principal
from larvik.storage.base import Store

if TYPE_CHECKING:
    import pyarrow as pa

#: Folder of the Parquet files, below the store's root.
TABLES = "tables"
#: Most columns, and most bytes in memory, of one table.
MAX_COLUMNS, MAX_BYTES = 10_000, 4 << 30
#: Bytes at the end of a Parquet file that are read at once; its metadata mostly fit.
FOOTER_BYTES = 64 << 10


def table_location(table_id: str) -> str:
    """Return the key of the Parquet file of a table."""
    return f"{TABLES}/{table_id[-2:]}/{table_id}.parquet"


class TableService:
    """Stores and reads measurement tables. Thread-safe."""

    def __init__(self, database: Database, catalog: CatalogService, store: Store) -> None:
        self._database = database
        self._catalog = catalog
        self._store = store

    def write(self, principal: Principal, values: Mapping[str, object], rows: pa.Table) -> Record:
        """Store a table and return its row of model ``Table``; visible only when it is whole.

        Parameters
        ----------
        principal : Principal
            Who stores it.
        values : mapping
            Columns of the row; the id, when given, makes a repeated call harmless.
        rows : pyarrow.Table
            The measurements.

        Raises
        ------
        InvalidArgumentError
            ``TABLE_INVALID``, for column names that repeat or types that Parquet cannot hold.
        AlreadyExistsError
            ``OBJECT_EXISTS``, for an id that is taken.
        """
        principal.require(WRITE)
        table_id = parse_id(values.get("id") or new_id(), field="id")
        data = _parquet(rows)
        location = table_location(table_id)
        if whole_rows(self._database, "Table", table_id, ())[0] is None:
            self._store.write(location, data)
        computed = {
            "columns": {field.name: str(field.type) for field in rows.schema},
            "num_rows": rows.num_rows,
            "location": location,
            "stored_bytes": len(data),
        }
        record = transact(
            self._database,
            principal.subject_id,
            lambda work: work.create("Table", [{**values, "id": table_id}], computed=[computed])[0],
        )
        if any(record.values[name] != value for name, value in computed.items()):
            raise AlreadyExistsError(
                f"There is a Table {table_id} with other rows.", model="Table", id=table_id
            )
        return record

    def read(self, principal: Principal, table_id: str) -> pa.Table:
        """Return the rows of a table.

        Raises
        ------
        NotFoundError
            ``OBJECT_NOT_FOUND``, also when `principal` may not read it.
        DataLossError
            ``TABLE_CORRUPT``, when the stored file is missing or damaged.
        """
        import pyarrow.parquet as pq

        location = self._location(principal, table_id)
        with _damage_named(table_id):
            return pq.read_table(io.BytesIO(self._store.read(location)))

    def schema(self, principal: Principal, table_id: str) -> pa.Schema:
        """Return the schema of a table from the end of its file, without its rows; raises as `read`."""
        import pyarrow.parquet as pq

        location = self._location(principal, table_id)
        with _damage_named(table_id):
            return pq.read_schema(io.BytesIO(self._footer(location)))

    def _footer(self, location: str) -> bytes:
        """Return the metadata of a Parquet file: it ends with them, their length and four more bytes."""
        size = self._store.size(location) or 0
        start = max(0, size - FOOTER_BYTES)
        tail = self._store.read(location, start, size - start)
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if len(tail) < length <= size:
            tail = self._store.read(location, size - length, length)
        return tail

    def _location(self, principal: Principal, table_id: str) -> str:
        principal.require(READ)
        record = self._found(principal, parse_id(table_id, field="table"))
        if record is None:
            raise NotFoundError(f"There is no Table {table_id}.", model="Table", id=table_id)
        return str(record.values["location"])

    def _found(self, principal: Principal, table_id: str) -> Record | None:
        query = Query("Table", where=(Compare(("id",), Lookup.EXACT, table_id),))
        return next(iter(self._catalog.page(principal, query, size=1).records), None)


@contextmanager
def _damage_named(table_id: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (UnavailableError, PermissionDeniedError):
        raise  # both are OSErrors too, but of the store: the rows may be whole
    except (pa.ArrowException, OSError, NotFoundError) as error:
        raise DataLossError(
            f"The rows of table {table_id} are missing or damaged. Restore them from a backup.",
            reason="TABLE_CORRUPT",
            table_id=table_id,
        ) from error


def _parquet(rows: pa.Table) -> memoryview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = rows.schema.names
    repeated = (
        next((name for name in names if names.count(name) > 1), None)
        if len(set(names)) < len(names)
        else None
    )
    if repeated is not None or len(names) > MAX_COLUMNS or any("\0" in name for name in names):
        problem = (
            f"the column {repeated!r} is there twice"
            if repeated is not None
            else "its column names are unusable"
        )
        raise InvalidArgumentError(
            f"The table cannot be stored: {problem}.", reason="TABLE_INVALID", field="rows"
        )
    if rows.nbytes > MAX_BYTES:
        raise InvalidArgumentError(
            f"The table has {rows.nbytes} bytes; at most {MAX_BYTES} fit. Store it in parts.",
            reason="TABLE_INVALID",
            field="rows",
        )
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(rows, sink, compression="zstd")
    except (pa.ArrowException, ValueError) as error:
        raise InvalidArgumentError(
            f"The table has a column that Parquet cannot hold: {str(error)[:200]}.",
            reason="TABLE_INVALID",
            field="rows",
        ) from error
    return memoryview(sink.getvalue())
