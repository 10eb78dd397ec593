"""Rules of single models that values alone cannot tell: checked on whole rows before they are stored."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from larvik.db.lookups import has_id
from larvik.db.tables import Tables
from larvik.errors import InvalidArgumentError

Row = dict[str, Any]

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Context:
    """Where rows are written: `is_new` tells created ones from changed ones."""

    tables: Tables
    dialect: str
    connection: Connection
    is_new: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """Checks whole rows when one of `columns` is written, and fills in the columns `derived`."""

    columns: frozenset[str]
    apply: Callable[[Context, Sequence[Row]], None]
    derived: tuple[str, ...] = ()


def _number_of_value(context: Context, rows: Sequence[Row]) -> None:
    """Keep the number that a value is, so that lookups compare numbers as numbers."""
    for row in rows:
        number = float(row["value"]) if _NUMBER.fullmatch(row["value"]) else math.inf
        row["number"] = number + 0.0 if math.isfinite(number) else None


def _vertices(context: Context, rows: Sequence[Row]) -> None:
    for row in rows:
        dims, vertices = row["vertex_dims"], row["vertices"]
        if not dims or len(set(dims)) != len(dims):
            raise InvalidArgumentError(
                "ROI.vertex_dims names the dims of each vertex, each once.",
                reason="FIELD_INVALID",
                field="ROI.vertex_dims",
            )
        if not vertices or len(vertices) % (8 * len(dims)):
            raise InvalidArgumentError(
                f"ROI.vertices has {len(vertices)} bytes; one of {len(dims)} dims takes {8 * len(dims)}.",
                reason="FIELD_INVALID",
                field="ROI.vertices",
            )
        if not all(map(math.isfinite, memoryview(vertices).cast("d"))):
            raise InvalidArgumentError(
                "ROI.vertices contain NaN or infinity.", reason="FIELD_INVALID", field="ROI.vertices"
            )


def _same_plane(context: Context, rows: Sequence[Row]) -> None:
    """Check that representations keep x and y of their parents, and descend from no one twice."""
    table = context.tables.of("Representation")
    wanted = {row["parent_id"] for row in rows if row["parent_id"]}
    if not wanted:
        return
    found = context.connection.execute(
        select(table.c.id, table.c.dims, table.c.shape).where(has_id(context.dialect, table.c.id, wanted))
    )
    known: dict[str, Mapping[str, Any]] = {row.id: dict(row._mapping) for row in found}
    known.update({row["id"]: row for row in rows})
    for row in rows:
        parent = known.get(row["parent_id"])
        if parent is not None:
            _check_plane(row, parent)
            if not context.is_new:  # what is new has no descendants yet
                _check_descent(context, row)


def _check_plane(row: Row, parent: Mapping[str, Any]) -> None:
    own, theirs = (dict(zip(item["dims"], item["shape"], strict=False)) for item in (row, parent))
    for dim in "yx":
        if dim in own and dim in theirs and own[dim] != theirs[dim]:
            raise InvalidArgumentError(
                f"A Representation keeps x and y of its parent: {dim} has {own[dim]} elements, the parent's"
                f" {theirs[dim]}. Store a crop or another region as a Transformation.",
                reason="SHAPE_MISMATCH",
                field="Representation.parent",
            )


def _check_descent(context: Context, row: Row) -> None:
    table = context.tables.of("Representation")
    line = (
        select(table.c.id, table.c.parent_id)
        .where(table.c.id == row["parent_id"])
        .cte("line", recursive=True)
    )
    line = line.union(select(table.c.id, table.c.parent_id).where(table.c.id == line.c.parent_id))
    if context.connection.execute(select(line.c.id).where(line.c.id == row["id"])).first() is not None:
        raise InvalidArgumentError(
            "A Representation cannot be its own ancestor.",
            reason="FIELD_INVALID",
            field="Representation.parent",
        )


RULES: dict[str, Rule] = {
    "KeyValue": Rule(frozenset({"value"}), _number_of_value, derived=("number",)),
    "ROI": Rule(frozenset({"vertices", "vertex_dims"}), _vertices),
    "Representation": Rule(frozenset({"parent_id", "shape", "dims"}), _same_plane),
}
