"""Checking and normalising the values of fields: the one gate that every write passes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from larvik.errors import InvalidArgumentError, suggestion
from larvik.ids import parse_id
from larvik.schema import FieldSpec, FieldType, ModelSpec

INT64_MAX = 2**63 - 1
#: Largest JSON or binary value of one field, in bytes.
MAX_VALUE_BYTES = 16 * 2**20
DEFAULT_MAX_LENGTH = 4096


def clean(spec: FieldSpec, value: object, *, model: str = "") -> object:
    """Return `value` as the canonical Python value of the field, or refuse it.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_INVALID``, with ``metadata["field"]``; the message says what the field takes.
    """
    name = f"{model}.{spec.name}" if model else spec.name
    if value is None:
        if spec.nullable:
            return None
        raise _invalid(name, "is required and cannot be None")
    cleaned = _CLEANERS[spec.type](spec, name, value)
    if spec.choices and cleaned not in spec.choices:
        raise _invalid(name, f"is {_shown(value)}. {suggestion(str(cleaned)[:80], spec.choices)}")
    return cleaned


def clean_row(spec: ModelSpec, row: Mapping[str, object]) -> dict[str, object]:
    """Return `row` with every value cleaned; unknown columns are refused by name."""
    columns = {column.name: column for column in spec.columns()}
    cleaned = {}
    for name, value in row.items():
        if name not in columns:
            raise InvalidArgumentError(
                f"{spec.name} has no field {str(name)[:80]!r}. {suggestion(str(name)[:80], columns)}",
                reason="FIELD_UNKNOWN",
                field=str(name)[:80],
            )
        cleaned[name] = clean(columns[name], value, model=spec.name)
    return cleaned


def _invalid(name: str, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{name} {problem}.", reason="FIELD_INVALID", field=name)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _string(spec: FieldSpec, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _invalid(name, f"takes text, not {_shown(value)}")
    if "\0" in value:
        raise _invalid(name, "contains a NUL character, which databases cannot hold")
    limit = spec.max_length or DEFAULT_MAX_LENGTH
    if len(value) > limit:
        raise _invalid(name, f"has {len(value)} characters; at most {limit} fit")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid(name, "contains a lone surrogate, which is not valid Unicode text") from None
    return value if type(value) is str else str.__str__(value)  # NumPy's text and enums become plain


def _int64(spec: FieldSpec, name: str, value: object) -> int:
    number = _as_int(value)
    if number is None:
        raise _invalid(name, f"takes a whole number, not {_shown(value)}")
    if not -INT64_MAX - 1 <= number <= INT64_MAX:
        raise _invalid(name, "does not fit 64 bits")
    return number


def _as_int(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return value.__index__()  # type: ignore[attr-defined, no-any-return]  # any integer, NumPy's included
    except (AttributeError, TypeError):
        return None


def _float64(spec: FieldSpec, name: str, value: object) -> float:
    if isinstance(value, bool | str | bytes):
        raise _invalid(name, f"takes a number, not {_shown(value)}")
    try:
        number = float(value)  # type: ignore[arg-type]  # anything with __float__
    except (TypeError, ValueError, OverflowError):
        raise _invalid(name, f"takes a number, not {_shown(value)}") from None
    if not math.isfinite(number):
        raise _invalid(name, f"takes a finite number, not {number}")
    return number + 0.0  # makes -0.0 zero: SQLite does not keep its sign


def _bool(spec: FieldSpec, name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if type(value).__name__ in {"bool", "bool_"}:  # numpy.bool without importing NumPy
        return bool(value)
    raise _invalid(name, f"takes True or False, not {_shown(value)}")


def _timestamp(spec: FieldSpec, name: str, value: object) -> datetime:
    if isinstance(value, str) and len(value) <= 64:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _invalid(name, f"takes a date and time, not {_shown(value)}") from None
    if not isinstance(value, datetime):
        raise _invalid(name, f"takes a date and time, not {_shown(value)}")
    if value.tzinfo is None:
        raise _invalid(name, "needs a time zone, for example datetime.now(UTC)")
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        raise _invalid(name, "lies outside the years 1 to 9999 in UTC") from None
    if type(utc) is datetime:
        return utc
    return datetime(  # pandas' Timestamp, without its nanoseconds
        utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC
    )  # fmt: skip


def _uuid(spec: FieldSpec, name: str, value: object) -> str:
    return parse_id(value, field=name)


def _json(spec: FieldSpec, name: str, value: object) -> object:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _invalid(name, "contains a lone surrogate, which is not valid Unicode text") from None
    except (TypeError, ValueError, RecursionError):
        raise _invalid(name, "takes only what JSON can hold (no NaN, no objects)") from None
    if size > MAX_VALUE_BYTES:
        raise _invalid(name, f"has {size} bytes of JSON; at most {MAX_VALUE_BYTES} fit")
    if "\\u0000" in text:
        raise _invalid(name, "contains a NUL character, which databases cannot hold")
    return json.loads(text)


def _binary(spec: FieldSpec, name: str, value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _invalid(name, f"takes bytes, not {_shown(value)}")
    if len(value) > MAX_VALUE_BYTES:
        raise _invalid(name, f"has {len(value)} bytes; at most {MAX_VALUE_BYTES} fit")
    return bytes(value)


def _items(name: str, value: object) -> Iterable[object]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _invalid(name, f"takes a list, not {_shown(value)}")
    return value


def _int64_list(spec: FieldSpec, name: str, value: object) -> tuple[int, ...]:
    return tuple(_int64(spec, name, item) for item in _items(name, value))


def _string_list(spec: FieldSpec, name: str, value: object) -> tuple[str, ...]:
    return tuple(_string(spec, name, item) for item in _items(name, value))


_CLEANERS: dict[FieldType, Callable[[FieldSpec, str, object], object]] = {
    FieldType.STRING: _string,
    FieldType.INT64: _int64,
    FieldType.FLOAT64: _float64,
    FieldType.BOOL: _bool,
    FieldType.TIMESTAMP: _timestamp,
    FieldType.UUID: _uuid,
    FieldType.JSON: _json,
    FieldType.BINARY: _binary,
    FieldType.INT64_LIST: _int64_list,
    FieldType.STRING_LIST: _string_list,
}
