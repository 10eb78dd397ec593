"""The threads that wait for far stores: more than there are cores, since waiting costs none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Of all reads of this process.
_THREADS = 32

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def fetch_ahead(function: Callable[[Item], Result], items: Iterable[Item], most: int) -> Generator[Result]:
    """Yield ``function(item)`` as they come, `most` items under way; close it to wait for those begun.

    Notes
    -----
    `function` must wait for no thread of `larvik.storage.workers`. After an error nothing further is begun,
    what is begun is waited for, and the error is raised.
    """
    pool = _executor()
    running: set[Future[Result]] = set()
    try:
        for item in items:
            running.add(pool.submit(function, item))
            if len(running) >= most:
                yield from _done(running)
        while running:
            yield from _done(running)
    finally:
        wait([future for future in running if not future.cancel()])


def _done(running: set[Future[Result]]) -> Iterator[Result]:
    """Wait for one at least; yield what is done and take it out of `running`."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        running.discard(future)
        yield future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_THREADS, "larvik-fetch")
        return _pool


def _after_fork() -> None:
    """Forget the parent's threads: a forked child starts its own when it needs them."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
