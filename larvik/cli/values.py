"""Values written on the command line, read as the type of the column they are compared with."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from larvik.errors import InvalidArgumentError
from larvik.query.paths import resolve
from larvik.query.predicate import Lookup
from larvik.schema import FieldSpec, FieldType, Registry

#: Seconds of each unit of time.
UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
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


def parse_duration(option: str, text: str) -> timedelta:
    """Return the time that `text` names: ``0``, ``45s``, ``30m``, ``24h``, ``2d``; a bare number is seconds.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_INVALID``; names `option`.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd]?)", text.strip().lower())
    seconds = float(found[1]) * UNITS_S[found[2]] if found else timedelta.max.total_seconds()
    if seconds > timedelta(days=100_000).total_seconds():
        raise InvalidArgumentError(
            f"{option} takes a time such as 0, 30m, 24h or 2d, not {text[:60]!r}.",
            reason="FIELD_INVALID",
            field=option,
        )
    return timedelta(seconds=seconds)


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
