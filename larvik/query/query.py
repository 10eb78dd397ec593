"""The query itself, and what evaluating one gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from larvik.query.predicate import Predicate


class Trash(StrEnum):
    """Which rows a query sees."""

    EXCLUDE = "exclude"  # live rows, the default
    ONLY = "only"
    INCLUDE = "include"


@dataclass(frozen=True, slots=True)
class Order:
    """One key of an order; NULLs come last in both directions. `path` follows to-one relations."""

    path: tuple[str, ...]
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows of one model, in which order, with which relations fetched along.

    Attributes
    ----------
    model : str
        Name of the model.
    where : tuple of Predicate
        All must hold. Each comes from one ``filter`` or ``exclude``: a to-many relation named in
        two of them may mean two different related rows; named twice in one, the same row.
    order_by : tuple of Order
        ``id`` is always added as the last key, so the order is total.
    offset, limit : int
        Slice of the ordered rows; ``limit`` None means all.
    select_related : tuple of path
        To-one paths fetched in the same statement.
    columns : tuple of str
        Columns to return; empty for all.
    trash : Trash
        Whether trashed rows are seen.
    """

    model: str
    where: tuple[Predicate, ...] = ()
    order_by: tuple[Order, ...] = ()
    offset: int = 0
    limit: int | None = None
    select_related: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()
    trash: Trash = Trash.EXCLUDE


@dataclass(frozen=True, slots=True)
class Record:
    """One stored row: its column values, and the rows of ``select_related`` by relation name."""

    model: str
    values: Mapping[str, object]
    related: Mapping[str, Record | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a query, and the token of the next page; None after the last."""

    records: tuple[Record, ...]
    next_token: str | None = None
