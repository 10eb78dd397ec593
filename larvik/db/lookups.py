"""One comparison in SQL, meaning the same on SQLite and PostgreSQL.

Text is compared by bytes (BINARY here, collation C there); ``i*`` lookups fold A-Z alone on both;
no lookup uses LIKE, so wildcards are plain characters. ``startswith`` is a range of keys, which
both databases answer from an index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, any_, column, false, func, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from larvik.db.columns import TEXT, UUID, json_text, sql_type, to_micros
from larvik.errors import InvalidArgumentError
from larvik.models.values import clean
from larvik.query.lookups import check_lookup
from larvik.query.paths import UNORDERED
from larvik.query.predicate import TEXT_LOOKUPS, Lookup
from larvik.schema import FieldSpec, FieldType

#: Most values of one ``in`` list.
MAX_IN_VALUES = 100_000
#: Most values that are bound one by one; SQLite takes 32,766 in a statement.
_MAX_BOUND = 10_000
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_LAST_CODE_POINT = 0x10FFFF

Bool = ColumnElement[bool]


def compare(
    dialect: str, target: ColumnElement[Any], field: FieldSpec, lookup: Lookup, value: object
) -> Bool:
    """Return the comparison of `target`, which stores `field`, with an unchecked `value`.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_INVALID`` or ``LOOKUP_INVALID``; names the field.
    """
    check_lookup(field, lookup)
    if lookup is Lookup.EXACT and value is None:
        lookup, value = Lookup.ISNULL, True
    if lookup is Lookup.ISNULL:
        if not isinstance(value, bool):
            raise _invalid(field, "takes True or False with isnull")
        return target.is_(None) if value else target.is_not(None)
    if lookup is Lookup.IN:
        return member(dialect, target, field, _items(field, value))
    if lookup is Lookup.RANGE:
        bounds = _items(field, value)
        if len(bounds) != 2:
            raise _invalid(
                field, f"takes two values with range, the least and the greatest, not {len(bounds)}"
            )
        least, greatest = (literal(_clean(field, item), sql_type(field)) for item in bounds)
        return and_(target >= least, target <= greatest)
    if lookup in TEXT_LOOKUPS:
        return _text(dialect, target, lookup, str(_clean(replace(field, choices=()), value)))
    return _ordered(dialect, target, field, lookup, value)


def _clean(field: FieldSpec, value: object) -> object:
    if value is None:
        raise _invalid(field, "takes a value here, not None; ask for missing values with isnull")
    return clean(replace(field, nullable=False), value)


def _items(field: FieldSpec, value: object) -> Sequence[object]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _invalid(field, "takes a list here")
    items = list(value)
    if len(items) > MAX_IN_VALUES:
        raise InvalidArgumentError(
            f"A list of {len(items)} values is too long; at most {MAX_IN_VALUES} fit. Use a query instead of"
            " its ids.",
            reason="LIMIT_EXCEEDED",
            field=field.name,
        )
    return items


def _invalid(field: FieldSpec, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field.name} {problem}.", reason="FIELD_INVALID", field=field.name)


def _ordered(
    dialect: str, target: ColumnElement[Any], field: FieldSpec, lookup: Lookup, value: object
) -> Bool:
    if lookup is not Lookup.EXACT:
        field = replace(field, choices=())
    cleaned = _clean(field, value)
    if field.type in UNORDERED:
        return _as_text(dialect, target) == literal(json_text(cleaned), Text())
    bound = literal(cleaned, sql_type(field))
    match lookup:
        case Lookup.GT:
            return target > bound
        case Lookup.GTE:
            return target >= bound
        case Lookup.LT:
            return target < bound
        case Lookup.LTE:
            return target <= bound
        case _:
            return target == bound


def _as_text(dialect: str, target: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a JSON column as the text that was written."""
    from sqlalchemy import cast, type_coerce

    return cast(target, Text()) if dialect == "postgresql" else type_coerce(target, Text())


def _text(dialect: str, target: ColumnElement[Any], lookup: Lookup, value: str) -> Bool:
    if lookup in {Lookup.IEXACT, Lookup.ICONTAINS, Lookup.ISTARTSWITH, Lookup.IENDSWITH}:
        # Both lower() fold A-Z alone: SQLite's by nature, PostgreSQL's under collation C.
        target, value = func.lower(target, type_=target.type), value.translate(_LOWER)
    bound = literal(value, target.type)
    if lookup is Lookup.IEXACT:
        return target == bound
    if not value:
        return target.is_not(None)
    if lookup in {Lookup.CONTAINS, Lookup.ICONTAINS}:
        found = func.instr(target, bound) if dialect == "sqlite" else func.strpos(target, bound)
        return found > 0
    if lookup in {Lookup.STARTSWITH, Lookup.ISTARTSWITH}:
        end = successor(value)
        return target >= bound if end is None else and_(target >= bound, target < literal(end, target.type))
    size = len(value)
    end_of = func.substr(target, -size) if dialect == "sqlite" else func.right(target, size)
    return end_of == bound


def successor(prefix: str) -> str | None:
    """Return the least text greater than every text that starts with `prefix`; None when there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000
        if code <= _LAST_CODE_POINT:
            return prefix[:-1] + chr(code)
        prefix = prefix[:-1]
    return None


def member(dialect: str, target: ColumnElement[Any], field: FieldSpec, values: Iterable[object]) -> Bool:
    """Return that `target`, which stores `field`, is one of `values`; one parameter, however many."""
    cleaned = [_clean(field, value) for value in values]
    if not cleaned:
        return false()
    if field.type in UNORDERED:
        return _among(dialect, _as_text(dialect, target), [json_text(value) for value in cleaned], Text())
    if dialect == "sqlite" and field.type is FieldType.FLOAT64:
        # SQLite does not promise to read back the decimal text of a double exactly.
        if len(cleaned) > _MAX_BOUND:
            raise _invalid(field, f"takes at most {_MAX_BOUND} numbers in a list")
        return target.in_([literal(value, sql_type(field)) for value in cleaned])
    return _among(dialect, target, cleaned, sql_type(field))


def has_id(dialect: str, target: ColumnElement[Any], ids: Iterable[str]) -> Bool:
    """Return that `target` is one of `ids`, which are canonical; one parameter."""
    return _among(dialect, target, list(ids), UUID)


def _among(dialect: str, target: ColumnElement[Any], values: list[Any], kind: TypeEngine[Any]) -> Bool:
    if dialect == "postgresql":
        # A variant would not be resolved inside an array.
        item = postgresql.UUID(as_uuid=False) if kind is UUID else Text() if kind is TEXT else kind
        return target == any_(literal(values, postgresql.ARRAY(item)))
    if values and hasattr(values[0], "tzinfo"):
        values = [to_micros(value) for value in values]
    listed = func.json_each(literal(json.dumps(values, ensure_ascii=False), Text())).table_valued("value")
    return target.in_(select(column("value")).select_from(listed))
