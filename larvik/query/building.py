"""What a query is made of, and the steps that build one: each gives a new query, none touches anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from larvik.errors import SelectionError
from larvik.models.base import Model, registry
from larvik.query import conditions
from larvik.query.predicate import Compare, Lookup, Not, Predicate
from larvik.query.q import Q
from larvik.query.query import Order, Query, Trash
from larvik.schema import Registry

if TYPE_CHECKING:
    from larvik.connection import Connection

M = TypeVar("M", bound=Model)


class Building(Generic[M]):
    """The part of a `QuerySet` that builds: conditions, order, relations to fetch along, trash."""

    def __init__(
        self,
        model: type[M],
        query: Query,
        connection: Connection | None = None,
        *,
        prefetch: tuple[str, ...] = (),
        defaults: Mapping[str, object] | None = None,
        rows: Sequence[M] | None = None,
    ) -> None:
        self._model = model
        self._query = query
        self._connection = connection
        self._prefetch = prefetch
        self._defaults = dict(defaults or {})
        self._rows: list[M] = [] if rows is None else list(rows)
        self._rest: Iterator[list[M]] | None = None if rows is None else iter(())
        self._is_complete = rows is not None

    @property
    def model(self) -> type[M]:
        """The class of the rows."""
        return self._model

    @property
    def query(self) -> Query:
        """The query as a value: what a connection evaluates."""
        return self._query

    def _with(self, **changes: Any) -> Self:
        return self._copy(replace(self._query, **changes))

    def _copy(self, query: Query, prefetch: tuple[str, ...] | None = None) -> Self:
        chosen = self._prefetch if prefetch is None else prefetch
        return type(self)(self._model, query, self._connection, prefetch=chosen, defaults=self._defaults)

    def _at(self, connection: Connection | None) -> Self:
        made = self._copy(self._query)
        made._connection = connection
        return made

    def _registry(self) -> Registry:
        """Return the models that names may refer to: those of the connection, if one is open."""
        from larvik.connection import current_or_none

        connection = self._connection or current_or_none()
        name = self._model._spec.name
        if connection is not None and name in connection.registry:
            return connection.registry
        if name in registry:
            return registry
        single = Registry()
        single.add(self._model._spec)
        return single

    def _unsliced(self) -> Self:
        """Return the query that more conditions may be added to: those of a slice are kept as its ids."""
        if self._query.limit is None and not self._query.offset:
            return self
        name = self._query.model
        inner = replace(self._query, select_related=(), columns=())
        where = (Compare(("id",), Lookup.IN, inner),)
        return self._copy(
            Query(
                name,
                where,
                self._query.order_by,
                select_related=self._query.select_related,
                trash=self._query.trash,
            )
        )

    def _and(self, predicate: Predicate) -> Self:
        base = self._unsliced()
        return base._with(where=(*base._query.where, predicate))

    def filter(self, *parts: Q, **conditions_: Any) -> Self:
        """Return the rows that also satisfy every condition.

        Parameters
        ----------
        *parts : Q
            Conditions joined by ``&``, ``|`` and ``~``.
        **conditions_ : object
            ``path=value`` or ``path__lookup=value``; a path follows relations with ``__``. Rows
            stand for their ids; ``__in`` takes a list or another query.

        Raises
        ------
        InvalidArgumentError
            ``FIELD_UNKNOWN``, ``LOOKUP_UNKNOWN``, ``LOOKUP_INVALID`` or ``FIELD_INVALID``; names
            the path, and suggests the nearest name.

        Notes
        -----
        Conditions of one call on the same to-many relation speak of the same related row; those of
        two calls may speak of two.
        """
        q = Q(*parts, **conditions_)
        return self._and(self._predicate(q)) if q else self._copy(self._query)

    def exclude(self, *parts: Q, **conditions_: Any) -> Self:
        """Return the rows that do not satisfy all of the conditions; parameters as of `filter`.

        A row whose value is missing satisfies no comparison, and is kept.
        """
        q = Q(*parts, **conditions_)
        return self._and(Not(self._predicate(q))) if q else self._copy(self._query)

    def _predicate(self, q: Q) -> Predicate:
        return conditions.predicate(self._registry(), self._model._spec.name, q)

    def order_by(self, *names: str) -> Self:
        """Return the rows sorted by `names`: fields, or paths of to-one relations; ``-`` for descending.

        Missing values come last either way, equal rows in the order of their ids. Without names,
        the order is that of the ids. Text sorts by code point.
        """
        base = self._unsliced()
        known = self._registry()
        return base._with(
            order_by=tuple(conditions.order(known, self._model._spec.name, name) for name in names)
        )

    def reverse(self) -> Self:
        """Return the rows in the opposite order; missing values stay last."""
        base = self._unsliced()
        keys = base._query.order_by
        keys = keys if any(key.path == ("id",) for key in keys) else (*keys, Order(("id",)))
        return base._with(order_by=tuple(replace(key, descending=not key.descending) for key in keys))

    def select_related(self, *paths: str) -> Self:
        """Return the same rows with their to-one relations `paths` fetched in the same statement."""
        known = self._registry()
        found = [
            tuple(hop.name for hop in conditions.to_one(known, self._model._spec.name, path))
            for path in paths
        ]
        return self._with(select_related=tuple(dict.fromkeys([*self._query.select_related, *found])))

    def prefetch_related(self, *paths: str) -> Self:
        """Return the same rows with the relations `paths`, to-many ones too, fetched for a page at once."""
        known = self._registry()
        for path in paths:
            conditions.relations(known, self._model._spec.name, path)
        return self._copy(self._query, tuple(dict.fromkeys([*self._prefetch, *paths])))

    def all(self) -> Self:
        """Return the same query, without the rows that were kept."""
        return self._copy(self._query)

    def none(self) -> Self:
        """Return the query without any rows; reading it asks nobody."""
        return self._and(Compare(("id",), Lookup.IN, ()))

    def using(self, connection: Connection) -> Self:
        """Return the same query on `connection` rather than the default one."""
        return self._at(connection)

    def trash(self) -> Self:
        """Return the query over trashed rows alone."""
        return self._with(trash=Trash.ONLY)

    def with_trash(self) -> Self:
        """Return the query over live and trashed rows."""
        return self._with(trash=Trash.INCLUDE)

    def _slice(self, start: int, stop: int | None) -> Self:
        limit = None if stop is None else max(0, stop - start)
        if self._query.limit is not None:
            left = max(0, self._query.limit - start)
            limit = left if limit is None else min(limit, left)
        made = self._with(offset=self._query.offset + start, limit=limit)
        if self._is_complete or (stop is not None and stop <= len(self._rows)):
            made._keep(self._rows[start:stop])
        return made

    def _keep(self, rows: list[M]) -> None:
        """Take `rows` for the result, as if they had been fetched."""
        self._rows, self._rest, self._is_complete = list(rows), iter(()), True


def slice_bounds(item: slice) -> tuple[int, int | None]:
    """Return first and last row of a slice of a query; refuse steps and negative numbers."""
    if item.step is not None and item.step != 1:
        raise SelectionError("A query cannot be sliced with a step; write list(query)[::step].", field="step")
    start = 0 if item.start is None else row_position(item.start, "The start of a slice")
    return start, None if item.stop is None else row_position(item.stop, "The end of a slice")


def row_position(value: object, what: str) -> int:
    """Return `value` as the number of a row, from 0; `what` names it in the error."""
    try:
        position = value.__index__()  # type: ignore[attr-defined]  # any integer, NumPy's included
    except (AttributeError, TypeError):
        raise SelectionError(
            f"{what} is a whole number, not {type(value).__name__}.", field="index"
        ) from None
    if position < 0:
        raise SelectionError(f"{what} of a query cannot be negative; use reverse() or last().", field="index")
    return int(position)
