"""Conditions of a query: comparisons joined by and, or, not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from larvik.query.query import Query


class Lookup(StrEnum):
    """How a field is compared. Case-sensitive lookups compare bytes; ``i*`` ones fold ASCII only."""

    EXACT = "exact"
    IEXACT = "iexact"
    CONTAINS = "contains"
    ICONTAINS = "icontains"
    STARTSWITH = "startswith"
    ISTARTSWITH = "istartswith"
    ENDSWITH = "endswith"
    IENDSWITH = "iendswith"
    IN = "in"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    RANGE = "range"
    ISNULL = "isnull"


#: Lookups that take text, and exist on string fields only.
TEXT_LOOKUPS = frozenset(
    {
        Lookup.IEXACT, Lookup.CONTAINS, Lookup.ICONTAINS, Lookup.STARTSWITH, Lookup.ISTARTSWITH,
        Lookup.ENDSWITH, Lookup.IENDSWITH,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison.

    ``path`` names relations, then a column: ``("sample", "experiment", "name")``; hops over parts
    are one name each: ``("biometa__channels", "emission_wavelength")``. A key of key-value pairs may
    stand for the column, ``("key_values", "dose")``: compared as text, or with numbers as a number;
    each such comparison speaks of a pair of its own. ``value`` is cleaned:
    one scalar of the column's type; for ``in`` a tuple of them or a `Query` whose ids are meant;
    for ``range`` a pair; for ``isnull`` a bool.
    """

    path: tuple[str, ...]
    lookup: Lookup
    value: object | Query


@dataclass(frozen=True, slots=True)
class And:
    """All of the children. Children that follow the same relation speak of the same related row."""

    children: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of the children."""

    children: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Not the child; a comparison with NULL counts as false before it is negated."""

    child: Predicate


Predicate: TypeAlias = Compare | And | Or | Not
