"""QuerySet: a query over the rows of one model, built step by step, evaluated when it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast, overload

from larvik.errors import InvalidArgumentError, SelectionError, suggestion
from larvik.models.base import Model, registry
from larvik.query import conditions, fetch
from larvik.query.building import Building, M, row_position, slice_bounds
from larvik.query.predicate import Compare, Lookup
from larvik.query.q import Q
from larvik.query.query import Query

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from larvik.connection import Connection

#: Rows that `repr` shows.
SHOWN_ROWS = 10


class QuerySet(Building[M]):
    """Rows of one model that satisfy conditions, in an order.

    Building one touches nothing. Reading rows from it fetches them page by page, one statement
    each, and keeps them; ``all()`` gives the same query without kept rows. Rows come in the order
    of their ids unless `order_by` says otherwise.
    """

    @staticmethod
    def of(model: type[Any]) -> QuerySet[Any]:
        """Return the query over all visible rows of `model`, of the class that suits the model."""
        from larvik.query.special import queryset_class

        if not hasattr(model, "_spec"):
            raise InvalidArgumentError(
                f"{model.__name__} is a base of models and has no rows of its own.", reason="MODEL_INVALID"
            )
        return queryset_class(model)(model, Query(model._spec.name))

    @staticmethod
    def related(row: Model, name: str) -> QuerySet[Any]:
        """Return the query of the rows that point at `row` under the reverse name `name`."""
        from larvik.models.generic import model_class

        reverses = row._reverses()
        if name not in reverses:
            raise InvalidArgumentError(
                f"{row._spec.name} has no related rows {name!r}. {suggestion(name, reverses)}",
                reason="FIELD_UNKNOWN",
                field=name,
            )
        spec = reverses[name]
        known = row._connection.registry if row._connection is not None else registry
        made = QuerySet.of(model_class(spec.model, known))._at(row._connection)
        made._query = replace(made._query, where=(Compare((spec.column,), Lookup.EXACT, row.id),))
        made._defaults = {spec.column: row.id}
        kept = row._related.get(name)
        if isinstance(kept, list):
            made._keep(kept)
        return made

    # Reading

    def _bound(self) -> Connection:
        from larvik.connection import alive, current

        return alive(self._connection) if self._connection is not None else current()

    def _pages(self, size: int = fetch.PAGE_SIZE) -> Iterator[list[M]]:
        if conditions.is_nothing(self._query):
            return
        connection = self._bound()
        known = connection.registry
        for rows in fetch.pages(connection, self._query, size):
            for path in self._prefetch:
                fetch.prefetch(rows, conditions.relations(known, self._query.model, path), connection)
            yield rows

    def _more(self) -> bool:
        """Fetch one more page into the kept rows; False when there is none."""
        if self._rest is None:
            self._rest = self._pages()
        try:
            self._rows += next(self._rest)
        except StopIteration:
            self._is_complete = True
            return False
        except BaseException:
            self._rows, self._rest = [], None  # the pages end with the error: the next reader starts anew
            raise
        return True

    def _evaluated(self) -> list[M]:
        while self._more():
            pass
        return self._rows

    @property
    def _is_kept(self) -> bool:
        """Whether a reader went over some rows before; the rest then belongs to the same reading."""
        return self._rest is not None

    def __iter__(self) -> Iterator[M]:
        position = 0
        while position < len(self._rows) or self._more():
            for row in self._rows[position:]:
                position += 1
                yield row

    def iterator(self, page_size: int = fetch.PAGE_SIZE) -> Iterator[M]:
        """Yield the rows page by page, keeping none: memory holds one page; one statement each."""
        if page_size < 1:
            raise InvalidArgumentError(
                f"page_size is {page_size!r}; it must be at least 1.", field="page_size"
            )
        for rows in self._pages(page_size):
            yield from rows

    def __len__(self) -> int:
        return len(self._evaluated())

    def __bool__(self) -> bool:
        return bool(self._rows) or (self._more() if self._is_kept else self.exists())

    def __contains__(self, row: object) -> bool:
        if not isinstance(row, Model) or row._spec.name != self._query.model:
            return False
        if self._is_kept:
            return row in self._evaluated()
        return self._and(Compare(("id",), Lookup.EXACT, row.id)).exists()

    @overload
    def __getitem__(self, item: int) -> M: ...
    @overload
    def __getitem__(self, item: slice) -> Self: ...
    def __getitem__(self, item: int | slice) -> M | Self:
        if isinstance(item, slice):
            return self._slice(*slice_bounds(item))
        position = row_position(item, "An index")
        if position < len(self._rows):
            return self._rows[position]
        rows = (
            list(self._slice(position, position + 1)) if not self._is_kept else self._evaluated()[position:]
        )
        if not rows:
            raise SelectionError(
                f"The query has no row {position}; it has fewer.",
                reason="SELECTION_OUT_OF_BOUNDS",
                index=position,
            )
        return rows[0]

    def first(self) -> M | None:
        """Return the first row, or None when there is none; one statement."""
        return next(iter(self if self._is_kept else self[:1]), None)

    def last(self) -> M | None:
        """Return the last row of the order, or None; at most two statements."""
        if not self._query.order_by and self._query.limit is None and not self._query.offset:
            return self.reverse().first()
        number = self.count()  # NULLs come last both ways, so reversing would not find them
        return self[number - 1] if number else None

    def get(self, *parts: Q, **conditions_: Any) -> M:
        """Return the one row that satisfies the conditions; one statement.

        Raises
        ------
        DoesNotExist
            ``OBJECT_NOT_FOUND``: the model's own class, a NotFoundError.
        MultipleObjectsReturned
            ``OBJECTS_MULTIPLE``: the model's own class, an InvalidArgumentError.
        """
        rows = list(self.filter(*parts, **conditions_)[:2])
        if len(rows) == 1:
            return rows[0]
        name = self._model._spec.name
        asked = repr(Q(*parts, **conditions_)).removeprefix("Q") if parts or conditions_ else "the query"
        if not rows:
            raise self._model.DoesNotExist(f"No {name} matches {asked[:300]}.", model=name)
        raise self._model.MultipleObjectsReturned(
            f"More than one {name} matches {asked[:300]}; use filter(...) and first() to take any.",
            model=name,
        )

    def count(self) -> int:
        """Return the number of rows; one statement, and none when they are kept already."""
        if conditions.is_nothing(self._query):
            return 0
        if self._is_kept:
            return len(self._evaluated())
        return self._bound().catalog.count(replace(self._query, select_related=(), columns=()))

    def exists(self) -> bool:
        """Tell whether there is any row; one statement."""
        if conditions.is_nothing(self._query):
            return False
        query = replace(self._query, order_by=(), select_related=(), columns=("id",), limit=1)
        return bool(self._bound().catalog.page(query, size=1).records)

    def in_bulk(self, ids: Iterable[str]) -> dict[str, M]:
        """Return the rows with these ids by id; ids of no row are left out."""
        return {row.id: row for row in self.filter(id__in=list(ids))}

    def values(self, *paths: str) -> list[dict[str, Any]]:
        """Return the rows as dicts of `paths` (fields, or paths of to-one relations); all fields without."""
        names = paths or tuple(column.name for column in self._model._spec.columns())
        return [dict(zip(names, row, strict=True)) for row in self.values_list(*names)]

    def values_list(self, *paths: str, flat: bool = False) -> list[Any]:
        """Return the rows as tuples of `paths`; with one path and `flat`, as its values."""
        names = paths or tuple(column.name for column in self._model._spec.columns())
        if flat and len(names) != 1:
            raise InvalidArgumentError(
                "flat=True takes exactly one path.", reason="QUERY_INVALID", field="flat"
            )
        known = self._registry()
        found = [conditions.column_at(known, self._query.model, name).path for name in names]
        columns = dict.fromkeys(path[0] if len(path) == 1 else "id" for path in found)
        query = replace(
            self._query,
            columns=tuple(columns),
            select_related=tuple(dict.fromkeys(path[:-1] for path in found if len(path) > 1)),
        )
        if conditions.is_nothing(query):
            return []
        rows = [
            tuple(fetch.pick(record, path) for path in found)
            for page in fetch.records(self._bound(), query)
            for record in page
        ]
        return [row[0] for row in rows] if flat else rows

    def arrow(self, *columns: str) -> pa.Table:
        """Return all rows as a pyarrow Table, streamed in columns; one statement.

        Parameters
        ----------
        *columns : str
            Fields of the model, or ``<relation>_id``; all without. Biometa has OME's names.
        """
        return self._bound().catalog.table(self._columns(columns)).read_all()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Stream all rows to a consumer of Arrow's PyCapsule interface; one statement."""
        return self._bound().catalog.table(self._columns(())).__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """Return the schema of the columns, as Arrow's PyCapsule interface asks; one statement, no row."""
        nothing = replace(self._columns(()), limit=0)
        return self._bound().catalog.table(nothing).schema.__arrow_c_schema__()

    def frame(self, *columns: str) -> pd.DataFrame:
        """Return all rows as a pandas DataFrame; see `arrow`."""
        table = self.arrow(*columns)
        if self._model._spec.is_part:
            from larvik.biometa.frame import BiometaFrame

            return BiometaFrame(table.to_pandas())
        return cast("pd.DataFrame", table.to_pandas())

    def _columns(self, columns: tuple[str, ...]) -> Query:
        known = self._registry()
        paths = [conditions.column_at(known, self._query.model, name).path for name in columns]
        for path in paths:
            if len(path) > 1:
                raise InvalidArgumentError(
                    f"{'__'.join(path)} lies in another row; a table has the columns of {self._query.model}"
                    " alone. Use values(...), which follows relations.",
                    reason="FIELD_INVALID",
                    field="__".join(path),
                )
        return replace(self._query, columns=tuple(path[0] for path in paths), select_related=())

    # Writing

    def create(self, **values: Any) -> M:
        """Store one new row and return it.

        Raises
        ------
        InvalidArgumentError
            ``FIELD_UNKNOWN``, ``FIELD_INVALID`` or ``FIELD_MISSING``; names the field.
        AlreadyExistsError
            ``OBJECT_EXISTS``, when `id` is taken by a row with other content.
        """
        fetch.refuse_without_content(self._model._spec)
        row = self._new(values)
        row.save()
        return row

    def _new(self, values: Mapping[str, Any]) -> M:
        row = self._model(**{**self._defaults, **values})
        row._connection = self._bound()
        return row

    def get_or_create(self, defaults: Mapping[str, Any] | None = None, **conditions_: Any) -> tuple[M, bool]:
        """Return the row that satisfies the conditions and False, or a new one and True.

        A new row has the conditions that are plain ``field=value`` and `defaults` as its values.
        Two processes that call this at the same moment may both create one.
        """
        try:
            return self.get(**conditions_), False
        except self._model.DoesNotExist:
            plain = {name: value for name, value in conditions_.items() if "__" not in name}
            return self.create(**{**plain, **(defaults or {})}), True

    def update_or_create(
        self, defaults: Mapping[str, Any] | None = None, **conditions_: Any
    ) -> tuple[M, bool]:
        """Return the row that satisfies the conditions with `defaults` stored in it; create a missing one."""
        row, created = self.get_or_create(defaults, **conditions_)
        if not created and defaults:
            changes = conditions.changes(self._registry(), self._query.model, defaults)
            row._absorb(self._bound().catalog.update(self._query.model, row.id, changes, None))
        return row, created

    def bulk_create(self, rows: Iterable[M]) -> list[M]:
        """Store new rows in one transaction: all of them, or none; return them."""
        listed = list(rows)
        for row in listed:
            if not isinstance(row, self._model):
                raise InvalidArgumentError(
                    f"bulk_create takes rows of {self._query.model}, not {type(row).__name__}.",
                    reason="FIELD_INVALID",
                )
        if not listed:
            return []
        connection = self._bound()
        values = [{**fetch.new_values(row), **self._defaults} for row in listed]
        for row, record in zip(listed, connection.catalog.create(self._query.model, values), strict=True):
            row._connection = connection
            row._absorb(record)
        return listed

    def update(self, **values: Any) -> int:
        """Set fields of every row of the query in one transaction; return how many rows."""
        changes = conditions.changes(self._registry(), self._query.model, values)
        if not changes or conditions.is_nothing(self._query):
            return 0
        return self._bound().catalog.update_many(self._bare(), changes)

    def delete(self) -> int:
        """Move every row of the query to the trash (parts are removed for good); return how many."""
        if conditions.is_nothing(self._query):
            return 0
        return self._bound().catalog.delete_many(self._bare())

    def _bare(self) -> Query:
        return replace(self._query, select_related=(), columns=())

    # Showing

    def __repr__(self) -> str:
        from larvik.connection import current_or_none

        name = f"{type(self).__name__}[{self._query.model}]"
        if not self._is_kept and self._connection is None and current_or_none() is None:
            return f"<{name}, not connected>"
        rows = self._rows[: SHOWN_ROWS + 1] if self._is_kept else list(self[: SHOWN_ROWS + 1])
        more = ", ..." if len(rows) > SHOWN_ROWS else ""
        return f"<{name} [{', '.join(map(repr, rows[:SHOWN_ROWS]))}{more}]>"

    def _repr_html_(self) -> str:
        from larvik.viewer.cards import query_card

        return query_card(self)

    def __reduce__(self) -> tuple[Any, ...]:
        url = self._connection.url if self._connection is not None else None
        return _rebuild, (type(self), self._model, self._query, url, self._prefetch, self._defaults)


def _rebuild(
    kind: type[QuerySet[Any]],
    model: type[Model],
    query: Query,
    url: str | None,
    prefetch: tuple[str, ...],
    defaults: Mapping[str, object],
) -> QuerySet[Any]:
    from larvik.connection import lazy_connection

    connection = None if url is None else lazy_connection(url)
    return kind(model, query, connection, prefetch=prefetch, defaults=defaults)
