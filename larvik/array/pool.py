"""The threads that evaluate: one pool per process, whose work is always asked for in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def core_count() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int, stop: Callable[[], object]
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of `items`, computed by the pool at most `ahead` items ahead.

    Parameters
    ----------
    function : callable
        Called in threads of the pool, with the context variables of the caller.
    items : iterable
        Consumed by the calling thread.
    ahead : int
        Items that may be under way or wait to be taken.
    stop : callable
        Called when the iteration ends early, so that work under way can end too; it is waited for.

    Notes
    -----
    What no thread has begun when it is wanted, the caller computes: a busy pool costs no wait, and nested
    calls cannot wait for each other.
    """
    pool = _executor()
    running: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            running.append((item, pool.submit(copy_context().run, function, item)))
            if len(running) >= ahead:
                yield _result(function, *running.popleft())
        while running:
            yield _result(function, *running.popleft())
    except BaseException:
        stop()
        raise
    finally:
        for future in [future for _, future in running if not future.cancel()]:
            future.exception()


def _result(function: Callable[[Item], Result], item: Item, future: Future[Result]) -> Result:
    return function(item) if future.cancel() else future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(core_count(), "larvik-evaluate")
        return _pool


def _after_fork() -> None:
    """Forget the parent's threads: a forked child starts its own when it needs them."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
