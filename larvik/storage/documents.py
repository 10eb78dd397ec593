"""JSON documents of a store, read as what they are: input that may be hostile."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from larvik.errors import InvalidArgumentError, NotFoundError
from larvik.storage.base import Store

#: Largest metadata document that is read.
MAX_DOCUMENT_BYTES = 64 << 20
#: Deepest nesting of a metadata document.
MAX_DEPTH = 60


def read_json(store: Store, key: str) -> dict[str, Any] | None:
    """Return the JSON object at `key`, or None when the store has no such object.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INVALID``, when it is not a JSON object, too large or too deep.
    """
    try:
        data = store.read(key, 0, MAX_DOCUMENT_BYTES + 1)
    except NotFoundError:
        return None
    return parse_json(data, key)


def parse_json(data: bytes, key: str) -> dict[str, Any]:
    """Return the JSON object in `data`, cleaned for databases: see `_clean`.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INVALID``; names `key`.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise invalid(f"larger than {MAX_DOCUMENT_BYTES >> 20} MiB", key)
    try:
        value = json.loads(data, parse_constant=str, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise invalid("not valid JSON", key) from error
    if not isinstance(value, dict):
        raise invalid("not a JSON object", key)
    cleaned: dict[str, Any] = _clean(value, key, 0)
    return cleaned


def write_json(store: Store, key: str, value: Mapping[str, Any]) -> None:
    """Write `value` as JSON text, atomically.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INVALID``, when it holds what JSON cannot: NaN, bytes, sets, ...
    """
    store.write(key, json_bytes(value, key))


def json_bytes(value: Mapping[str, Any], key: str) -> bytes:
    """Return `value` as JSON text in UTF-8; errors as in `write_json`, naming `key`."""
    try:
        return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(f"not JSON ({error})", key) from error


def invalid(problem: str, field: str) -> InvalidArgumentError:
    """Return the error that says what is wrong with `field` of a group's metadata."""
    return InvalidArgumentError(f"{field} is {problem}.", reason="METADATA_INVALID", field=field)


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _clean(value: Any, key: str, depth: int) -> Any:
    """Return `value` with NUL removed and lone surrogates replaced: no database takes them."""
    if depth > MAX_DEPTH:
        raise invalid(f"nested deeper than {MAX_DEPTH}", key)
    if isinstance(value, str):
        text = value.replace("\0", "")
        return text if text.isascii() else text.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(name, key, depth + 1): _clean(item, key, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, key, depth + 1) for item in value]
    return value
