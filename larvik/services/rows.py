"""Rows as JSON, so that an upload session can hold them until they are stored."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from larvik.models.values import clean_row
from larvik.schema import FieldType, ModelSpec, Registry

Rows = Mapping[str, Sequence[Mapping[str, object]]]


def row_to_json(spec: ModelSpec, row: Mapping[str, object]) -> dict[str, Any]:
    """Return `row` with its values cleaned, in the form that JSON holds.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_UNKNOWN`` or ``FIELD_INVALID``; names the field.
    """
    return {name: _to_json(value) for name, value in clean_row(spec, row).items()}


def row_from_json(spec: ModelSpec, row: Mapping[str, Any]) -> dict[str, object]:
    """Return the row that `row_to_json` was given."""
    binary = {column.name for column in spec.columns() if column.type is FieldType.BINARY}
    decoded = {
        name: base64.b64decode(value) if name in binary and value is not None else value
        for name, value in row.items()
    }
    return clean_row(spec, decoded)


def in_order(registry: Registry, models: Iterable[str]) -> list[str]:
    """Return `models` so that each comes after those that its relations point at."""
    waiting = list(dict.fromkeys(models))
    ordered: list[str] = []
    while waiting:
        ready = [name for name in waiting if not _targets(registry, name) & (set(waiting) - {name})]
        ordered += ready or waiting
        waiting = [name for name in waiting if name not in ready] if ready else []
    return ordered


def _targets(registry: Registry, model: str) -> set[str]:
    return {relation.target for relation in registry.get(model).relations}


def _to_json(value: object) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if hasattr(value, "isoformat") else value
