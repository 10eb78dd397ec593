"""SQL types of fields: one Python value, one SQL form for each database.

=============  ======================  =====================
field type     SQLite                  PostgreSQL
=============  ======================  =====================
string         TEXT, compared bytewise text, collation C
uuid           TEXT                    uuid
timestamp      BIGINT, microseconds    timestamptz
json, lists    TEXT, canonical JSON    json, the same text
=============  ======================  =====================

JSON is ``json`` on PostgreSQL, not ``jsonb``: the stored text is then what was written, so that
values and their equality are the same on both databases (``jsonb`` rewrites numbers).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Boolean, Dialect, Double, LargeBinary, Text, TypeDecorator
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from larvik.schema import FieldSpec, FieldType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(value: datetime) -> int:
    """Return an aware `value` as microseconds since 1970-01-01 UTC."""
    return (value - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """Return the UTC moment that is `value` microseconds after 1970-01-01."""
    return _EPOCH + timedelta(microseconds=value)


def json_text(value: object) -> str:
    """Return `value` as canonical JSON: sorted keys, no spaces, equal text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Timestamp(TypeDecorator[datetime]):
    """A moment in UTC with microseconds."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of one database."""
        on_postgres = dialect.name == "postgresql"
        return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True) if on_postgres else BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Return what the driver takes."""
        return value if value is None or dialect.name == "postgresql" else to_micros(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return what people see."""
        if value is None:
            return None
        return value.astimezone(UTC) if isinstance(value, datetime) else from_micros(value)


class Json(TypeDecorator[Any]):
    """What JSON holds; a SQL NULL is None."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of one database."""
        on_postgres = dialect.name == "postgresql"
        return dialect.type_descriptor(postgresql.JSON(none_as_null=True) if on_postgres else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return what the driver takes; on PostgreSQL the engine's serializer writes the text."""
        return value if value is None or dialect.name == "postgresql" else json_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return what people see."""
        return value if value is None or dialect.name == "postgresql" else json.loads(value)


class JsonList(Json):
    """A tuple of integers or texts, stored as a JSON list."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return what people see."""
        found = super().process_result_value(value, dialect)
        return None if found is None else tuple(found)


#: Text that both databases compare byte by byte.
TEXT: TypeEngine[Any] = Text().with_variant(Text(collation="C"), "postgresql")
UUID: TypeEngine[Any] = Text().with_variant(postgresql.UUID(as_uuid=False), "postgresql")

_TYPES: dict[FieldType, Callable[[], TypeEngine[Any]]] = {
    FieldType.STRING: lambda: TEXT,
    FieldType.INT64: BigInteger,
    FieldType.FLOAT64: Double,
    FieldType.BOOL: Boolean,
    FieldType.TIMESTAMP: Timestamp,
    FieldType.UUID: lambda: UUID,
    FieldType.JSON: Json,
    FieldType.BINARY: LargeBinary,
    FieldType.INT64_LIST: JsonList,
    FieldType.STRING_LIST: JsonList,
}

#: Types whose values may be large; their columns come last in a row, so that others are near its head.
HEAVY = frozenset({FieldType.JSON, FieldType.BINARY})


def sql_type(field: FieldSpec) -> TypeEngine[Any]:
    """Return the SQL type of the column that stores `field`."""
    return _TYPES[field.type]()
