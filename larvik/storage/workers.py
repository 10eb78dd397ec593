"""The threads that encode and decode chunks: one pool per process, as many as it may use cores."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Generic, TypeVar

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


def map_threads(
    function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed by the pool at most `ahead` items ahead.

    `items` is consumed by the calling thread; `ahead` is twice the number of cores when not given. After
    an error no further item is begun, those begun are waited for, and the error is raised. What no thread
    of the pool has begun when it is wanted, the caller computes: a busy pool costs no wait, and a thread
    of the pool may call this.
    """
    most = 2 * thread_count() if ahead is None else ahead
    pool = _executor()
    running: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            running.append((item, pool.submit(function, item)))
            if len(running) > most:
                yield _result(function, *running.popleft())
        while running:
            yield _result(function, *running.popleft())
    finally:
        _settle([future for _, future in running])


def run_threads(function: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call ``function(item)`` for every item, in the calling thread and in as many more as there are cores.

    The threads take the items one by one, in order, under a lock. After an error no further item is
    begun, those begun are waited for, and the error is raised. Helpers that a busy pool has not begun when
    the items run out are not waited for.
    """
    queue = _Queue(items)
    helpers = [_executor().submit(_drain, function, queue) for _ in range(thread_count() - 1)]
    try:
        _drain(function, queue)
    except BaseException:
        queue.close()
        raise
    finally:
        _settle(helpers)
    for helper in helpers:
        if not helper.cancelled():
            helper.result()


class Tasks:
    """Work in the pool on behalf of one caller: bounded, and waited for before it ends.

    Parameters
    ----------
    most : int
        Items that may be under way; `submit` then works off the oldest first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: deque[tuple[Callable[[], object], Future[object]]] = deque()

    def submit(self, work: Callable[[], object]) -> None:
        """Begin `work`; raises what earlier work raised."""
        self._running.append((work, _executor().submit(work)))
        while self._running and (len(self._running) > self._most or self._running[0][1].done()):
            self._take()

    def wait(self) -> None:
        """Return when all work is done; raises what it raised."""
        while self._running:
            self._take()

    def cancel(self) -> None:
        """Drop what has not begun and wait for the rest; raises nothing."""
        _settle([future for _, future in self._running])
        self._running.clear()

    def _take(self) -> None:
        work, future = self._running.popleft()
        _result(lambda _: work(), None, future)


def run_later(work: Callable[[], object]) -> None:
    """Have the pool do `work` when it comes to it; what it raises is lost."""
    _executor().submit(work)


def scratch(size: int) -> np.ndarray:
    """Return `size` bytes of this thread's buffer, dtype uint8; the next call reuses it."""
    if size > KEPT_SCRATCH_BYTES:
        return np.empty(size, np.uint8)
    buffer: np.ndarray | None = getattr(_own, "scratch", None)
    if buffer is None or buffer.size < size:
        buffer = _own.scratch = np.empty(size, np.uint8)
    return buffer[:size]


class _Queue(Generic[Item]):
    """Items that several threads take one by one."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def take(self) -> list[Item]:
        """Return the next item in a list; an empty one at the end."""
        with self._lock:
            return list(islice(self._items, 1))

    def close(self) -> None:
        """Have no more items for anybody."""
        with self._lock:
            self._items = iter(())


def _drain(function: Callable[[Item], object], queue: _Queue[Item]) -> None:
    try:
        while taken := queue.take():
            function(taken[0])
    except BaseException:
        queue.close()
        raise


def _result(function: Callable[[Item], Result], item: Item, future: Future[Result]) -> Result:
    return function(item) if future.cancel() else future.result()


def _settle(futures: Iterable[Future[Any]]) -> None:
    """Cancel what has not begun and wait for the rest."""
    begun = [future for future in futures if not future.cancel()]
    for future in begun:
        future.exception()


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(thread_count(), "larvik-codec")
        return _pool


def _after_fork() -> None:
    """Forget the parent's threads: a forked child starts its own when it needs them."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
