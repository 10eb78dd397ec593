"""What a caller's values make of a row: defaults, the common columns, and what may not be set.

Values alone: nothing here reads or writes the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from larvik.db.columns import json_text
from larvik.errors import AlreadyExistsError, InvalidArgumentError
from larvik.ids import new_id
from larvik.models.values import clean, clean_row
from larvik.schema import FieldSpec, FieldType, ModelSpec

Row = dict[str, Any]


class Changes:
    """Makes rows of what the subject `subject_id` asks to write."""

    def __init__(self, subject_id: str | None) -> None:
        self._subject_id = subject_id

    def new_row(
        self, spec: ModelSpec, values: Mapping[str, object], computed: Mapping[str, object], now: datetime
    ) -> Row:
        """Return the whole new row of `spec`: `values`, `computed`, defaults and the common columns.

        Raises
        ------
        InvalidArgumentError
            ``FIELD_UNKNOWN``, ``FIELD_INVALID``, ``FIELD_MISSING``, ``FIELD_READ_ONLY`` or
            ``ARRAY_REQUIRED``; names the field.
        """
        given = clean_row(
            spec, {name: value for name, value in values.items() if not _is_blank(spec, name, value)}
        )
        given.update(clean_row(spec, computed))
        given.setdefault("id", new_id())
        common = {"created_at": now, "updated_at": now, "revision": 1}
        if self._subject_id is not None:
            common |= {"created_by_id": self._subject_id, "owner_id": self._subject_id}
        return {
            field.name: given[field.name]
            if field.name in given
            else common[field.name]
            if field.name in common and field.read_only
            else _default(spec, field)
            for field in spec.columns()
        }

    def unstored(self, spec: ModelSpec, rows: Sequence[Row], stored: Mapping[str, Row]) -> list[Row]:
        """Return those of `rows` that are not stored yet.

        Raises
        ------
        AlreadyExistsError
            ``OBJECT_EXISTS``, for a stored id with other content.
        InvalidArgumentError
            ``FIELD_INVALID``, for an id that is there twice.
        """
        new: dict[str, Row] = {}
        for row in rows:
            there = stored.get(row["id"])
            if there is None and row["id"] in new:
                raise InvalidArgumentError(
                    f"Two of the new rows have the id {row['id']}.",
                    reason="FIELD_INVALID",
                    field=f"{spec.name}.id",
                )
            if there is None:
                new[row["id"]] = row
                continue
            other = [
                f.name for f in spec.columns() if not f.read_only and not _same(f, row[f.name], there[f.name])
            ]
            if other:
                raise AlreadyExistsError(
                    f"There is a {spec.name} {row['id']} with another {', '.join(other)}.",
                    model=spec.name,
                    id=row["id"],
                    field=other[0],
                )
        return list(new.values())

    def checked(self, spec: ModelSpec, changes: Mapping[str, object], computed: Mapping[str, object]) -> Row:
        """Return the cleaned values to change.

        Raises
        ------
        InvalidArgumentError
            ``FIELD_UNKNOWN``, ``FIELD_INVALID`` or ``FIELD_READ_ONLY``; names the field.
        """
        for name in changes:
            field = spec.column(name)
            if field is not None and field.read_only:
                raise _read_only(spec, field)
        return {**clean_row(spec, changes), **clean_row(spec, computed)}

    def differing(self, spec: ModelSpec, rows: Sequence[Row], new: Row) -> list[Row]:
        """Return those of the stored `rows` that `new` would change.

        Raises
        ------
        InvalidArgumentError
            ``FIELD_READ_ONLY``, when a field is fixed at creation.
        """
        found = []
        for row in rows:
            fields = [spec.column(name) for name in new]
            changed = [f for f in fields if f is not None and not _same(f, row[f.name], new[f.name])]
            fixed = next((field for field in changed if field.immutable), None)
            if fixed is not None:
                raise _read_only(spec, fixed)
            if changed:
                found.append(row)
        return found


def _is_blank(spec: ModelSpec, name: str, value: object) -> bool:
    """Tell whether `value` says nothing: a missing id, or the default of a field that Larvik sets."""
    field = spec.column(name)
    if field is None or (name == "id" and value is None):
        return field is not None
    if field.read_only and (value is None or value == field.default):
        return True
    if field.read_only:
        raise _read_only(spec, field)
    return False


def _default(spec: ModelSpec, field: FieldSpec) -> object:
    if field.default is not None:
        return clean(field, field.default, model=spec.name)
    if field.nullable:
        return None
    if field.read_only:
        raise InvalidArgumentError(
            f"A {spec.name} is not stored without its content: use from_xarray, from_frame or import_file.",
            reason="ARRAY_REQUIRED",
            model=spec.name,
            field=f"{spec.name}.{field.name}",
        )
    raise InvalidArgumentError(
        f"{spec.name}.{field.name} is required.", reason="FIELD_MISSING", field=f"{spec.name}.{field.name}"
    )


def _read_only(spec: ModelSpec, field: FieldSpec) -> InvalidArgumentError:
    why = "is set by Larvik" if field.read_only else "is fixed at creation"
    return InvalidArgumentError(
        f"{spec.name}.{field.name} {why} and cannot be changed.",
        reason="FIELD_READ_ONLY",
        field=f"{spec.name}.{field.name}",
    )


def _same(field: FieldSpec, one: object, other: object) -> bool:
    if field.type is FieldType.JSON and one is not None and other is not None:
        return json_text(one) == json_text(other)  # Python holds 1, 1.0 and True to be equal
    return one == other
