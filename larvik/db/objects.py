"""Rows as a unit of work reads them: whole, by id, with what they refer to and what depends on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, select, union_all

from larvik.db.lookups import has_id
from larvik.db.tables import Tables
from larvik.errors import NotFoundError
from larvik.schema import ModelSpec, OnDelete

Row = dict[str, Any]


class Objects:
    """The rows of one database, inside one transaction."""

    def __init__(self, tables: Tables, dialect: str, connection: Connection) -> None:
        self._tables = tables
        self._dialect = dialect
        self._connection = connection

    def rows(
        self, spec: ModelSpec, ids: Iterable[str], *, column: str = "id", lock: bool = False
    ) -> dict[str, Row]:
        """Return the rows of `spec` whose `column` is one of `ids`, by id; one SELECT."""
        table = self._tables.of(spec.name)
        columns = [table.c[field.name] for field in spec.columns()]
        statement = select(*columns).where(has_id(self._dialect, table.c[column], ids))
        if lock and self._dialect == "postgresql":
            statement = statement.order_by(table.c.id).with_for_update()
        return {row["id"]: dict(row) for row in self._connection.execute(statement).mappings()}

    def require(self, spec: ModelSpec, ids: Sequence[str], *, lock: bool = False) -> list[Row]:
        """Return the rows of `spec` with `ids`, in that order.

        Raises
        ------
        NotFoundError
            ``OBJECT_NOT_FOUND``; names the first that is missing.
        """
        found = self.rows(spec, ids, lock=lock)
        for id in ids:
            if id not in found:
                raise NotFoundError(f"There is no {spec.name} {id}.", model=spec.name, id=id)
        return [found[id] for id in ids]

    def one(self, spec: ModelSpec, id: str, *, lock: bool = False) -> Row:
        """Return the row of `spec` with `id`; raises as `require`."""
        return self.require(spec, [id], lock=lock)[0]

    # What rows refer to

    def check_targets(self, spec: ModelSpec, rows: Sequence[Row], columns: set[str], fresh: set[str]) -> None:
        """Check that what `rows` refer to by `columns` is there and not in the trash.

        A row may refer to one before it in `rows`. `fresh` are ids that were stored in this unit.

        Raises
        ------
        NotFoundError
            ``OBJECT_NOT_FOUND``; ``metadata["field"]`` names the relation.
        """
        for relation in spec.relations:
            if relation.column not in columns or relation.read_only:
                continue
            target = self._tables.registry.get(relation.target)
            own = relation.target == spec.name
            wanted = {row[relation.column] for row in rows} - {None}
            live = self._live([target], wanted)
            for row in rows:
                key = row[relation.column]
                if key is not None and key not in live:
                    raise _missing(spec, relation.name, relation.target, key)
                if own:
                    live.add(row["id"])
        if spec.is_part and "object_id" in columns:
            self._check_owners(spec, rows, fresh)

    def _check_owners(self, spec: ModelSpec, rows: Sequence[Row], fresh: set[str]) -> None:
        wanted = {row["object_id"] for row in rows} - fresh
        only_arrays = (spec.part_of or "").startswith("biometa__")
        owners = [s for s in self._tables.registry if not s.is_part and (s.is_array or not only_arrays)]
        gone = wanted - self._live(owners, wanted)
        if gone:
            raise _missing(spec, "object_id", "array" if only_arrays else "object", min(gone))

    def _live(self, specs: Sequence[ModelSpec], ids: set[str]) -> set[str]:
        """Return those of `ids` that are rows of `specs` and not in the trash; one SELECT."""
        if not ids or not specs:
            return set()
        parts = []
        for spec in specs:
            table = self._tables.of(spec.name)
            statement = select(table.c.id).where(has_id(self._dialect, table.c.id, ids))
            if "deleted_at" in table.c:
                statement = statement.where(table.c.deleted_at.is_(None))
            parts.append(statement)
        statement = parts[0] if len(parts) == 1 else union_all(*parts)  # type: ignore[assignment]  # both give ids
        return set(self._connection.execute(statement).scalars())

    # What depends on rows

    def parts_of(self, spec: ModelSpec) -> Iterator[ModelSpec]:
        """Yield the models whose rows may be parts of rows of `spec`."""
        for reverse in self._tables.registry.reverses(spec.name).values():
            if reverse.generic:
                yield self._tables.registry.get(reverse.model)

    def with_dependents(self, spec: ModelSpec, ids: Sequence[str]) -> list[tuple[ModelSpec, list[Row]]]:
        """Return the rows `ids` of `spec`, then all that go when they go, model by model."""
        found: list[tuple[ModelSpec, list[Row]]] = []
        seen: set[str] = set()
        waiting = [(spec, list(self.rows(spec, ids, lock=True).values()))]
        while waiting:
            model, rows = waiting.pop(0)
            rows = [row for row in rows if row["id"] not in seen]
            if not rows:
                continue
            seen.update(row["id"] for row in rows)
            found.append((model, rows))
            for other in self._tables.registry:
                for relation in other.relations:
                    if relation.target == model.name and relation.on_delete is OnDelete.CASCADE:
                        keys = [row["id"] for row in rows]
                        waiting.append((other, list(self.rows(other, keys, column=relation.column).values())))
        return found


def _missing(spec: ModelSpec, name: str, target: str, id: str) -> NotFoundError:
    return NotFoundError(
        f"{spec.name}.{name} refers to the {target} {id}, which does not exist or is in the trash.",
        field=f"{spec.name}.{name}",
        id=id,
    )
