"""Rows on the command line: models and arrays by name, conditions, tables of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from larvik.cli import output
from larvik.cli.values import parse_value
from larvik.errors import InvalidArgumentError, NotFoundError, suggestion

if TYPE_CHECKING:
    from larvik.connection import Connection
    from larvik.query.q import Q
    from larvik.query.queryset import QuerySet
    from larvik.schema import ModelSpec

#: What is shown of a row unless columns are named: those of these that its model has.
COLUMNS = ("id", "name", "label", "type", "kind", "dims", "shape", "dtype")
#: Relations whose name is shown too.
RELATED = ("experiment", "group", "animal", "sample")
#: Fields of parts (channels, tags, ...) that say nothing to people; ``text`` may be megabytes.
HIDDEN = ("array_id", "scope_id", "created_by_id", "created_at", "updated_at", "revision", "text")


def model_query(connection: Connection, name: str) -> QuerySet[Any]:
    """Return the query over a model named in any case, singular or plural.

    Raises
    ------
    NotFoundError
        ``MODEL_UNKNOWN``, with the nearest name.
    """
    from larvik.models.generic import model_class
    from larvik.query.queryset import QuerySet

    names = {spec.name.casefold(): spec.name for spec in connection.registry}
    wanted = name.replace("_", "").replace("-", "").casefold()
    aliases = {**names, "image": "Representation"}
    found = aliases.get(wanted) or aliases.get(wanted.removesuffix("s"))
    if found is None:
        raise NotFoundError(
            f"There is no model {name[:80]!r}. {suggestion(name[:80], names.values())}",
            reason="MODEL_UNKNOWN",
        )
    return QuerySet.of(model_class(found, connection.registry)).using(connection)


def find_array(connection: Connection, wanted: str) -> Any:
    """Return the array row with the id or the unique name `wanted`.

    Raises
    ------
    NotFoundError
        ``ARRAY_NOT_FOUND``.
    InvalidArgumentError
        ``OBJECTS_MULTIPLE``, with the ids.
    """
    is_id = len(wanted) == 36 and wanted.count("-") == 4
    matches: list[Any] = []
    for spec in connection.registry:
        if spec.is_array:
            query = model_query(connection, spec.name)
            matches += query.filter(id=wanted) if is_id else query.filter(name=wanted).order_by("id")[:4]
    if not matches:
        raise NotFoundError(f"No array has the id or name {wanted[:200]!r}.", reason="ARRAY_NOT_FOUND")
    if len(matches) > 1:
        ids = ", ".join(row.id for row in matches[:3]) + (", ..." if len(matches) > 3 else "")
        raise InvalidArgumentError(
            f"Several arrays are named {wanted[:200]!r}: give the id of one ({ids}).",
            reason="OBJECTS_MULTIPLE",
        )
    return matches[0]


def read_conditions(connection: Connection, model: str, words: Sequence[str]) -> list[Q]:
    """Read ``path=value`` words; values take the type of the column that the path ends in.

    Raises
    ------
    InvalidArgumentError
        ``ARGUMENT_INVALID`` for another form, and what `parse_value` raises.
    """
    from larvik.query.q import Q

    found = []
    for word in words:
        path, equals, text = word.partition("=")
        if not equals:
            raise InvalidArgumentError(
                f"{word[:120]!r} is not FIELD=VALUE.", reason="ARGUMENT_INVALID", field="conditions"
            )
        found.append(Q(**{path: parse_value(connection.registry, model, path, text)}))
    return found


def print_rows(found: QuerySet[Any], columns: Sequence[str], *, json: bool) -> None:
    """Print the rows of a query: the named columns, else what matters of the model (JSON: all fields)."""
    paths = tuple(columns) or (() if json else _usual(found.model._spec))
    rows = found.values(*paths)
    if json:
        output.print_json(rows)
        return
    if not columns:  # what no row has is not worth a column
        paths = tuple(path for path in paths if path in COLUMNS or any(row[path] is not None for row in rows))
    output.print_table(paths, [tuple(row[path] for path in paths) for row in rows])


def _usual(spec: ModelSpec) -> tuple[str, ...]:
    if spec.is_part:
        return tuple(column.name for column in spec.columns() if column.name not in HIDDEN)
    own = [name for name in COLUMNS if name == "id" or spec.field(name) is not None]
    related = [f"{name}__name" for name in RELATED if spec.relation(name) is not None]
    return (*own, *related, "created_at")
