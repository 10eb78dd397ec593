"""The unit of work: the only way rows of models are written, user models included.

One transaction. It sets ids, times, revisions and owners, checks values, references and rules,
keeps the scopes of arrays, and notes which arrays' group copies of the metadata are behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, delete, insert, update

from larvik.db import dirty, selects
from larvik.db.changes import Changes
from larvik.db.compiler import Compiler
from larvik.db.engine import Database
from larvik.db.failures import RETRY
from larvik.db.lookups import has_id
from larvik.db.objects import Objects
from larvik.db.ordering import Rights
from larvik.db.rules import RULES, Context
from larvik.db.scope import Scopes
from larvik.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    LarvikError,
    PreconditionError,
)
from larvik.ids import parse_id
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Query, Record
from larvik.schema import ModelSpec

T = TypeVar("T")
Row = dict[str, Any]

#: Most rows of one call of `create`.
MAX_ROWS = 100_000
#: Rows that are changed by one statement.
_CHUNK = 5000
_ATTEMPTS = 4


class UnitOfWork:
    """Writes rows in one transaction, committed when the block ends, rolled back on an error.

    Parameters
    ----------
    database : Database
        Where.
    subject_id : str, optional
        Who writes: becomes ``created_by`` and ``owner`` of new rows.
    rights : callable, optional
        Restricts the rows that `update_many` and `delete_many` find.

    Attributes
    ----------
    connection : Connection
        The transaction, for what Larvik keeps beside models and must be stored together with rows.
    """

    def __init__(
        self, database: Database, subject_id: str | None = None, rights: Rights | None = None
    ) -> None:
        self._database = database
        self._subject_id = subject_id
        self._rights = rights
        self._changes = Changes(subject_id)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.connection: Connection = stack.enter_context(self._database.write("models"))
            self._stack = stack.pop_all()
        tables, dialect = self._database.tables, self._database.dialect
        self._objects = Objects(tables, dialect, self.connection)
        self._scopes = Scopes(tables, dialect, self.connection)
        #: Arrays that this unit has stored or counted up already, and owners of parts that it has not.
        self._fresh: set[str] = set()
        self._counted: set[str] = set()
        self._touched: set[str] = set()
        self._now = datetime.now(UTC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._count_owners()
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    # Creating

    def create(
        self,
        model: str,
        rows: Sequence[Mapping[str, object]],
        *,
        computed: Sequence[Mapping[str, object]] | None = None,
    ) -> list[Record]:
        """Store new rows; one with a stored id and the same content is returned as it is stored.

        Parameters
        ----------
        model : str
            Name of the model.
        rows : sequence of mapping
            Column values; what is left out gets its default.
        computed : sequence of mapping, optional
            For each row, the values of fields that Larvik sets (those of an array that was stored).

        Raises
        ------
        InvalidArgumentError
            ``FIELD_UNKNOWN``, ``FIELD_INVALID``, ``FIELD_MISSING``, ``FIELD_READ_ONLY``,
            ``ARRAY_REQUIRED``, ``SHAPE_MISMATCH``; names the field.
        NotFoundError
            ``OBJECT_NOT_FOUND``, for a reference to a row that is missing or in the trash.
        AlreadyExistsError
            ``OBJECT_EXISTS``, for an id or unique value that is taken by other content.
        """
        spec = self._database.registry.get(model)
        if len(rows) > MAX_ROWS:
            raise InvalidArgumentError(
                f"At most {MAX_ROWS} rows are stored at once.", reason="LIMIT_EXCEEDED"
            )
        extra = computed or [{}] * len(rows)
        whole = [
            self._changes.new_row(spec, row, more, self._now) for row, more in zip(rows, extra, strict=True)
        ]
        stored = self._objects.rows(spec, [row["id"] for row in whole])
        new = self._changes.unstored(spec, whole, stored)
        if new:
            columns = {column.name for column in spec.columns()}
            self._objects.check_targets(spec, new, columns, self._fresh)
            self._apply_rules(spec, new, columns, is_new=True)
            self.connection.execute(insert(self._database.tables.of(model)), new)
            self._after_create(spec, new)
        written = {row["id"]: row for row in new}
        return [Record(model, written.get(row["id"]) or stored[row["id"]]) for row in whole]

    def find_or_create(self, model: str, key: Mapping[str, object], defaults: Mapping[str, object]) -> Record:
        """Return the row whose columns are `key`, or a new one with `key` and `defaults`."""
        conditions = tuple(Compare((name,), Lookup.EXACT, value) for name, value in key.items())
        found = selects.ids(self._compiler, self.connection, Query(model, conditions, limit=1))
        if found:
            return Record(model, self._objects.one(self._database.registry.get(model), found[0]))
        return self.create(model, [{**key, **defaults}])[0]

    def _after_create(self, spec: ModelSpec, rows: Sequence[Row]) -> None:
        self._fresh.update(row["id"] for row in rows)
        self._touch_owners(spec, rows)
        if spec.is_array:
            scopes = self._scopes.refresh(spec, [row["id"] for row in rows])
            for row in rows:
                row["scope_id"] = scopes.get(row["id"], row["scope_id"])

    # Changing

    def update(
        self,
        model: str,
        id: str,
        changes: Mapping[str, object],
        revision: int | None = None,
        *,
        computed: Mapping[str, object] | None = None,
    ) -> Record:
        """Change one row; with `revision`, only if that is still the stored one.

        A change to what is stored already changes nothing, so that a repeated call succeeds.

        Raises
        ------
        ConflictError
            ``REVISION_STALE``; ``metadata["revision"]`` is the stored one.
        NotFoundError
            ``OBJECT_NOT_FOUND``.
        PreconditionError
            ``OBJECT_TRASHED``.
        """
        spec = self._database.registry.get(model)
        new = self._changes.checked(spec, changes, computed or {})
        row = self._objects.one(spec, parse_id(id), lock=True)
        if not self._changes.differing(spec, [row], new):
            return Record(model, row)
        if revision is not None and revision != row["revision"]:
            raise ConflictError(
                f"The {model} was changed by somebody else: it has revision {row['revision']}, you read"
                f" {revision}. Read it again, then change it.",
                revision=row["revision"],
                model=model,
                id=row["id"],
            )
        _refuse_trashed(spec, row)
        return Record(model, self._store(spec, [row], new)[0])

    def update_many(self, query: Query, changes: Mapping[str, object]) -> int:
        """Change every row of `query`; return how many rows it has."""
        spec = self._database.registry.get(query.model)
        new = self._changes.checked(spec, changes, {})
        found = selects.ids(self._compiler, self.connection, query, lock=self._locks)
        for start in range(0, len(found), _CHUNK):
            rows = self._objects.rows(spec, found[start : start + _CHUNK])
            differing = self._changes.differing(spec, list(rows.values()), new)
            for row in differing:
                _refuse_trashed(spec, row)
            if differing:
                self._store(spec, differing, new)
        return len(found)

    def _store(self, spec: ModelSpec, rows: list[Row], changes: Row) -> list[Row]:
        """Write the same `changes` into `rows`; return them whole, as they are stored now."""
        table = self._database.tables.of(spec.name)
        whole = [{**row, **changes, "revision": row["revision"] + 1, "updated_at": self._now} for row in rows]
        self._objects.check_targets(spec, whole, set(changes), self._fresh)
        derived = self._apply_rules(spec, whole, set(changes), is_new=False)
        ids = [row["id"] for row in rows]
        values = {**changes, **{name: whole[0][name] for name in derived}}
        statement = update(table).where(has_id(self._database.dialect, table.c.id, ids))
        self.connection.execute(
            statement.values(**values, updated_at=self._now, revision=table.c.revision + 1)
        )
        self._after_update(spec, whole, set(changes))
        return whole

    def _after_update(self, spec: ModelSpec, rows: Sequence[Row], changed: set[str]) -> None:
        ids = [row["id"] for row in rows]
        self._touch_owners(spec, rows)
        moved = {relation.column for relation in spec.relations} & changed
        if spec.is_array:
            self._counted.update(ids)
            self._mark(spec, [key for key in ids if key not in self._fresh])
            scopes = self._scopes.refresh(spec, ids) if moved else {}
            for row in rows:
                row["scope_id"] = scopes.get(row["id"], row["scope_id"])
        elif moved:
            self._scopes.moved(spec, ids)

    def _apply_rules(
        self, spec: ModelSpec, rows: Sequence[Row], columns: set[str], *, is_new: bool
    ) -> set[str]:
        """Run the rules of the model; return the derived columns that they may have set."""
        rule = RULES.get(spec.name)
        if rule is None or not rule.columns & columns:
            return set()
        rule.apply(Context(self._database.tables, self._database.dialect, self.connection, is_new), rows)
        return set(rule.derived)

    # Trash

    def delete(self, model: str, id: str) -> Record:
        """Move a row to the trash; what has none (parts, subjects, teams) is removed for good."""
        return self._delete(self._database.registry.get(model), [parse_id(id)])[0]

    def delete_many(self, query: Query) -> int:
        """Move every row of `query` to the trash; return how many."""
        spec = self._database.registry.get(query.model)
        found = selects.ids(self._compiler, self.connection, query, lock=self._locks)
        for start in range(0, len(found), _CHUNK):
            self._delete(spec, found[start : start + _CHUNK])
        return len(found)

    def restore(self, model: str, id: str) -> Record:
        """Bring a row back from the trash; one that is not there is returned as it is."""
        spec = self._database.registry.get(model)
        row = self._objects.one(spec, parse_id(id), lock=True)
        if row.get("deleted_at") is None:
            return Record(model, row)
        return Record(model, self._store(spec, [row], {"deleted_at": None})[0])

    def purge(self, model: str, ids: Sequence[str]) -> list[Record]:
        """Remove rows for good, with their parts and what the models' on-delete rules take along.

        Returns
        -------
        list of Record
            Every row that is gone, so that the caller can remove the bytes of arrays.

        Raises
        ------
        PreconditionError
            ``OBJECT_REFERENCED``, when a row that points here protects it.
        """
        spec = self._database.registry.get(model)
        gone = self._objects.with_dependents(spec, [parse_id(id) for id in ids])
        for other, rows in reversed(gone):
            keys = [row["id"] for row in rows]
            self._touch_owners(other, rows)
            for part in self._objects.parts_of(other):
                self._remove(part, part_of=keys)
            self._remove(other, keys=keys)
            dirty.forget(self._database.tables, self._database.dialect, self.connection, keys)
        return [Record(other.name, row) for other, rows in gone for row in rows]

    def _delete(self, spec: ModelSpec, ids: Sequence[str]) -> list[Record]:
        if spec.field("deleted_at") is None:
            self._objects.require(spec, ids)
            return [record for record in self.purge(spec.name, ids) if record.model == spec.name]
        rows = self._objects.require(spec, ids, lock=self._locks)
        live = [row for row in rows if row["deleted_at"] is None]
        trashed = (
            {row["id"]: row for row in self._store(spec, live, {"deleted_at": self._now})} if live else {}
        )
        return [Record(spec.name, trashed.get(row["id"], row)) for row in rows]

    def _remove(self, spec: ModelSpec, *, keys: Sequence[str] = (), part_of: Sequence[str] = ()) -> None:
        table = self._database.tables.of(spec.name)
        column, ids = (table.c.object_id, part_of) if part_of else (table.c.id, keys)
        self.connection.execute(delete(table).where(has_id(self._database.dialect, column, ids)))

    # What hangs together

    @property
    def _compiler(self) -> Compiler:
        """A compiler for one statement."""
        return Compiler(self._database.tables, self._database.dialect, self._rights)

    @property
    def _locks(self) -> bool:
        """Whether rows are locked one by one; on SQLite the whole database is."""
        return self._database.dialect == "postgresql"

    def _touch_owners(self, spec: ModelSpec, rows: Sequence[Row]) -> None:
        if spec.is_part:
            self._touched.update(row["object_id"] for row in rows)

    def _count_owners(self) -> None:
        """Count up the revision of arrays whose parts changed, once for the whole unit."""
        waiting = self._touched - self._fresh - self._counted
        if not waiting:
            return
        for spec in self._database.registry:
            if spec.is_array:
                table = self._database.tables.of(spec.name)
                statement = update(table).where(has_id(self._database.dialect, table.c.id, waiting))
                statement = statement.values(revision=table.c.revision + 1, updated_at=self._now)
                self._mark(spec, list(self.connection.execute(statement.returning(table.c.id)).scalars()))

    def _mark(self, spec: ModelSpec, ids: Sequence[str]) -> None:
        if ids:
            dirty.mark(self._database.tables, self._database.dialect, self.connection, spec, ids, self._now)


def _refuse_trashed(spec: ModelSpec, row: Row) -> None:
    if row.get("deleted_at") is not None:
        raise PreconditionError(
            f"The {spec.name} {row['id']} is in the trash. Restore it, then change it.",
            reason="OBJECT_TRASHED",
            model=spec.name,
            id=row["id"],
        )


def transact(
    database: Database,
    subject_id: str | None,
    function: Callable[[UnitOfWork], T],
    rights: Rights | None = None,
) -> T:
    """Return what `function` makes of a unit of work; tried again when two transactions met.

    Two callers that create the same id at the same moment both succeed: the second finds the row.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with UnitOfWork(database, subject_id, rights) as work:
                return function(work)
        except LarvikError as error:
            taken_meanwhile = (
                isinstance(error, AlreadyExistsError) and error.__cause__ is not None and attempt == 1
            )
            if attempt == _ATTEMPTS or not (error.reason == RETRY or taken_meanwhile):
                raise
    raise AssertionError("unreachable")
