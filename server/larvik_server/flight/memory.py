"""The C allocator of a data process: no page faults while it streams, memory given back when it is idle."""

from __future__ import annotations

import ctypes
import sys
import threading
import time

#: Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
#: Idle time after which free memory goes back to the system.
IDLE_S = 2.0


def keep_freed_memory() -> bool:
    """Let malloc keep what is freed, so that message buffers are not faulted in anew; tell if it agreed.

    Notes
    -----
    gRPC takes a fresh block for every message. Beyond malloc's default thresholds each is a new mapping,
    whose pages cost more than the copy into them. Only glibc has these parameters.
    """
    mallopt = _libc_function("mallopt")
    if mallopt is None:
        return False
    wanted = ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, 1 << 30), (_M_TOP_PAD, 64 << 20))
    return all(mallopt(parameter, value) == 1 for parameter, value in wanted)


class IdleTrim:
    """Gives free memory back when nothing was done for `IDLE_S`; asked by the watchdog."""

    def __init__(self) -> None:
        self._trim = _libc_function("malloc_trim")
        self._open = 0
        self._used_at = 0.0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Note that a stream was opened."""
        with self._lock:
            self._open += 1

    def end(self) -> None:
        """Note that a stream ended."""
        with self._lock:
            self._open -= 1
        self.used()

    def used(self) -> None:
        """Note that something was done, such as a tile of a channel that stays open."""
        self._used_at = time.monotonic()

    def when_idle(self, now: float) -> None:
        """Give free memory back, once after each time that something was done."""
        if self._used_at and not self._open and now - self._used_at > IDLE_S:
            self._used_at = 0.0
            if self._trim is not None:
                self._trim(0)


def _libc_function(name: str) -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    found: ctypes._NamedFuncPointer | None = getattr(ctypes.CDLL(None), name, None)
    return found
