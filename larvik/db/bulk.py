"""Whole tables as Arrow: few rows through SQLAlchemy at once, many through ADBC, streamed.

The first rows are fetched in the ordinary way; a small result is complete then, after one
statement and without loading a driver. A larger one is read again from its start by ADBC: in this
process on PostgreSQL, in one of its own on SQLite (`larvik.db.sqlite_reader` says why).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from sqlalchemy import Select

from larvik.db import selects
from larvik.db.arrow_rows import arrow_schema, from_rows, to_arrow, wire_column
from larvik.db.compiler import Compiler
from larvik.db.engine import Database
from larvik.db.failures import translate
from larvik.db.reader_process import ReaderProcesses
from larvik.errors import LarvikError, UnavailableError, UnsupportedError
from larvik.query.query import Query
from larvik.schema import FieldSpec

#: A result of at most so many rows is fetched at once, without ADBC.
SMALL = 2000
#: About the size of one record batch, in bytes.
BATCH_BYTES = 4 * 2**20
_MAX_BATCH_ROWS = 65_536


class TableReader:
    """Reads queries of one database as Arrow."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._processes = ReaderProcesses()
        self._lock = threading.Lock()
        self._adbc: tuple[int, Any] | None = None

    def schema(self, compiler: Compiler, query: Query) -> pa.Schema:
        """Return the schema of the table of `query`; reads nothing."""
        spec = compiler.tables.registry.get(query.model)
        return arrow_schema(selects.chosen(compiler, spec, query.columns))

    def read(self, compiler: Compiler, query: Query) -> pa.RecordBatchReader:
        """Return all rows of `query` in order, streamed in batches of a few MiB.

        Closing the reader, or dropping it, stops the statement.

        Raises
        ------
        InvalidArgumentError
            What compiling raises.
        """
        statement, pairs = selects.whole(compiler, query)
        fields = [field for field, _ in pairs]
        statement = statement.add_columns(*(wire_column(self._database.dialect, *pair) for pair in pairs))
        schema = arrow_schema(fields)
        first = SMALL + 1 if query.limit is None else min(query.limit, SMALL + 1)
        with self._database.read() as connection:
            rows = connection.execute(statement.limit(first)).all()
        head = from_rows(fields, schema, rows)
        if len(rows) <= SMALL:
            return pa.RecordBatchReader.from_batches(schema, [head])
        size = max(1, head.nbytes // len(rows))
        batches = self._large(fields, schema, statement, max(64, min(_MAX_BATCH_ROWS, BATCH_BYTES // size)))
        return pa.RecordBatchReader.from_batches(schema, batches)

    def close(self) -> None:
        """End the reading processes; idempotent."""
        self._processes.close()
        with self._lock:
            adbc, self._adbc = self._adbc, None
        if adbc is not None and adbc[0] == os.getpid():
            adbc[1].close()

    def _large(
        self, fields: list[FieldSpec], schema: pa.Schema, statement: Select[Any], batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        found = (
            self._sqlite(statement, batch_rows)
            if self._database.dialect == "sqlite"
            else self._postgres(statement)
        )
        for batch in found:
            yield to_arrow(fields, schema, batch)

    def _sqlite(self, statement: Select[Any], batch_rows: int) -> Iterator[pa.RecordBatch]:
        dialect = self._database.engine.dialect
        compiled = statement.compile(dialect=dialect)
        parameters = []
        for name in compiled.positiontup or ():
            bind = compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
            value = compiled.params[name]
            parameters.append(value if bind is None else bind(value))
        self._database.observe(str(compiled))
        path = self._database.path
        assert path is not None
        yield from self._processes.stream(str(path.absolute()), str(compiled), parameters, batch_rows)

    def _postgres(self, statement: Select[Any]) -> Iterator[pa.RecordBatch]:
        from adbc_driver_manager import Error
        from adbc_driver_manager import _lib as adbc

        text = self._rendered(statement)
        self._database.observe(text)
        try:
            with (
                adbc.AdbcConnection(self._adbc_database()) as connection,
                adbc.AdbcStatement(connection) as query,
            ):
                query.set_sql_query(text)
                query.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
                handle, _ = query.execute_query()
                with pa.RecordBatchReader._import_from_c(handle.address) as batches:
                    yield from batches
        except (Error, pa.ArrowException, OSError) as error:
            raise _failed(error) from error

    def _rendered(self, statement: Select[Any]) -> str:
        """Return `statement` with its values quoted by psycopg: COPY, which ADBC reads from, binds none."""
        import psycopg

        with self._database.read() as connection:
            compiled = statement.compile(dialect=connection.dialect)
            values: dict[str, Any] = {}
            for name, value in compiled.params.items():
                bind = (
                    compiled.binds[name]
                    .type.dialect_impl(connection.dialect)
                    .bind_processor(connection.dialect)
                )
                values[name] = value if bind is None else bind(value)
            cursor: Any = psycopg.ClientCursor(connection.connection.driver_connection)  # type: ignore[arg-type]  # psycopg's own
            return str(cursor.mogrify(str(compiled), values))

    def _adbc_database(self) -> Any:
        with self._lock:
            if self._adbc is None or self._adbc[0] != os.getpid():
                try:
                    import adbc_driver_postgresql
                    from adbc_driver_manager import _lib as adbc
                except ImportError as error:
                    raise UnsupportedError(
                        "Large tables on PostgreSQL need optional packages: pip install 'larvik[postgres]'.",
                        reason="EXTRA_MISSING",
                    ) from error
                uri = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
                driver = adbc_driver_postgresql._driver_path()
                self._adbc = os.getpid(), adbc.AdbcDatabase(driver=driver, uri=uri)
            return self._adbc[1]


def _failed(error: BaseException) -> LarvikError:
    return translate(error) or UnavailableError(
        "The database broke off while rows were read. Try again.", reason="DATABASE_UNREACHABLE"
    )
