"""Rows as Arrow: the schema of a model's columns, and values brought into it.

==============  =======================================
field type      Arrow type
==============  =======================================
string, uuid    utf8 (canonical text)
json            utf8 (JSON text)
int64           int64
float64         float64
bool            bool
timestamp       timestamp[us, UTC]
binary          binary
int64_list      list<int64>
string_list     list<utf8>
==============  =======================================

Columns are called as their fields; those of biometa by OME's names (``EmissionWavelength``), with
``id`` and ``object_id``, the array that a row belongs to. A field's metadata has its ``unit``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import ColumnElement, Text, cast, type_coerce

from larvik.schema import FieldSpec, FieldType

_TYPES = {
    FieldType.STRING: pa.utf8(),
    FieldType.UUID: pa.utf8(),
    FieldType.JSON: pa.utf8(),
    FieldType.INT64: pa.int64(),
    FieldType.FLOAT64: pa.float64(),
    FieldType.BOOL: pa.bool_(),
    FieldType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    FieldType.BINARY: pa.binary(),
    FieldType.INT64_LIST: pa.list_(pa.int64()),
    FieldType.STRING_LIST: pa.list_(pa.utf8()),
}
_LISTS = frozenset({FieldType.INT64_LIST, FieldType.STRING_LIST})
#: Fields whose SQL form on PostgreSQL is cast to text on the way out.
_CAST = frozenset({FieldType.UUID, FieldType.JSON}) | _LISTS


def arrow_schema(fields: Iterable[FieldSpec]) -> pa.Schema:
    """Return the Arrow schema of the columns `fields`."""
    return pa.schema(
        pa.field(
            field.label or field.name,
            _TYPES[field.type],
            nullable=field.nullable,
            metadata={"unit": field.unit} if field.unit else None,
        )
        for field in fields
    )


def wire_column(dialect: str, field: FieldSpec, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return `column` in the SQL form that ADBC reads into what `to_arrow` takes."""
    if field.type in _CAST and dialect == "postgresql":
        return cast(column, Text()).label(field.name)
    return type_coerce(column, Text()) if field.type in _CAST else column


def from_rows(
    fields: Sequence[FieldSpec], schema: pa.Schema, rows: Sequence[Sequence[Any]]
) -> pa.RecordBatch:
    """Return rows of `wire_column` columns, as SQLAlchemy gives them, as a record batch of `schema`."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(fields)
    for index, field in enumerate(fields):
        if field.type in _LISTS:
            columns[index] = [None if text is None else json.loads(text) for text in columns[index]]
    arrays = [pa.array(values, target.type) for target, values in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def to_arrow(fields: Sequence[FieldSpec], schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return what a driver gave for `fields` as a record batch of `schema`; no copy where types agree."""
    arrays = [
        _column(field, target.type, array)
        for field, target, array in zip(fields, schema, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _column(field: FieldSpec, target: pa.DataType, array: pa.Array) -> pa.Array:
    if array.type == target:
        return array
    if pa.types.is_null(array.type) or array.null_count == len(array):
        return pa.nulls(len(array), target)
    if field.type in _LISTS:
        distinct = array.dictionary_encode()
        lists = pa.array([json.loads(text) for text in distinct.dictionary.to_pylist()], target)
        return lists.take(distinct.indices)
    if field.type is FieldType.TIMESTAMP and pa.types.is_integer(array.type):
        return array.cast(pa.int64()).view(target)
    if pa.types.is_dictionary(array.type):
        return array.dictionary_decode().cast(target)
    return pc.cast(array, target)
