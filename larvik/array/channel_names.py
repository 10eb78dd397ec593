"""Names of channels: as files give them, made fit to be labels along ``c``."""

from __future__ import annotations

from collections.abc import Iterable

from larvik.errors import InvalidArgumentError

#: Most channels of an array: each has a name and a row.
MAX_CHANNELS = 1 << 16


def unique_names(names: Iterable[str | None], size: int) -> tuple[str, ...]:
    """Return `size` channel names, none empty and no two equal: ``Channel 1``, ``DAPI (2)``, ...

    Raises
    ------
    InvalidArgumentError
        ``SHAPE_INVALID``, for more than `MAX_CHANNELS`.
    """
    if size > MAX_CHANNELS:
        raise InvalidArgumentError(
            f"{size} channels are more than {MAX_CHANNELS}.", reason="SHAPE_INVALID", field="shape"
        )
    given = [clean_name(name) for name in names][:size]
    given += [""] * (size - len(given))
    taken = set(given)
    result: dict[str, None] = {}
    copies: dict[str, int] = {}
    for number, name in enumerate(given):
        base = name or f"Channel {number}"
        candidate, copy = base, copies.get(base, 2)
        while candidate in result or (candidate != name and candidate in taken):
            candidate, copy = f"{base} ({copy})", copy + 1
        result[candidate] = None
        copies[base] = copy
    return tuple(result)


def clean_name(name: str | None) -> str:
    """Return `name` without control characters and surrounding space, at most 200 characters."""
    text = "".join(ch if ch.isprintable() else " " for ch in (name or "")[:400])
    return text.strip()[:200]
