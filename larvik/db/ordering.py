"""The order of a query's rows, and the place of one row in it.

NULLs come last in both directions; the id is always the last key, so that the order is total. A
page token holds the keys of the last row that was seen, never an offset: rows that are inserted
meanwhile neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import ColumnElement, FromClause, and_, false, literal, or_, tuple_

from larvik.db.columns import from_micros, sql_type, to_micros
from larvik.db.tables import Tables
from larvik.errors import InvalidArgumentError, LarvikError
from larvik.models.values import clean
from larvik.query.paths import MAX_HOPS, UNORDERED, resolve
from larvik.query.query import Order, Query
from larvik.schema import FieldSpec, FieldType, ModelSpec

#: Most keys of one order, and most relations fetched along.
MAX_KEYS = 16
#: Most tables that are joined; SQLite takes 64, and both databases limit the columns of a result.
MAX_JOINS = 32

Bool = ColumnElement[bool]
#: Tells which rows of a model a subject may see, as a condition on its table; None for all.
Rights = Callable[[ModelSpec, FromClause], Bool | None]


class Aliases(Protocol):
    """Gives aliases of tables, each another one: the compiler of the statement."""

    tables: Tables

    def alias(self, model: str) -> FromClause:
        """Return an alias of the table of `model`."""


class Joins:
    """Outer joins along to-one paths, each path joined once; what `rights` hide is not there.

    Attributes
    ----------
    source : FromClause
        The table with everything joined to it.
    """

    def __init__(self, aliases: Aliases, model: str, source: FromClause, rights: Rights | None) -> None:
        self.source = source
        self.registry = aliases.tables.registry
        self._aliases = aliases
        self._rights = rights
        self._ends: dict[tuple[str, ...], tuple[ModelSpec, FromClause]] = {
            (): (self.registry.get(model), source)
        }

    def at(self, path: tuple[str, ...]) -> tuple[ModelSpec, FromClause]:
        """Return the model and the alias at the end of `path`, joining what is missing.

        Raises
        ------
        InvalidArgumentError
            ``FIELD_UNKNOWN`` or ``FIELD_INVALID``; ``LIMIT_EXCEEDED``.
        """
        if path not in self._ends:
            if len(path) > MAX_HOPS or len(self._ends) > MAX_JOINS:
                raise InvalidArgumentError(
                    f"To sort by a row or to fetch it along, a query follows at most {MAX_HOPS} relations,"
                    f" and {MAX_JOINS} in all.",
                    reason="LIMIT_EXCEEDED",
                )
            spec, before = self.at(path[:-1])
            relation = spec.relation(path[-1])
            if relation is None:
                resolve(self.registry, spec.name, f"{path[-1]}__id", lookups=False)  # unknown names raise
                raise InvalidArgumentError(
                    f"{spec.name}.{path[-1]} has many rows; one row cannot be sorted by it or hold it.",
                    reason="FIELD_INVALID",
                    field="__".join(path),
                )
            target = self.registry.get(relation.target)
            after = self._aliases.alias(relation.target)
            pairs = before.c[relation.column] == after.c.id
            visible = self._rights(target, after) if self._rights is not None else None
            self.source = self.source.outerjoin(after, pairs if visible is None else and_(pairs, visible))
            self._ends[path] = (target, after)
        return self._ends[path]


@dataclass(frozen=True, slots=True)
class _Key:
    column: ColumnElement[Any]
    field: FieldSpec
    descending: bool

    def clause(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the ORDER BY term; without NULLS LAST where it says nothing, as indexes lack it."""
        term = column.desc() if self.descending else column.asc()
        return term.nulls_last() if self.field.nullable else term

    def same(self, value: object) -> Bool:
        return self.column.is_(None) if value is None else self.column == self._bound(value)

    def after(self, value: object) -> Bool:
        if value is None:
            return false()
        bound = self._bound(value)
        beyond = self.column < bound if self.descending else self.column > bound
        return or_(beyond, self.column.is_(None)) if self.field.nullable else beyond

    def _bound(self, value: object) -> ColumnElement[Any]:
        return literal(value, sql_type(self.field))


class Ordering:
    """The keys of a query's order, where `joins` begin at an alias of its table.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_UNKNOWN``, or ``FIELD_INVALID`` for a field without an order.
    """

    def __init__(self, query: Query, joins: Joins) -> None:
        if len(query.order_by) > MAX_KEYS:
            raise InvalidArgumentError(f"An order has at most {MAX_KEYS} keys.", reason="LIMIT_EXCEEDED")
        self.joins = joins
        self._query = query
        self._keys: list[_Key] = []
        for order in (*query.order_by, Order(("id",))):
            self._keys.append(self._key(order))
            if order.path == ("id",):
                break

    def _key(self, order: Order) -> _Key:
        if not order.path:
            raise InvalidArgumentError(
                "A key of an order names a field.", reason="FIELD_INVALID", field="order_by"
            )
        spec, alias = self.joins.at(tuple(order.path[:-1]))
        path = resolve(self.joins.registry, spec.name, order.path[-1], lookups=False)
        if path.hops or path.key is not None or path.column.type in UNORDERED:
            raise InvalidArgumentError(
                f"{spec.name}.{order.path[-1]} has no order to sort by.",
                reason="FIELD_INVALID",
                field="__".join(order.path),
            )
        field = path.column if len(order.path) == 1 else replace(path.column, nullable=True)
        return _Key(alias.c[field.name], field, order.descending)

    def clauses(self, columns: Sequence[ColumnElement[Any]] | None = None) -> list[ColumnElement[Any]]:
        """Return the ORDER BY terms; over `columns`, where a subquery selected the keys."""
        return [key.clause(column) for key, column in zip(self._keys, columns or self.keys(), strict=True)]

    @property
    def is_by_id(self) -> bool:
        """Whether rows come in the order of their ids alone, the lowest first."""
        return len(self._keys) == 1 and not self._keys[0].descending

    def keys(self) -> list[ColumnElement[Any]]:
        """Return what to select of each row, so that `token` can tell its place."""
        return [key.column for key in self._keys]

    def after(self, values: tuple[object, ...]) -> Bool:
        """Return that a row comes after the one whose keys are `values`."""
        if all(not key.field.nullable and not key.descending for key in self._keys):
            bounds = [key._bound(value) for key, value in zip(self._keys, values, strict=True)]
            if len(bounds) == 1:
                return self._keys[0].column > bounds[0]
            return tuple_(*(key.column for key in self._keys)) > tuple_(*bounds)
        ways = []
        for index, key in enumerate(self._keys):
            before = [same.same(value) for same, value in zip(self._keys[:index], values, strict=False)]
            ways.append(and_(*before, key.after(values[index])))
        first, value = self._keys[0], values[0]
        # Implied by the rest, but a bound on the first key alone is what an index can use.
        lead = [or_(first.same(value), first.after(value))] if not first.field.nullable else []
        return and_(*lead, or_(*ways))

    # Tokens

    def token(self, values: tuple[object, ...], taken: int) -> str:
        """Return the token of the page after the row with the keys `values`, `taken` rows into the query."""
        shown = [_pack(value) for value in values]
        text = json.dumps([self._digest(), taken, shown], separators=(",", ":"), ensure_ascii=False)
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def parse(self, token: str) -> tuple[tuple[object, ...], int]:
        """Return the keys and the number of rows that `token` holds.

        Raises
        ------
        InvalidArgumentError
            ``PAGE_TOKEN_INVALID``, when it is damaged or belongs to another query.
        """
        try:
            text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            digest, taken, packed = json.loads(text)
            if digest != self._digest() or type(taken) is not int or taken < 0 or type(packed) is not list:
                raise ValueError
            values = tuple(_unpack(key.field, value) for key, value in zip(self._keys, packed, strict=True))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, LarvikError):
            raise InvalidArgumentError(
                "The page token is damaged or belongs to another query. Start again without one.",
                reason="PAGE_TOKEN_INVALID",
                field="page_token",
            ) from None
        return values, taken

    def _digest(self) -> str:
        plain = replace(self._query, select_related=(), columns=())
        return hashlib.sha256(repr(plain).encode("utf-8", "replace")).hexdigest()[:16]


def _pack(value: object) -> object:
    return to_micros(value) if isinstance(value, datetime) else value


def _unpack(field: FieldSpec, value: object) -> object:
    if value is not None and field.type is FieldType.TIMESTAMP:
        if type(value) is not int:
            raise ValueError
        value = from_micros(value)
    return clean(replace(field, choices=()), value)
