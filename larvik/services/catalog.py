"""The catalog: queries and writes of rows, for a principal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from larvik.db import selects
from larvik.db.compiler import Compiler
from larvik.db.engine import Database
from larvik.db.ordering import Rights
from larvik.db.unit_of_work import UnitOfWork, transact
from larvik.query.query import Page, Query, Record
from larvik.schema import Registry
from larvik.services.principal import ADMIN, READ, WRITE, Principal

if TYPE_CHECKING:
    import pyarrow as pa

    from larvik.db.bulk import TableReader

T = TypeVar("T")

#: Models that only administrators write.
_ADMINISTERED = frozenset({"Subject", "Team"})


class CatalogService:
    """Rows of every model, as `larvik.connection.Catalog` describes it, with the principal first.

    Every call needs the scope ``read`` or ``write`` (PermissionDeniedError, ``SCOPE_MISSING``).
    Threads share one service.
    """

    def __init__(self, database: Database, registry: Registry) -> None:
        self.registry = registry
        self._database = database
        self._table_reader: TableReader | None = None
        self._lock = threading.Lock()

    def page(self, principal: Principal, query: Query, *, size: int = 100, token: str | None = None) -> Page:
        """Return one page of rows in order, at most 1000, and the token of the next; one SELECT."""
        compiler = self._compiler(principal)
        with self._database.read() as connection:
            return selects.page(compiler, connection, query, size, token)

    def count(self, principal: Principal, query: Query) -> int:
        """Return the number of rows; one SELECT."""
        compiler = self._compiler(principal)
        with self._database.read() as connection:
            return selects.count(compiler, connection, query)

    def table(self, principal: Principal, query: Query) -> pa.RecordBatchReader:
        """Return all rows in order, columnar, streamed; see `larvik.db.arrow_rows` for the types.

        One SELECT for few rows; two for many: the first tells that they are many.
        """
        return self._tables.read(self._compiler(principal), query)

    def table_schema(self, principal: Principal, query: Query) -> pa.Schema:
        """Return the schema of `table`; no statement."""
        return self._tables.schema(self._compiler(principal), query)

    def create(self, principal: Principal, model: str, rows: Sequence[Mapping[str, object]]) -> list[Record]:
        """Store rows in one transaction; a row with a stored id and the same content is returned as it is."""
        return self._write(principal, model, lambda work: work.create(model, rows))

    def update(
        self,
        principal: Principal,
        model: str,
        id: str,
        changes: Mapping[str, object],
        revision: int | None = None,
    ) -> Record:
        """Change one row; with `revision`, only if it is still the stored one (else ConflictError)."""
        return self._write(principal, model, lambda work: work.update(model, id, changes, revision))

    def update_many(self, principal: Principal, query: Query, changes: Mapping[str, object]) -> int:
        """Change every row of `query` in one transaction; return how many rows it has."""
        return self._write(principal, query.model, lambda work: work.update_many(query, changes))

    def delete(self, principal: Principal, model: str, id: str) -> Record:
        """Move a row to the trash (what has none is removed for good)."""
        return self._write(principal, model, lambda work: work.delete(model, id))

    def delete_many(self, principal: Principal, query: Query) -> int:
        """Move every row of `query` to the trash; return how many."""
        return self._write(principal, query.model, lambda work: work.delete_many(query))

    def restore(self, principal: Principal, model: str, id: str) -> Record:
        """Bring a row back from the trash."""
        return self._write(principal, model, lambda work: work.restore(model, id))

    def analyze(self) -> None:
        """Refresh the statistics that queries are planned by; call after an import."""
        self._database.analyze()

    def close(self) -> None:
        """End what reads tables; the database is its owner's to close. Idempotent."""
        if self._table_reader is not None:
            self._table_reader.close()

    @property
    def _tables(self) -> TableReader:
        """What reads tables; loads Arrow when it is first needed."""
        from larvik.db.bulk import TableReader

        with self._lock:
            if self._table_reader is None:
                self._table_reader = TableReader(self._database)
            return self._table_reader

    def _write(self, principal: Principal, model: str, function: Callable[[UnitOfWork], T]) -> T:
        principal.require(ADMIN if model in _ADMINISTERED else WRITE)
        return transact(self._database, principal.subject_id, function, self._rights(principal))

    def _compiler(self, principal: Principal) -> Compiler:
        principal.require(READ)
        return Compiler(self._database.tables, self._database.dialect, self._rights(principal))

    def _rights(self, principal: Principal) -> Rights | None:
        """Return which rows `principal` may see: for now all, with the scope ``read``.

        The one place where rights enter: what it returns becomes a condition of every SELECT, on
        the model asked for and on every model that its conditions pass through.
        """
        return None
