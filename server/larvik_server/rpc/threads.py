"""Where synchronous services run: two bounded pools, and the bridge from their progress to a stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from larvik.connection import Cancelled, Progress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of long work: `done` of `total` steps."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """What long work gave in the end."""

    value: T


class Threads:
    """A pool for short calls, and one for commits and imports, so that these never starve those."""

    def __init__(self, short: int, long: int) -> None:
        self._short = ThreadPoolExecutor(short, thread_name_prefix="call")
        self._long = ThreadPoolExecutor(long, thread_name_prefix="work")
        self._stopping = threading.Event()

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what `function` returns, run in a thread.

        Notes
        -----
        When the caller is gone before a thread was free, the function never runs; once it runs, it ends.
        """
        return await asyncio.get_running_loop().run_in_executor(self._short, function, *arguments)

    async def steps(self, work: Callable[[Progress, Cancelled], T]) -> AsyncIterator[Step | Result[T]]:
        """Run long work in a thread and yield its progress, the newest when there is much, then its result.

        Notes
        -----
        Cancelling the iteration makes the work's ``cancelled()`` true and waits until it has ended.
        """
        loop = asyncio.get_running_loop()
        gone = threading.Event()
        latest: list[Step] = []
        news = asyncio.Event()

        def progress(done: int, total: int) -> None:
            latest[:] = [Step(done, total)]
            loop.call_soon_threadsafe(news.set)

        def cancelled() -> bool:
            return gone.is_set() or self._stopping.is_set()

        future = loop.run_in_executor(self._long, work, progress, cancelled)
        future.add_done_callback(lambda _: news.set())
        try:
            while not future.done():
                await news.wait()
                news.clear()
                if latest and not future.done():
                    yield latest.pop()
            yield Result(await future)
        finally:
            gone.set()
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # asked for, or asyncio logs what the work says of its end as lost

    def stop(self) -> None:
        """Ask long work to end and take no more calls."""
        self._stopping.set()
        self._short.shutdown(wait=False, cancel_futures=True)
        self._long.shutdown(wait=False, cancel_futures=True)
