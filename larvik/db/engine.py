"""One database: its connections, transactions and the guard before every write.

SQLite runs in WAL mode; a write transaction takes the write lock when it begins, so it cannot fail
later. Connections never cross a fork: a child opens its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc, text
from sqlalchemy.engine import URL, make_url

from larvik.db.columns import json_text
from larvik.db.failures import translate
from larvik.db.tables import Tables
from larvik.errors import InternalError, InvalidArgumentError, LarvikError, UnavailableError
from larvik.schema import Registry

#: How long a writer waits for the write lock of SQLite, or a call for a free connection, in seconds.
BUSY_TIMEOUT_S = 15.0
_POOL = {"pool_size": 8, "max_overflow": 24, "pool_timeout": BUSY_TIMEOUT_S}
#: Rows of each index that SQLite looks at: a lower limit takes a type that half of all rows have for
#: a rare one, and a page that should take 1 ms takes 1 s. A million rows take 0.2 s.
_ANALYSIS = "PRAGMA analysis_limit=100000"
_DML = re.compile(r"\s*(insert|update|delete|replace|merge|truncate|copy|with)\b", re.IGNORECASE)
_HIDDEN_DML = re.compile(
    r"\b(insert\s+into|(?<!for )update|delete\s+from|(replace|merge)\s+into)\b", re.IGNORECASE
)
_WRITES = "larvik_writes"


class Database:
    """The rows of one Larvik, on SQLite or PostgreSQL. Threads share it; each call takes a connection.

    Attributes
    ----------
    dialect : str
        ``sqlite`` or ``postgresql``.
    registry : Registry
        The models whose rows are stored here.
    tables : Tables
        Their tables.
    observers : list of callable
        Called with the text of every statement, before it runs.
    """

    def __init__(self, url: URL, registry: Registry) -> None:
        self.url = url
        self.dialect = url.get_backend_name()
        self.registry = registry
        self.tables = Tables(registry)
        self.observers: list[Callable[[str], None]] = []
        self._pid = os.getpid()
        self._engine = self._open()
        self._left_behind: list[Engine] = []

    @property
    def path(self) -> Path | None:
        """The SQLite file; None on PostgreSQL."""
        return Path(self.url.database or "") if self.dialect == "sqlite" else None

    @property
    def engine(self) -> Engine:
        """The engine of this process; a forked child gets a fresh one."""
        if os.getpid() != self._pid:
            # Kept, so that the child never closes what the parent uses.
            self._left_behind.append(self._engine)
            self._engine, self._pid = self._open(), os.getpid()
        return self._engine

    def _open(self) -> Engine:
        options: dict[str, Any] = {"json_serializer": json_text, **_POOL}
        if self.dialect == "sqlite":
            options["connect_args"] = {
                "timeout": BUSY_TIMEOUT_S,
                "isolation_level": None,
                "check_same_thread": False,
            }
        else:
            options["pool_pre_ping"] = True
            options["connect_args"] = {"application_name": "larvik", "connect_timeout": 10}
        try:
            engine = create_engine(self.url, **options)
        except ImportError as error:
            raise InvalidArgumentError(
                "PostgreSQL needs optional packages: pip install 'larvik[postgres]'.", reason="EXTRA_MISSING"
            ) from error
        self._listen(engine)
        return engine

    def _listen(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "handle_error", _handle)
        if self.dialect == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)

    def _before(
        self, connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        for observer in self.observers:
            observer(statement)
        if _DML.match(statement):
            self._guard(connection, statement, context)

    def _guard(self, connection: Connection, statement: str, context: Any) -> None:
        """Refuse to write rows of models outside a unit of work, whoever tries."""
        allowed = connection.get_execution_options().get(_WRITES)
        if allowed == "models":
            return
        if statement.lstrip()[:4].lower() == "with" and not _HIDDEN_DML.search(statement):
            return
        compiled = context.compiled if context is not None else None
        table = getattr(getattr(compiled, "statement", None), "table", None)
        if allowed == "internal" and table is not None and not self.tables.is_model(table.name):
            return
        raise InternalError(
            f"Rows are written through a unit of work alone, not by {statement.split()[0].upper()}."
        )

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection where every statement is a snapshot of its own."""
        with self._connection() as connection:
            if self.dialect == "postgresql":
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    @contextlib.contextmanager
    def write(self, kind: str = "internal") -> Iterator[Connection]:
        """Give a connection in a transaction, committed at the end, rolled back on an error.

        Parameters
        ----------
        kind : {"internal", "models"}
            What may be written: Larvik's own tables, or everything. Only a unit of work asks for
            ``models``.
        """
        with self._connection() as connection:
            connection = connection.execution_options(**{_WRITES: kind})
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            connection = self.engine.connect()
        except exc.TimeoutError as error:
            raise UnavailableError(
                "All connections to the database are in use. Try again.", reason="DATABASE_BUSY"
            ) from error
        with connection:
            yield connection

    def observe(self, statement: str) -> None:
        """Tell the observers about a statement that runs elsewhere."""
        for observer in self.observers:
            observer(statement)

    def analyze(self) -> None:
        """Refresh the statistics that the planner chooses by; call after many rows were written."""
        with self._connection() as connection:
            if self.dialect == "sqlite":
                connection.execute(text(_ANALYSIS))
                connection.execute(text("ANALYZE"))
            else:
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                # VACUUM sets the visibility map, without which counts cannot use an index alone.
                connection.execute(text("VACUUM (ANALYZE)"))

    def close(self) -> None:
        """Close every connection; idempotent."""
        if os.getpid() != self._pid:
            return
        if self.dialect == "sqlite":
            with contextlib.suppress(LarvikError, exc.SQLAlchemyError), self._connection() as connection:
                connection.execute(text(_ANALYSIS))
                connection.execute(text("PRAGMA optimize"))
        self._engine.dispose()


def open_database(url: str, registry: Registry) -> Database:
    """Open a database; nothing is read or created yet.

    Parameters
    ----------
    url : str
        ``sqlite:////absolute/path.sqlite`` or ``postgresql+psycopg://user:password@host/name``.
    registry : Registry
        The models whose rows it stores.

    Raises
    ------
    InvalidArgumentError
        ``DATABASE_URL_INVALID``.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError, TypeError):
        backend = ""
    if backend == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    elif backend != "sqlite" or parsed.database in (None, "", ":memory:") or "\0" in url:
        raise InvalidArgumentError(
            "A database URL is sqlite:////absolute/path.sqlite or postgresql+psycopg://user:password@host/name.",
            reason="DATABASE_URL_INVALID",
        )
    return Database(parsed, registry)


def _handle(context: Any) -> None:
    """Raise our error for the driver's."""
    error = translate(context.original_exception)
    if error is not None:
        raise error from context.original_exception


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    _enter_wal(connection)
    # FULL: what was acknowledged also survives a power cut, as the fsynced arrays do (2 ms a commit).
    for pragma in ("foreign_keys=ON", "synchronous=FULL", "cache_size=-32000", "trusted_schema=OFF"):
        connection.execute(f"PRAGMA {pragma}")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, once in its life; SQLite does not wait for others who do the same."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once; reading needs no transaction, each statement is a snapshot."""
    if connection.get_execution_options().get(_WRITES) is None:
        return
    try:
        connection.connection.driver_connection.execute("BEGIN IMMEDIATE")  # type: ignore[union-attr]
    except sqlite3.Error as error:
        raise translate(error) or error from error
