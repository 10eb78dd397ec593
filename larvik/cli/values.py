"""Values written on the command line, read as the type of the column they are compared with."""

from __future__ import annotations

from datetime import UTC, datetime

from larvik.errors import InvalidArgumentError
from larvik.query.paths import resolve
from larvik.query.predicate import Lookup
from larvik.schema import FieldSpec, FieldType, Registry

TRUE, FALSE = {"true", "yes", "1"}, {"false", "no", "0"}


def parse_value(registry: Registry, model: str, path: str, text: str) -> object:
    """Return `text` as what the lookup at `path` takes.

    Lists are separated by commas; times without a zone are UTC.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_UNKNOWN``, ``LOOKUP_UNKNOWN`` or ``FIELD_INVALID``; names the path.
    """
    resolved = resolve(registry, model, path)
    if resolved.lookup is Lookup.ISNULL:
        return _bool(path, text)
    if resolved.lookup in (Lookup.IN, Lookup.RANGE):
        return [_scalar(resolved.column, path, item) for item in text.split(",")]
    return _scalar(resolved.column, path, text)


def _scalar(column: FieldSpec, path: str, text: str) -> object:
    try:
        if column.type is FieldType.INT64:
            return int(text)
        if column.type is FieldType.FLOAT64:
            return float(text)
        if column.type is FieldType.TIMESTAMP:
            time = datetime.fromisoformat(text)
            return time if time.tzinfo else time.replace(tzinfo=UTC)
    except ValueError:
        wanted = "a time such as 2026-01-31T12:00" if column.type is FieldType.TIMESTAMP else "a number"
        raise InvalidArgumentError(
            f"{path} takes {wanted}, not {text[:60]!r}.", reason="FIELD_INVALID", field=path
        ) from None
    return _bool(path, text) if column.type is FieldType.BOOL else text


def _bool(path: str, text: str) -> bool:
    if text.casefold() in TRUE:
        return True
    if text.casefold() in FALSE:
        return False
    raise InvalidArgumentError(
        f"{path} takes true or false, not {text[:60]!r}.", reason="FIELD_INVALID", field=path
    )
