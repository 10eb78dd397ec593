"""Between records and rows: pages of a query, the relations of a page, and storing a row.

Every function says how many statements it costs; the rest of the Python face calls these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from larvik.errors import InvalidArgumentError
from larvik.models.base import Model
from larvik.models.generic import model_class
from larvik.query.paths import Hop
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Order, Query, Record, Trash
from larvik.schema import ModelSpec, RelationSpec, ReverseSpec

if TYPE_CHECKING:
    from larvik.connection import Connection

#: Rows of one page: what one statement fetches, and what shares one statement for a relation.
PAGE_SIZE = 500


def records(connection: Connection, query: Query, size: int = PAGE_SIZE) -> Iterator[tuple[Record, ...]]:
    """Yield the pages of `query`; one statement each, keyset paging, stable under inserts."""
    token: str | None = None
    size = size if query.limit is None else min(size, query.limit)
    while size:
        page = connection.catalog.page(query, size=size, token=token)
        yield page.records
        token = page.next_token
        if token is None:
            return


def pages(connection: Connection, query: Query, size: int = PAGE_SIZE) -> Iterator[list[Any]]:
    """Yield the pages of `query` as rows; one statement each."""
    for found in records(connection, query, size):
        rows = [hydrate(record, connection) for record in found]
        share_page(rows)
        yield rows


def share_page(rows: list[Any]) -> None:
    """Let `rows` fetch their relations together, and so the rows that came along with them."""
    together: dict[str, list[Any]] = {}
    for row in rows:
        row._page = rows
        for name, other in row._related.items():
            if isinstance(other, Model):
                together.setdefault(name, []).append(other)
    for others in together.values():
        share_page(others)


def hydrate(record: Record, connection: Connection) -> Any:
    """Return the row of `record` with the rows of ``select_related`` in place; no statement."""
    row = model_class(record.model, connection.registry)._from_values(record.values, connection)
    for name, other in record.related.items():
        if other is not None:
            row._related[name] = hydrate(other, connection)
    return row


def fetch_relation(row: Model, spec: RelationSpec) -> Any:
    """Return the row that `row` points at; one statement fetches it for the row's whole page.

    Raises
    ------
    NotFoundError
        ``OBJECT_NOT_FOUND`` (the target's ``DoesNotExist``), when it is gone or may not be seen.
    """
    attach_one(row._page or [row], spec, row._bound())
    if not _has(row, spec):
        target = model_class(spec.target, row._bound().registry)
        raise target.DoesNotExist(
            f"{row!r} points at {spec.target} {row._values[spec.column]}, which is gone or not yours to see.",
            model=spec.target,
            id=row._values[spec.column],
        )
    return row._related[spec.name]


def attach_one(rows: Sequence[Any], spec: RelationSpec, connection: Connection) -> list[Any]:
    """Fetch the to-one relation `spec` for `rows` that lack it; one statement for each page of targets."""
    wanted = {row._values.get(spec.column) for row in rows if not _has(row, spec)} - {None}
    known = {row._related[spec.name].id: row._related[spec.name] for row in rows if _has(row, spec)}
    if wanted:
        query = Query(spec.target, (Compare(("id",), Lookup.IN, tuple(sorted(wanted))),), trash=Trash.INCLUDE)
        for page in pages(connection, query):
            known.update({other.id: other for other in page})
    for row in rows:
        key = row._values.get(spec.column)
        if key in known:
            row._related[spec.name] = known[key]
    return list(known.values())


def _has(row: Any, spec: RelationSpec) -> bool:
    cached = row._related.get(spec.name)
    return cached is not None and cached.id == row._values.get(spec.column)


def attach_many(rows: Sequence[Any], spec: ReverseSpec, connection: Connection) -> list[Any]:
    """Fetch the to-many relation `spec` for all `rows`; one statement for each page of targets."""
    ids = tuple(row.id for row in rows)
    by_owner: dict[str, list[Any]] = {key: [] for key in ids}
    query = Query(spec.model, (Compare((spec.column,), Lookup.IN, ids),), (Order((spec.column,)),))
    found = []
    for page in pages(connection, query) if ids else ():
        for other in page:
            by_owner[other._values[spec.column]].append(other)
        found += page
    for row in rows:
        row._related[spec.name] = by_owner[row.id]
    return found


def prefetch(rows: list[Any], path: Sequence[Hop], connection: Connection) -> None:
    """Fetch the relations of `path` for all `rows`: one statement for each hop and page."""
    for hop in path:
        if isinstance(hop.relation, RelationSpec):
            rows = attach_one(rows, hop.relation, connection)
        else:
            rows = attach_many(rows, hop.relation, connection)


def save(row: Model) -> None:
    """Store `row`: new ones whole, stored ones by what changed; one statement, or none."""
    connection = row._bound()
    spec = row._spec
    if is_new(row):
        stored = connection.catalog.create(spec.name, [new_values(row)])[0]
    elif row._changed:
        changes = {name: row._values[name] for name in sorted(row._changed)}
        stored = connection.catalog.update(spec.name, row.id, changes, row.revision)
    else:
        return
    row._absorb(stored)
    row._connection = connection


def is_new(row: Model) -> bool:
    """Tell whether `row` was never stored: the database sets ``created_at``."""
    return row._values.get("created_at") is None


def new_values(row: Model) -> dict[str, object]:
    """Return the column values to create `row` with.

    Raises
    ------
    InvalidArgumentError
        ``ARRAY_REQUIRED``, for a model whose rows own an array or a table.
    """
    refuse_without_content(row._spec)
    return columns_to_create(row)


def columns_to_create(row: Model) -> dict[str, object]:
    """Return the column values of `row` that a caller may set."""
    return {
        column.name: row._values.get(column.name) for column in row._spec.columns() if not column.read_only
    }


def refuse_without_content(spec: ModelSpec) -> None:
    """Refuse to create a row whose pixels or measurements would be missing."""
    maker = "from_xarray(array, ...)" if spec.is_array else "from_frame(frame, ...)"
    if spec.is_array or spec.name == "Table":
        raise InvalidArgumentError(
            f"A {spec.name} cannot be stored without its {'array' if spec.is_array else 'rows'}:"
            f" use {spec.name}.objects.{maker}.",
            reason="ARRAY_REQUIRED",
            model=spec.name,
        )


def refresh(row: Model) -> None:
    """Read `row` again; one statement."""
    connection = row._bound()
    query = Query(row._spec.name, (Compare(("id",), Lookup.EXACT, row.id),), trash=Trash.INCLUDE)
    found = connection.catalog.page(query, size=1).records
    if not found:
        raise row.DoesNotExist(f"{row!r} is gone or not yours to see.", model=row._spec.name, id=row.id)
    row._absorb(found[0])


def pick(record: Record, path: Sequence[str]) -> object:
    """Return the value at `path` (to-one relations, then a column) of `record`; None past a missing row."""
    values: Mapping[str, object] = record.values
    for name in path[:-1]:
        other = record.related.get(name)
        if other is None:
            return None
        record, values = other, other.values
    return values.get(path[-1])
