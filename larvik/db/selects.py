"""Pages, counts and whole tables of a query: one statement each, and rows made into records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, Subquery, func, select

from larvik.db import window
from larvik.db.compiler import Compiler
from larvik.db.ordering import MAX_KEYS, Joins, Ordering
from larvik.errors import InvalidArgumentError
from larvik.query.paths import resolve
from larvik.query.query import Page, Query, Record
from larvik.schema import FieldSpec, ModelSpec

#: Most rows of one page.
MAX_PAGE = 1000
_MAX_OFFSET = 2**62


class _Shape:
    """Which columns of a result make which record."""

    def __init__(self, spec: ModelSpec, fields: Sequence[FieldSpec], start: int) -> None:
        self.model = spec.name
        self.names = [field.name for field in fields]
        self.start = start
        self.stop = start + len(fields)
        self.related: dict[str, _Shape] = {}

    def record(self, row: Sequence[Any]) -> Record | None:
        """Return the record in `row`; None where an outer join found nothing."""
        return None if row[self.start] is None else self.present(row)  # the first column is the id

    def present(self, row: Sequence[Any]) -> Record:
        """Return the record in `row`, which is there."""
        values = row[self.start : self.stop]
        related = {name: shape.record(row) for name, shape in self.related.items()}
        return Record(self.model, dict(zip(self.names, values, strict=True)), related)


def page(compiler: Compiler, connection: Connection, query: Query, size: int, token: str | None) -> Page:
    """Return one page of `query`; one SELECT.

    Raises
    ------
    InvalidArgumentError
        ``PAGE_SIZE_INVALID``, ``PAGE_TOKEN_INVALID``, and what compiling raises.
    """
    if type(size) is not int or size < 1:
        raise InvalidArgumentError(
            "A page has at least one row.", reason="PAGE_SIZE_INVALID", field="page_size"
        )
    offset, limit = bounds(query)
    source = compiler.alias(query.model)
    ordering = compiler.ordering(query, source)
    where = compiler.conditions(query, source)
    values, taken = ordering.parse(token) if token else (None, 0)
    if values is not None:
        where.append(ordering.after(values))
        offset = 0
    size = min(size, MAX_PAGE) if limit is None else min(size, MAX_PAGE, max(0, limit - taken))
    if size == 0:
        return Page(())
    place = _place(compiler, query, ordering, source, where, values, size + 1, offset)
    keys = list(place.c)[1:]
    root = compiler.alias(query.model)
    joins = compiler.joins(query, root)
    columns, shape = _columns(compiler, query, root, joins)
    statement = select(*columns, *keys).select_from(joins.source.join(place, place.c.larvik_id == root.c.id))
    rows = connection.execute(statement.order_by(*ordering.clauses(keys))).all()
    more = len(rows) > size and (limit is None or taken + size < limit)
    last = tuple(rows[size - 1][len(columns) :]) if more else ()
    records = tuple(map(shape.present, rows[:size]))
    return Page(records, ordering.token(last, taken + size) if more else None)


def _place(
    compiler: Compiler,
    query: Query,
    ordering: Ordering,
    source: FromClause,
    where: Sequence[ColumnElement[bool]],
    after: tuple[object, ...] | None,
    size: int,
    offset: int,
) -> Subquery:
    """Return ids and keys of the rows of a page.

    Found first, often from an index alone; only then are whole rows and their relations read.
    """
    named = source.c.id.label("larvik_id")
    if offset == 0 and window.fits(compiler, query, ordering):
        collect = select(named).where(*where).order_by(*ordering.clauses())
        return window.place(compiler, query, after, collect, size)
    keys = [key.label(f"larvik_key_{index}") for index, key in enumerate(ordering.keys())]
    statement = select(named, *keys).select_from(ordering.joins.source).where(*where)
    statement = statement.order_by(*ordering.clauses()).limit(size)
    return (statement.offset(offset) if offset else statement).subquery("place")


def count(compiler: Compiler, connection: Connection, query: Query) -> int:
    """Return the number of rows of `query`; one SELECT."""
    offset, limit = bounds(query)
    if limit is not None or offset:
        inner = compiler.ids(query).subquery()
        return int(connection.execute(select(func.count()).select_from(inner)).scalar_one())
    source = compiler.alias(query.model)
    statement = select(func.count()).select_from(source).where(*compiler.conditions(query, source))
    return int(connection.execute(statement).scalar_one())


def ids(compiler: Compiler, connection: Connection, query: Query, *, lock: bool = False) -> list[str]:
    """Return the ids of `query`, in no promised order; one SELECT. `lock` keeps others from changing them."""
    bounds(query)
    statement = compiler.ids(query)
    if lock:
        statement = statement.with_for_update(of=statement.selected_columns[0].table)
    return list(connection.execute(statement).scalars())


def whole(compiler: Compiler, query: Query) -> tuple[Select[Any], list[tuple[FieldSpec, ColumnElement[Any]]]]:
    """Return the SELECT of all rows of `query` in order, and the fields and columns it is to return.

    The statement has no columns yet: who reads it chooses their SQL form.
    """
    offset, limit = bounds(query)
    source = compiler.alias(query.model)
    ordering = compiler.ordering(query, source)
    where = compiler.conditions(query, source)
    spec = compiler.tables.registry.get(query.model)
    fields = chosen(compiler, spec, query.columns)
    statement: Select[Any] = select().select_from(ordering.joins.source).where(*where)
    statement = statement.order_by(*ordering.clauses())
    if limit is not None or offset:
        statement = statement.limit(-1 if limit is None and compiler.dialect == "sqlite" else limit)
        statement = statement.offset(offset or None)
    return statement, [(field, source.c[field.name]) for field in fields]


def chosen(compiler: Compiler, spec: ModelSpec, names: Sequence[str]) -> list[FieldSpec]:
    """Return the columns called `names`, each once; all without names.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_UNKNOWN``, or ``FIELD_INVALID`` for what lies in another row.
    """
    if not names:
        return list(spec.columns())
    found: dict[str, FieldSpec] = {}
    for name in names:
        path = resolve(compiler.tables.registry, spec.name, name, lookups=False)
        if path.hops or path.key is not None:
            raise InvalidArgumentError(
                f"{name!r} is not a column of {spec.name} itself.", reason="FIELD_INVALID", field=name
            )
        found[path.column.name] = path.column
    return list(found.values())


def _columns(
    compiler: Compiler, query: Query, source: FromClause, joins: Joins
) -> tuple[list[ColumnElement[Any]], _Shape]:
    """Return the columns of the root and of every related row, and how to take them apart again."""
    if len(query.select_related) > MAX_KEYS:
        raise InvalidArgumentError(f"At most {MAX_KEYS} relations come along.", reason="LIMIT_EXCEEDED")
    spec = compiler.tables.registry.get(query.model)
    fields = chosen(compiler, spec, query.columns)
    columns: list[ColumnElement[Any]] = [source.c[field.name] for field in fields]
    root = _Shape(spec, fields, 0)
    for path in query.select_related:
        shape = root
        for depth in range(1, len(path) + 1):
            name = path[depth - 1]
            if name not in shape.related:
                target, alias = joins.at(tuple(path[:depth]))
                more = list(target.columns())
                shape.related[name] = _Shape(target, more, len(columns))
                columns += [alias.c[field.name] for field in more]
            shape = shape.related[name]
    return columns, root


def bounds(query: Query) -> tuple[int, int | None]:
    """Return offset and limit, checked.

    Raises
    ------
    InvalidArgumentError
        ``QUERY_INVALID``.
    """
    for name, value in (("offset", query.offset), ("limit", query.limit)):
        if value is not None and (type(value) is not int or not 0 <= value <= _MAX_OFFSET):
            raise InvalidArgumentError(
                f"The {name} of a query is a whole number from 0.", reason="QUERY_INVALID", field=name
            )
    return query.offset, query.limit
