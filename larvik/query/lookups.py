"""Which lookups work on which columns: refused when a query is built, and again when it is run."""

from __future__ import annotations

from numbers import Real

from larvik.errors import InvalidArgumentError
from larvik.query.paths import UNORDERED
from larvik.query.predicate import TEXT_LOOKUPS, Lookup
from larvik.schema import FieldSpec, FieldType

#: Lookups that need equality alone.
_EQUAL = frozenset({Lookup.EXACT, Lookup.IN, Lookup.ISNULL})
#: What a stored column is compared with when it has no order: these types take no comparison at all.
_UNCOMPARABLE = frozenset({FieldType.JSON, FieldType.BINARY})


def check_lookup(column: FieldSpec, lookup: Lookup, text: str = "") -> None:
    """Refuse a lookup that `column` has no meaning for.

    Parameters
    ----------
    column : FieldSpec
        What is compared.
    lookup : Lookup
        How.
    text : str
        What the caller wrote, named by the error instead of the column.

    Raises
    ------
    InvalidArgumentError
        ``LOOKUP_INVALID``; says what the column does not hold.
    """
    if lookup is Lookup.ISNULL:
        return
    if lookup in TEXT_LOOKUPS and column.type is not FieldType.STRING:
        problem = "text"
    elif column.type in _UNCOMPARABLE:
        problem = "comparable values; only isnull works"
    elif column.type in UNORDERED and lookup not in _EQUAL:
        problem = "ordered values; only exact, in and isnull work"
    else:
        return
    raise InvalidArgumentError(
        f"{f'{text!r}: ' if text else ''}{lookup.value} does not work on {column.name}, a"
        f" {column.type.value} field, which does not hold {problem}.",
        reason="LOOKUP_INVALID",
        field=text or column.name,
    )


def is_numeric(value: object) -> bool:
    """Tell whether `value` is a number or a list of numbers, NumPy's included: no bool, no empty list."""
    if isinstance(value, list | tuple):
        return bool(value) and all(is_numeric(item) for item in value)
    return isinstance(value, Real) and not isinstance(value, bool)
