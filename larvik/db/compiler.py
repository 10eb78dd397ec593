"""From a Query to the conditions of a SELECT.

Every hop of a path is an ``IN (subquery)``: rows never repeat, and an ordered page stops early on
both databases. Conditions of one conjunction that begin with the same hop share the subquery, so
they speak of the same related row. Conditions through relations see live related rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import FromClause, Select, and_, false, not_, or_, select, true

from larvik.db import lookups
from larvik.db.ordering import Bool, Joins, Ordering, Rights
from larvik.db.tables import Tables
from larvik.errors import InvalidArgumentError
from larvik.query.lookups import is_numeric
from larvik.query.paths import Hop, resolve
from larvik.query.predicate import And, Compare, Lookup, Not, Or, Predicate
from larvik.query.query import Query, Trash
from larvik.schema import FieldSpec, FieldType, ModelSpec, RelationSpec

#: Most conditions of one query; SQLite takes expressions up to 1000 deep, and a chain of n
#: conditions, some made of two, is that deep.
MAX_CONDITIONS = 400
#: Most levels of and, or, not; and of queries within queries, for SQLite's parser.
MAX_DEPTH = 32
MAX_QUERIES = 8


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One comparison whose names are known; `hops` are those still to follow."""

    hops: tuple[Hop, ...]
    field: FieldSpec
    lookup: Lookup
    value: object

    @property
    def is_missing(self) -> bool:
        """Whether it asks for what is not there, which no related row can answer."""
        if self.lookup is not Lookup.ISNULL or self.value is not True or not self.hops:
            return False
        first = self.hops[0]
        return not first.to_many or (len(self.hops) == 1 and self.field.name == "id")


@dataclass(frozen=True, slots=True)
class _All:
    children: tuple[_Node, ...]
    is_pair: bool = False  # a key and its value: a related row of its own, whatever stands beside


@dataclass(frozen=True, slots=True)
class _Any:
    children: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _None:
    child: _Node


_Node = _Leaf | _All | _Any | _None


class Compiler:
    """Compiles one statement over the tables of one database.

    Parameters
    ----------
    tables : Tables
        The tables.
    dialect : str
        ``sqlite`` or ``postgresql``.
    rights : callable, optional
        Restricts every model that a query touches.
    """

    def __init__(self, tables: Tables, dialect: str, rights: Rights | None = None) -> None:
        self.tables = tables
        self.dialect = dialect
        self._rights = rights
        self._used: dict[str, int] = {}

    def alias(self, model: str) -> FromClause:
        """Return an alias of the table of `model` that no other part of the statement has."""
        number = self._used.get(model, 0)
        self._used[model] = number + 1
        return self.tables.alias(model, number)

    def ordering(self, query: Query, source: FromClause) -> Ordering:
        """Return the order of `query` over `source`, an alias of its table; raises as `Ordering`."""
        return Ordering(query, self.joins(query, source))

    def joins(self, query: Query, source: FromClause) -> Joins:
        """Return the start of joins to `source`, an alias of the table of `query`."""
        return Joins(self, query.model, source, self._rights)

    def conditions(self, query: Query, source: FromClause) -> list[Bool]:
        """Return what the rows of `query` satisfy, over `source`, an alias of its table.

        Raises
        ------
        InvalidArgumentError
            ``FIELD_UNKNOWN``, ``FIELD_INVALID``, ``LOOKUP_INVALID`` or ``LIMIT_EXCEEDED``.
        """
        check_size(query)
        spec = self.tables.registry.get(query.model)
        found = [self._node(spec, source, self._resolve(spec, part)) for part in query.where]
        return found + self._visible(spec, source, query.trash)

    def ids(self, query: Query) -> Select[Any]:
        """Return the SELECT of the ids of `query`."""
        source = self.alias(query.model)
        statement = select(source.c.id).where(*self.conditions(query, source))
        if query.limit is None and not query.offset:
            return statement
        ordering = self.ordering(query, source)
        statement = statement.select_from(ordering.joins.source).order_by(*ordering.clauses())
        statement = statement.limit(-1 if query.limit is None and self.dialect == "sqlite" else query.limit)
        return statement.offset(query.offset or None)

    def _visible(self, spec: ModelSpec, source: FromClause, trash: Trash) -> list[Bool]:
        found: list[Bool] = []
        if "deleted_at" in source.c and trash is not Trash.INCLUDE:
            trashed = source.c.deleted_at
            found.append(trashed.is_(None) if trash is Trash.EXCLUDE else trashed.is_not(None))
        elif trash is Trash.ONLY:
            found.append(false())  # what has no trash is never in it
        rights = self._rights(spec, source) if self._rights is not None else None
        return found if rights is None else [*found, rights]

    # Names

    def _resolve(self, spec: ModelSpec, part: Predicate) -> _Node:
        match part:
            case Compare():
                return self._leaf(spec, part)
            case And():
                return _All(tuple(self._resolve(spec, child) for child in part.children))
            case Or():
                return _Any(tuple(self._resolve(spec, child) for child in part.children))
            case Not():
                return _None(self._resolve(spec, part.child))
        raise InvalidArgumentError(
            "A condition is neither a comparison nor and, or, not.", reason="QUERY_INVALID"
        )

    def _leaf(self, spec: ModelSpec, part: Compare) -> _Node:
        path = resolve(self.tables.registry, spec.name, "__".join(part.path), lookups=False)
        lookup = Lookup(part.lookup)
        value = part.value
        if lookup is Lookup.EXACT and value is None:
            lookup, value = Lookup.ISNULL, True
        target = path.hops[-1].target if path.hops else spec
        field = path.column
        if target.part_of == "key_values" and field.name == "value" and is_numeric(value):
            field = target.field("number") or field
        leaf = _Leaf(path.hops, field, lookup, value)
        if path.key is None:
            return leaf
        key = target.field("key")
        assert key is not None
        return _All((_Leaf(path.hops, key, Lookup.EXACT, path.key), leaf), is_pair=True)

    # SQL

    def _node(self, spec: ModelSpec, source: FromClause, node: _Node) -> Bool:
        match node:
            case _Leaf(hops=()):
                return self._comparison(spec, source, node)
            case _Leaf() if node.is_missing:
                there = _Leaf(node.hops, node.field, Lookup.ISNULL, False)
                return not_(self._node(spec, source, there).is_(true()))
            case _All(children, is_pair=True):
                return and_(*self._conjunction(spec, source, children))
            case _Leaf() | _All():
                return and_(true(), *self._conjunction(spec, source, list(_flat(node))))
            case _Any():
                return or_(false(), *(self._node(spec, source, child) for child in node.children))
            case _None():
                return not_(self._node(spec, source, node.child).is_(true()))

    def _conjunction(self, spec: ModelSpec, source: FromClause, nodes: Sequence[_Node]) -> Iterator[Bool]:
        """Yield one condition for each hop that begins some of `nodes`, and one for each other."""
        shared: dict[str, tuple[Hop, list[_Node]]] = {}
        for node in nodes:
            hop = _first_hop(node)
            if hop is None:
                yield self._node(spec, source, node)
            else:
                shared.setdefault(hop.name, (hop, []))[1].append(_beyond(node))
        for hop, rest in shared.values():
            yield self._through(source, hop, rest)

    def _through(self, source: FromClause, hop: Hop, nodes: Sequence[_Node]) -> Bool:
        """Return that a live row past `hop` satisfies all `nodes`."""
        target = self.alias(hop.target.name)
        where = [*self._conjunction(hop.target, target, [leaf for node in nodes for leaf in _flat(node)])]
        where += self._visible(hop.target, target, Trash.EXCLUDE)
        if isinstance(hop.relation, RelationSpec):
            return source.c[hop.relation.column].in_(select(target.c.id).where(*where))
        return source.c.id.in_(select(target.c[hop.relation.column]).where(*where))

    def _comparison(self, spec: ModelSpec, source: FromClause, leaf: _Leaf) -> Bool:
        column = source.c[leaf.field.name]
        if isinstance(leaf.value, Query):
            return column.in_(self._inner(spec, leaf, leaf.value))
        return lookups.compare(self.dialect, column, leaf.field, leaf.lookup, leaf.value)

    def _inner(self, spec: ModelSpec, leaf: _Leaf, query: Query) -> Select[Any]:
        holds = next((r.target for r in spec.relations if r.column == leaf.field.name), None)
        if leaf.field.name == "id":
            holds = spec.name
        fits = leaf.field.name == "object_id" or holds == query.model
        if leaf.lookup is not Lookup.IN or leaf.field.type is not FieldType.UUID or not fits:
            raise InvalidArgumentError(
                f"{spec.name}.{leaf.field.name} cannot be compared with a query of {query.model}; a query"
                f" stands for ids of {holds or 'no model'} here, with `in`.",
                reason="FIELD_INVALID",
                field=leaf.field.name,
            )
        return self.ids(query)


def _flat(node: _Node) -> Iterator[_Node]:
    """Yield the parts of nested conjunctions; a key and its value stay one part."""
    if isinstance(node, _All) and not node.is_pair:
        for child in node.children:
            yield from _flat(child)
    else:
        yield node


def _first_hop(node: _Node) -> Hop | None:
    """Return the hop that every comparison below `node` begins with, if one related row may answer all."""
    if isinstance(node, _Leaf):
        return None if node.is_missing or not node.hops else node.hops[0]
    if isinstance(node, _None):
        return None
    if isinstance(node, _All) and node.is_pair:
        to_pair = _hops(node)
        return to_pair[0] if len(to_pair) > 1 else None
    hops = {hop.name if hop else None: hop for hop in map(_first_hop, node.children)}
    return next(iter(hops.values())) if len(hops) == 1 else None


def _hops(pair: _All) -> tuple[Hop, ...]:
    """Return the hops to the row of a key and its value."""
    key = pair.children[0]
    assert isinstance(key, _Leaf)
    return key.hops


def _beyond(node: _Node) -> _Node:
    """Return `node` as seen from behind its first hop."""
    if isinstance(node, _Leaf):
        return _Leaf(node.hops[1:], node.field, node.lookup, node.value)
    assert not isinstance(node, _None)
    return replace(node, children=tuple(_beyond(child) for child in node.children))


def check_size(query: Query) -> None:
    """Refuse a query with too many or too deeply nested conditions.

    Raises
    ------
    InvalidArgumentError
        ``LIMIT_EXCEEDED``.
    """
    waiting: list[tuple[object, int, int]] = [(part, 1, 1) for part in query.where]
    seen = 0
    while waiting:
        part, depth, queries = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_CONDITIONS or queries > MAX_QUERIES:
            raise InvalidArgumentError(
                f"The query is too large: at most {MAX_CONDITIONS} conditions, nested {MAX_DEPTH} deep, in"
                f" {MAX_QUERIES} queries within each other.",
                reason="LIMIT_EXCEEDED",
            )
        if isinstance(part, And | Or):
            waiting += [(child, depth + 1, queries) for child in part.children]
        elif isinstance(part, Not):
            waiting.append((part.child, depth + 1, queries))
        elif isinstance(part, Compare) and isinstance(part.value, Query):
            waiting += [(child, depth + 1, queries + 1) for child in part.value.where]
