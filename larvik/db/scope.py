"""The scope of arrays: the experiment whose rights apply, kept in the row of every array.

``scope_id`` is the experiment of what the row points at first: its experiment, else its sample's
(or group's), else the scope of the array it came from. A sample without an experiment is in that of
its group. It is derived, so rewriting it is no change of the row: its revision stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, case, null, select, update

from larvik.db.columns import UUID
from larvik.db.lookups import has_id
from larvik.db.tables import Tables
from larvik.schema import ModelSpec, RelationSpec


class Scopes:
    """Keeps the scopes of arrays true, inside one transaction."""

    def __init__(self, tables: Tables, dialect: str, connection: Connection) -> None:
        self._tables = tables
        self._dialect = dialect
        self._connection = connection

    def sources(self, spec: ModelSpec) -> tuple[RelationSpec, ...]:
        """Return the relations that give rows of `spec` their scope, the first that is set wins."""
        found: list[tuple[int, RelationSpec]] = []
        for relation in spec.relations:
            target = self._tables.registry.get(relation.target)
            if target.name == "Experiment":
                found.append((0, relation))
            elif target.is_array:
                found.append((2, relation))
            elif through := self._sources_of_member(target):
                found.append((1 if through[0].target == "Experiment" else 3, relation))
        return tuple(relation for _, relation in sorted(found, key=lambda item: item[0]))

    def _sources_of_member(self, spec: ModelSpec) -> tuple[RelationSpec, ...]:
        """Return how a row that is no array belongs to an experiment; the first that is set wins.

        Directly, else through its array, else through what always is in one, as groups are.
        """
        if spec.is_array or spec.name == "Experiment":
            return ()
        targets = [(relation, self._tables.registry.get(relation.target)) for relation in spec.relations]
        direct = [relation for relation, target in targets if target.name == "Experiment"]
        arrays = [relation for relation, target in targets if target.is_array]
        grouped = [relation for relation, target in targets if _is_always_in_one(target)]
        ways = [*direct, *arrays, *grouped]
        # What follows a relation that every row has is never asked.
        last = next((number for number, relation in enumerate(ways) if not relation.nullable), len(ways))
        return tuple(ways[: last + 1])

    def refresh(self, spec: ModelSpec, ids: Iterable[str]) -> dict[str, str | None]:
        """Rewrite the scopes of the arrays `ids` of `spec`, and of all that depend on them.

        Returns
        -------
        dict
            The new scope of each array of `ids` whose scope changed.
        """
        table = self._tables.of(spec.name)
        return self._rewrite(spec, has_id(self._dialect, table.c.id, ids))

    def moved(self, spec: ModelSpec, ids: list[str]) -> None:
        """Rewrite the scopes that depend on the rows `ids` of `spec`, whose relations changed.

        The caller has locked these rows, and so are those that depend on them: who is just adding to
        them has ended, and who will add waits for us, so that no new row keeps the scope that was.
        """
        if not ids:
            return
        for other in self._tables.registry:
            table = self._tables.of(other.name)
            for relation in other.relations:
                if relation.target != spec.name:
                    continue
                pointing = has_id(self._dialect, table.c[relation.column], ids)
                is_source = other.is_array and relation in self.sources(other)
                if not is_source and relation not in self._sources_of_member(other):
                    continue
                statement = select(table.c.id).where(pointing)
                if self._dialect == "postgresql":
                    statement = statement.order_by(table.c.id).with_for_update()
                found = list(self._connection.execute(statement).scalars())
                if is_source:
                    self.refresh(other, found)
                else:
                    self.moved(other, found)

    def _rewrite(self, spec: ModelSpec, which: ColumnElement[bool]) -> dict[str, str | None]:
        table = self._tables.of(spec.name)
        scope = self._scope(self.sources(spec), table)
        statement = (
            update(table).where(which, table.c.scope_id.is_distinct_from(scope)).values(scope_id=scope)
        )
        rows = self._connection.execute(statement.returning(table.c.id, table.c.scope_id)).all()
        changed = {row.id: row.scope_id for row in rows}
        self.moved(spec, list(changed))
        return changed

    def _scope(self, sources: tuple[RelationSpec, ...], table: FromClause) -> ColumnElement[Any]:
        """Return the scope of the rows of `table`, which have it from `sources`."""
        ways = [
            (key.is_not(None), self._scope_at(self._tables.registry.get(relation.target), key))
            for relation in sources
            for key in (table.c[relation.column],)
        ]
        return case(*ways, else_=null()) if ways else null().cast(UUID)

    def _scope_at(self, target: ModelSpec, key: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the scope of the row of `target` with the id `key`."""
        if target.name == "Experiment":
            return key
        there = self._tables.of(target.name).alias()
        scope = there.c.scope_id if target.is_array else self._scope(self._sources_of_member(target), there)
        return select(scope).where(there.c.id == key).scalar_subquery()


def _is_always_in_one(spec: ModelSpec) -> bool:
    return any(relation.target == "Experiment" and not relation.nullable for relation in spec.relations)
