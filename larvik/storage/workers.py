"""The threads that encode and decode chunks: one pool per process, as many as it may use cores."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Scratch buffers up to this size are kept by each thread.
KEPT_SCRATCH_BYTES = 8 << 20

_own = threading.local()
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def thread_count() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed by the pool at most two items per core ahead.

    `items` is consumed by the calling thread. After an error no further item is begun, those begun are
    waited for, and the error is raised. A thread of the pool that calls this computes alone: waiting
    for its own pool could wait for ever.
    """
    if getattr(_own, "is_worker", False):
        yield from map(function, items)
        return
    pool, ahead = _executor(), 2 * thread_count()
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
        for future in running:
            if not future.cancelled():
                future.exception()


def scratch(size: int) -> np.ndarray:
    """Return `size` bytes of this thread's buffer, dtype uint8; the next call reuses it."""
    if size > KEPT_SCRATCH_BYTES:
        return np.empty(size, np.uint8)
    buffer: np.ndarray | None = getattr(_own, "scratch", None)
    if buffer is None or buffer.size < size:
        buffer = _own.scratch = np.empty(size, np.uint8)
    return buffer[:size]


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(thread_count(), "larvik-codec", initializer=_mark_worker)
        return _pool


def _mark_worker() -> None:
    _own.is_worker = True


def _after_fork() -> None:
    """Forget the parent's threads: a forked child starts its own when it needs them."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
