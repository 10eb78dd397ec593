"""`Query` as a message, both ways.

What arrives is checked for form here; names and types are checked by whoever compiles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from larvik.errors import InvalidArgumentError
from larvik.proto.v1 import query_pb2
from larvik.query.predicate import And, Compare, Lookup, Not, Or, Predicate
from larvik.query.query import Order, Query, Trash
from larvik.wire.values import check_name, decode_value, write_value

Items = TypeVar("Items", bound=Sequence[object])

#: Most levels of nested conditions and queries.
MAX_DEPTH = 32
#: Most conditions of one query, nested ones included.
MAX_CONDITIONS = 1000
#: Most names of one path; most orders, columns and relations of one query.
MAX_PATH = 10
MAX_ITEMS = 1000

_LOOKUPS = {lookup: query_pb2.Lookup.Value(f"LOOKUP_{lookup.name}") for lookup in Lookup}
_LOOKUPS_BACK = {number: lookup for lookup, number in _LOOKUPS.items()}
_TRASH = {trash: query_pb2.Trash.Value(f"TRASH_{trash.name}") for trash in Trash}
_TRASH_BACK = {query_pb2.TRASH_UNSPECIFIED: Trash.EXCLUDE} | {
    number: trash for trash, number in _TRASH.items()
}


def encode_query(query: Query) -> query_pb2.Query:
    """Return the message of a query.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_INVALID``, for a value that no field holds; ``QUERY_INVALID``, for a negative slice or
        conditions nested too deep.
    """
    message = query_pb2.Query()
    _write_query(message, query, depth=0)
    return message


def _write_query(message: query_pb2.Query, query: Query, depth: int) -> None:
    if query.offset < 0 or (query.limit is not None and query.limit < 0):
        raise _refused("offset and limit count rows from the start and cannot be negative", "limit")
    message.model = query.model
    for predicate in query.where:
        _write_predicate(message.where.add(), predicate, depth + 1)
    for order in query.order_by:
        message.order_by.add(path=order.path, descending=order.descending)
    message.offset = query.offset
    if query.limit is not None:
        message.limit = query.limit
    for path in query.select_related:
        message.select_related.add(names=path)
    message.columns.extend(query.columns)
    message.trash = _TRASH[query.trash]


def _write_predicate(message: query_pb2.Predicate, predicate: Predicate, depth: int) -> None:
    _check_depth(depth)
    match predicate:
        case Compare(path, lookup, value):
            message.compare.path.extend(path)
            message.compare.lookup = _LOOKUPS[lookup]
            if isinstance(value, Query):
                _write_query(message.compare.value.query_value, value, depth + 1)
            else:
                # A bare list would travel as JSON; here it can only mean several values.
                value = tuple(value) if isinstance(value, list | set | frozenset) else value
                write_value(message.compare.value, value, "__".join(path))
        case And(children):
            message.all.SetInParent()
            for child in children:
                _write_predicate(message.all.children.add(), child, depth + 1)
        case Or(children):
            message.any.SetInParent()
            for child in children:
                _write_predicate(message.any.children.add(), child, depth + 1)
        case Not(child):
            _write_predicate(message.negated, child, depth + 1)


def decode_query(message: query_pb2.Query) -> Query:
    """Return the query of a message.

    Raises
    ------
    InvalidArgumentError
        ``QUERY_INVALID``: an unknown lookup, a condition without a kind, nesting beyond 32 levels, more
        than 1000 conditions, or paths too long; ``FIELD_INVALID``, for a value that no field holds. Names
        the field.
    """
    return _Decoder().query(message, 0, "query")


class _Decoder:
    """Decodes one query and counts its conditions."""

    def __init__(self) -> None:
        self.conditions = 0

    def query(self, message: query_pb2.Query, depth: int, field: str) -> Query:
        _check_depth(depth)
        if message.trash not in _TRASH_BACK:
            raise _refused(
                f"{field}.trash is {message.trash}, which this server does not know", f"{field}.trash"
            )
        _check_count(message.where, f"{field}.where")
        return Query(
            model=check_name(message.model, field=f"{field}.model"),
            where=tuple(
                self.predicate(item, depth + 1, f"{field}.where[{number}]")
                for number, item in enumerate(message.where)
            ),
            order_by=tuple(
                Order(_path(item.path, f"{field}.order_by[{number}]"), item.descending)
                for number, item in enumerate(_check_count(message.order_by, f"{field}.order_by"))
            ),
            offset=_row_count(message.offset, f"{field}.offset"),
            limit=_row_count(message.limit, f"{field}.limit") if message.HasField("limit") else None,
            select_related=tuple(
                _path(item.names, f"{field}.select_related[{number}]")
                for number, item in enumerate(_check_count(message.select_related, f"{field}.select_related"))
            ),
            columns=tuple(
                check_name(name, field=f"{field}.columns")
                for name in _check_count(message.columns, f"{field}.columns")
            ),
            trash=_TRASH_BACK[message.trash],
        )

    def predicate(self, message: query_pb2.Predicate, depth: int, field: str) -> Predicate:
        _check_depth(depth)
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise _refused(f"the query has more than {MAX_CONDITIONS} conditions", field)
        kind = message.WhichOneof("kind")
        if kind == "compare":
            return self.compare(message.compare, depth, field)
        if kind == "negated":
            return Not(self.predicate(message.negated, depth + 1, f"{field}.negated"))
        if kind == "all":
            return And(self.children(message.all, depth, f"{field}.all"))
        if kind == "any":
            return Or(self.children(message.any, depth, f"{field}.any"))
        raise _refused(f"{field} is empty: it takes compare, all, any or negated", field)

    def children(self, message: query_pb2.PredicateList, depth: int, field: str) -> tuple[Predicate, ...]:
        return tuple(
            self.predicate(child, depth + 1, f"{field}[{number}]")
            for number, child in enumerate(message.children)
        )

    def compare(self, message: query_pb2.Compare, depth: int, field: str) -> Compare:
        path = _path(message.path, f"{field}.path")
        lookup = _LOOKUPS_BACK.get(message.lookup)
        if lookup is None:
            raise _refused(
                f"{field}.lookup is {message.lookup}, which this server does not know", f"{field}.lookup"
            )
        if message.value.WhichOneof("kind") != "query_value":
            return Compare(path, lookup, decode_value(message.value, field="__".join(path)))
        if lookup is not Lookup.IN:
            raise _refused(f"{field} compares with a query, which only the lookup 'in' can", field)
        return Compare(path, lookup, self.query(message.value.query_value, depth + 1, f"{field}.value"))


def _path(names: Sequence[str], field: str) -> tuple[str, ...]:
    if not 1 <= len(names) <= MAX_PATH:
        raise _refused(f"{field} has {len(names)} names; it takes 1 to {MAX_PATH}", field)
    return tuple(check_name(name, field=field) for name in names)


def _check_count(items: Items, field: str) -> Items:
    if len(items) > MAX_ITEMS:
        raise _refused(f"{field} has {len(items)} items; at most {MAX_ITEMS} fit", field)
    return items


def _row_count(count: int, field: str) -> int:
    if count >= 2**63:
        raise _refused(f"{field} is {count}, more rows than any table holds", field)
    return count


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _refused(f"the query is nested deeper than {MAX_DEPTH} levels", "query")


def _refused(problem: str, field: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{problem[0].upper()}{problem[1:]}.", reason="QUERY_INVALID", field=field)
