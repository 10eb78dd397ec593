"""Field values as messages, both ways. What arrives is checked before anybody uses it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from larvik.errors import InvalidArgumentError
from larvik.models.values import MAX_VALUE_BYTES
from larvik.proto.v1 import catalog_pb2, query_pb2

if TYPE_CHECKING:
    from collections.abc import MutableMapping

#: Most items of one list value.
MAX_ITEMS = 100_000
#: Most characters of a name: model, field, relation.
MAX_NAME = 200
#: Most columns of one row.
MAX_COLUMNS = 1000

_INT64 = range(-(2**63), 2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = -62_135_596_800  # 0001-01-01, the first that datetime holds
_LAST_SECOND = 253_402_300_799  # 9999-12-31


def encode_value(value: object, *, field: str = "value") -> query_pb2.Value:
    """Return the message of a field value.

    Parameters
    ----------
    value : object
        None, text, whole or finite number, bool, aware datetime, UUID, bytes, tuple of scalars, or what
        JSON holds (a list or dict always travels as JSON).
    field : str
        Name of the field, for the message of an error.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_INVALID``, for what no field holds; names `field`.
    """
    message = query_pb2.Value()
    write_value(message, value, field)
    return message


def write_value(message: query_pb2.Value, value: object, field: str) -> None:
    """Write a field value into an empty message; see `encode_value`."""
    if value is None:
        return
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = _checked_text(value, field)
    elif isinstance(value, bytes | bytearray | memoryview):
        message.binary_value = bytes(value)
    elif isinstance(value, datetime):
        _write_timestamp(message, value, field)
    elif isinstance(value, tuple):
        message.list_value.SetInParent()
        for number, item in enumerate(value):
            write_value(message.list_value.values.add(), item, f"{field}[{number}]")
    elif isinstance(value, list | Mapping):
        message.json_value = _json_text(value, field)
    elif isinstance(value, UUID):
        message.string_value = str(value)
    else:
        _write_number(message, value, field)


def _write_timestamp(message: query_pb2.Value, value: datetime, field: str) -> None:
    if value.tzinfo is None:
        raise invalid(field, "needs a time zone, for example datetime.now(UTC)")
    since = value - _EPOCH
    message.timestamp_value.seconds = since.days * 86_400 + since.seconds
    message.timestamp_value.nanos = since.microseconds * 1000


def _write_number(message: query_pb2.Value, value: object, field: str) -> None:
    """Write any integer or real number, NumPy's included."""
    try:
        if type(value).__name__ == "bool":
            message.bool_value = bool(value)
        elif hasattr(value, "__index__"):
            _write_integer(message, value.__index__())
        elif hasattr(value, "__float__"):
            message.float64_value = _finite(float(value), field)
        else:
            raise TypeError
    except InvalidArgumentError:
        raise
    except (TypeError, ValueError, OverflowError):
        raise invalid(field, f"holds no such {type(value).__name__}") from None


def _write_integer(message: query_pb2.Value, number: int) -> None:
    if number in _INT64:
        message.int64_value = number
    else:
        message.json_value = str(number)


def _finite(number: float, field: str) -> float:
    if not math.isfinite(number):
        raise invalid(field, f"takes a finite number, not {number}")
    return number


def decode_value(message: query_pb2.Value, *, field: str = "value") -> object:
    """Return the field value of a message.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_INVALID``: a NUL character, a number that is not finite, broken JSON, a moment outside the
        years 1 to 9999, a list that is too long or nested, or a query where a value belongs; names `field`.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "list_value":
        items = message.list_value.values
        if len(items) > MAX_ITEMS:
            raise invalid(field, f"has {len(items)} items; at most {MAX_ITEMS} fit")
        return tuple(_decode_item(item, f"{field}[{number}]") for number, item in enumerate(items))
    if kind == "query_value":
        raise invalid(field, "takes a value, not a query")
    return _decode_scalar(message, kind, field)


def _decode_item(message: query_pb2.Value, field: str) -> object:
    kind = message.WhichOneof("kind")
    if kind is None or kind in ("list_value", "query_value"):
        raise invalid(field, "takes one value; lists hold no lists and no NULLs")
    return _decode_scalar(message, kind, field)


def _decode_scalar(message: query_pb2.Value, kind: str, field: str) -> object:
    value: object = getattr(message, kind)
    if isinstance(value, str) and kind == "string_value":
        return _checked_text(value, field)
    if isinstance(value, float):
        return _finite(value, field)
    if isinstance(value, bytes) and len(value) > MAX_VALUE_BYTES:
        raise invalid(field, f"has {len(value)} bytes; at most {MAX_VALUE_BYTES} fit")
    if kind == "json_value":
        return _decode_json(message.json_value, field)
    if kind == "timestamp_value":
        return _decode_timestamp(message, field)
    return value


def _decode_timestamp(message: query_pb2.Value, field: str) -> datetime:
    stamp = message.timestamp_value
    if not _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND or not 0 <= stamp.nanos < 1_000_000_000:
        raise invalid(field, "takes a date and time between the years 1 and 9999")
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def _decode_json(text: str, field: str) -> object:
    if len(text) > MAX_VALUE_BYTES:
        raise invalid(field, f"has {len(text)} characters of JSON; at most {MAX_VALUE_BYTES} fit")
    if "\0" in text or "\\u0000" in text:
        raise invalid(field, "contains a NUL character, which databases cannot hold")
    try:
        # 1e999 is a number of JSON, and infinity as a float.
        return json.loads(
            text, parse_constant=_refuse_constant, parse_float=lambda number: _finite(float(number), field)
        )
    except InvalidArgumentError:
        raise
    except (ValueError, RecursionError):
        raise invalid(field, "is not JSON") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _json_text(value: object, field: str) -> str:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise invalid(field, "takes only what JSON can hold (no NaN, no objects)") from None


def _checked_text(value: str, field: str) -> str:
    if len(value) > MAX_VALUE_BYTES:
        raise invalid(field, f"has {len(value)} characters; at most {MAX_VALUE_BYTES} fit")
    if "\0" in value:
        raise invalid(field, "contains a NUL character, which databases cannot hold")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(field, "contains a lone surrogate, which is not valid Unicode text") from None
    return value


def write_row(message: MutableMapping[str, query_pb2.Value], row: Mapping[str, object]) -> None:
    """Write the columns of a row into the empty map field `message`."""
    for name, value in row.items():
        write_value(message[check_name(name, field="column")], value, name)


def encode_row(row: Mapping[str, object]) -> catalog_pb2.RecordValues:
    """Return the columns of a row as a message."""
    message = catalog_pb2.RecordValues()
    write_row(message.values, row)
    return message


def decode_row(message: Mapping[str, query_pb2.Value]) -> dict[str, object]:
    """Return the columns of a row; every value is checked, errors name the column."""
    if len(message) > MAX_COLUMNS:
        raise invalid("values", f"has {len(message)} columns; at most {MAX_COLUMNS} fit")
    return {
        check_name(name, field="column"): decode_value(value, field=name) for name, value in message.items()
    }


def check_name(name: object, *, field: str) -> str:
    """Return `name` when it may name a model, field or relation.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_INVALID``, when it is empty, longer than 200 characters or has a NUL.
    """
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or "\0" in name:
        shown = repr(name)
        raise invalid(field, f"is {shown if len(shown) <= 60 else shown[:57] + '...'}, which is not a name")
    return name


def invalid(field: str, problem: str) -> InvalidArgumentError:
    """Return the error of a field that holds what it cannot hold."""
    return InvalidArgumentError(f"{field} {problem}.", reason="FIELD_INVALID", field=field)
