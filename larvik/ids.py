"""Identifiers: UUIDv7 as canonical lower-case text, made by the caller and sortable by time."""

from __future__ import annotations

import os
import secrets
import threading
import time
import uuid

from larvik.errors import InvalidArgumentError

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Return a new UUIDv7, strictly greater than any that this process made before.

    Notes
    -----
    RFC 9562 section 5.7 with method 3 of section 6.2 (sub-millisecond clock fraction in ``rand_a``):
    60 bits of time in steps of 244 ns, then 62 random bits. Thread-safe.
    """
    global _last
    now = time.time_ns()
    milliseconds, rest = divmod(now, 1_000_000)
    stamp = milliseconds << 12 | (rest << 12) // 1_000_000
    with _lock:
        stamp = _last = max(stamp, _last + 1)
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62
    return str(uuid.UUID(int=value | secrets.randbits(62)))


def parse_id(value: object, *, field: str = "id") -> str:
    """Return `value` (text or ``uuid.UUID``) as canonical text.

    Raises
    ------
    InvalidArgumentError
        ``ID_INVALID``, when it is not a UUID; names `field`.
    """
    if isinstance(value, uuid.UUID):
        return str(value)
    try:
        if not isinstance(value, str) or len(value) > 45:
            raise ValueError
        return str(uuid.UUID(value))
    except ValueError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise InvalidArgumentError(
            f"{field} is {shown}, which is not a UUID.", reason="ID_INVALID", field=field
        ) from None


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
