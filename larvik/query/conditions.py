"""From what people write in ``filter`` to predicates: names resolved, values checked.

Everything that can be wrong is refused here, before a connection is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from larvik.errors import InvalidArgumentError
from larvik.models.base import Model
from larvik.models.values import clean
from larvik.query.lookups import check_lookup, is_numeric
from larvik.query.paths import UNORDERED, Hop, ResolvedPath, resolve
from larvik.query.predicate import TEXT_LOOKUPS, And, Compare, Lookup, Not, Or, Predicate
from larvik.query.q import Q
from larvik.query.query import Order, Query
from larvik.schema import FieldSpec, FieldType, Registry


def predicate(registry: Registry, model: str, q: Q) -> Predicate:
    """Return the predicate that `q` (not empty) means on `model`.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_UNKNOWN``, ``LOOKUP_UNKNOWN``, ``LOOKUP_INVALID`` or ``FIELD_INVALID``; names the path.
    """
    children = tuple(_operands(registry, model, q))
    several: Predicate = And(children) if q.joined_by == "and" else Or(children)
    joined = children[0] if len(children) == 1 else several
    return Not(joined) if q.negated else joined


def _operands(registry: Registry, model: str, q: Q) -> Iterator[Predicate]:
    """Yield the conditions that `q` joins; those of an inner Q of the same kind stand beside its own."""
    for child in q.children:
        if not isinstance(child, Q):
            yield condition(registry, model, *child)
        elif not child.negated and child.joined_by == q.joined_by:
            yield from _operands(registry, model, child)
        else:
            yield predicate(registry, model, child)


def condition(registry: Registry, model: str, text: str, value: object) -> Predicate:
    """Return the predicate of one named condition, ``sample__name__in=[...]``."""
    path = resolve(registry, model, text)
    if path.key is not None:
        return _by_key(path, text, value)
    target = _target(registry, model, path)
    lookup, cleaned = _value(path.column, path.lookup, value, text, target)
    if lookup is Lookup.ISNULL and cleaned and _ends_in_many(path, text):
        return Not(Compare(path.path, lookup, False))  # "no such row", not "a row that is NULL"
    return Compare(path.path, lookup, cleaned)


def _ends_in_many(path: ResolvedPath, text: str) -> bool:
    named = text.removesuffix(f"__{Lookup.ISNULL.value}")
    return bool(path.hops) and path.hops[-1].to_many and named.endswith(path.hops[-1].name)


def _by_key(path: ResolvedPath, text: str, value: object) -> Predicate:
    """Return the condition on the value of one key: a number when compared with numbers, else text."""
    hops = tuple(hop.name for hop in path.hops)
    number = path.hops[-1].target.column("number") if path.hops and is_numeric(value) else None
    lookup, cleaned = _value(number or path.column, path.lookup, value, text, None)
    if lookup is Lookup.ISNULL:
        has_key = Compare((*hops, "key"), Lookup.EXACT, path.key)
        return Not(has_key) if cleaned else has_key
    return Compare((*hops, str(path.key)), lookup, cleaned)


def _target(registry: Registry, model: str, path: ResolvedPath) -> str | None:
    """Return the model whose ids the column holds, when a row or a query may stand for them."""
    source = path.hops[-1].target if path.hops else registry.get(model)
    if path.column.name == "id":
        return source.name
    return next((item.target for item in source.relations if item.column == path.column.name), None)


def _value(
    column: FieldSpec, lookup: Lookup, value: object, text: str, target: str | None
) -> tuple[Lookup, object]:
    """Return the lookup and the cleaned value; ``exact`` None becomes ``isnull``."""
    check_lookup(column, lookup, text)
    if lookup is Lookup.EXACT and value is None:
        return Lookup.ISNULL, True
    if lookup is Lookup.ISNULL:
        return lookup, clean(FieldSpec(text, FieldType.BOOL), value)
    if lookup is Lookup.IN:
        return lookup, _many(column, value, text, target)
    if lookup is Lookup.RANGE:
        pair = tuple(_one(column, item, text, target) for item in _items(value, text, "a pair"))
        if len(pair) != 2:
            raise _invalid(text, f"takes two values, the least and the greatest, not {len(pair)}")
        return lookup, pair
    if lookup in TEXT_LOOKUPS:
        column = replace(column, choices=())
    return lookup, _one(column, value, text, target)


def _many(column: FieldSpec, value: object, text: str, target: str | None) -> object:
    from larvik.query.queryset import QuerySet

    if isinstance(value, QuerySet):
        if column.name != "object_id" and value.model._spec.name != target:
            wanted = f"rows of {target}" if target else "values, not rows"
            raise _invalid(text, f"takes {wanted}, not a query of {value.model._spec.name}")
        return value.query
    return tuple(_one(column, item, text, target) for item in _items(value, text, "a list or a query"))


def _one(column: FieldSpec, value: object, text: str, target: str | None) -> object:
    from larvik.query.queryset import QuerySet

    if isinstance(value, QuerySet):
        raise _invalid(text, f"takes one value, not a query; write {text}__in=... or use .first()")
    if value is None:
        raise _invalid(text, "takes a value, not None; ask for missing values with isnull=True")
    if isinstance(value, Model):
        if column.name != "object_id" and value._spec.name != target:
            wanted = f"a {target} or its id" if target else f"a {column.type.value}"
            raise _invalid(text, f"takes {wanted}, not a {value._spec.name}")
        value = value.id
    return clean(replace(column, name=text), value)


def _items(value: object, text: str, wanted: str) -> Iterable[object]:
    if isinstance(value, str | bytes | Mapping | Model) or not isinstance(value, Iterable):
        raise _invalid(text, f"takes {wanted}, not {type(value).__name__}")
    return value


def _invalid(text: str, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{text} {problem}.", reason="FIELD_INVALID", field=text)


def order(registry: Registry, model: str, text: str) -> Order:
    """Return the key of an order that `text` names, ``"-sample__name"`` for descending.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_UNKNOWN``, or ``FIELD_INVALID`` for a to-many relation or a field without an order.
    """
    name = _name(text).removeprefix("-")
    path = column_at(registry, model, name, "sorted by")
    if path.column.type in UNORDERED:
        raise _invalid(name, f"is a {path.column.type.value} field, which has no order")
    return Order(path.path, descending=text != name)


def column_at(registry: Registry, model: str, text: str, purpose: str = "read") -> ResolvedPath:
    """Return the column that `text` names, in the row itself or past to-one relations."""
    path = resolve(registry, model, _name(text), lookups=False)
    _refuse_to_many(path.hops, text, f"{purpose} here")
    if path.key is not None:
        raise _invalid(text, "is no field; keys of key-value pairs cannot be named here")
    return path


def to_one(registry: Registry, model: str, text: str) -> tuple[Hop, ...]:
    """Return the to-one relations that `text` follows, ``"sample__experiment"``."""
    hops = relations(registry, model, text)
    _refuse_to_many(hops, text, "fetched in one row; use prefetch_related for it")
    return hops


def relations(registry: Registry, model: str, text: str) -> tuple[Hop, ...]:
    """Return the relations that `text` follows, to-one and to-many, and nothing but relations."""
    return resolve(registry, model, f"{_name(text)}__id", lookups=False).hops


def _name(text: object) -> str:
    if not isinstance(text, str):
        raise _invalid("The query", f"takes names of fields as text, not {type(text).__name__}")
    return text


def _refuse_to_many(hops: tuple[Hop, ...], text: str, purpose: str) -> None:
    for hop in hops:
        if hop.to_many:
            raise _invalid(
                text, f"follows {hop.source.name}.{hop.name}, which has many rows and cannot be {purpose}"
            )


def changes(registry: Registry, model: str, values: Mapping[str, Any]) -> dict[str, object]:
    """Return `values`, by field or relation name, as cleaned column values for an update."""
    spec = registry.get(model)
    cleaned: dict[str, object] = {}
    for name, value in values.items():
        relation = spec.relation(name)
        column = spec.column(relation.column if relation is not None else name)
        if column is None:
            resolve(registry, model, name, lookups=False)  # raises the error that suggests a name
            raise _invalid(name, "is not a column of the row itself and cannot be changed here")
        if column.read_only or column.immutable:
            raise InvalidArgumentError(
                f"{model}.{name} is {'set by Larvik' if column.read_only else 'fixed at creation'}"
                " and cannot be changed.",
                reason="FIELD_READ_ONLY",
                field=f"{model}.{name}",
            )
        if isinstance(value, Model):
            value = _one(column, value, f"{model}.{name}", relation.target if relation is not None else None)
        cleaned[column.name] = clean(column, value, model=model)
    return cleaned


def is_nothing(query: Query) -> bool:
    """Tell whether `query` can have no rows, whatever is stored."""
    return query.limit == 0 or any(
        isinstance(item, Compare) and item.lookup is Lookup.IN and item.value == () for item in query.where
    )
