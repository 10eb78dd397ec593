"""Waiting for streams in a way that an interrupt, or a question asked now and then, ends at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from larvik.errors import CallCancelledError

if TYPE_CHECKING:
    from larvik.array.evaluator import Cancelled

T = TypeVar("T")

#: Streams that one evaluation reads at once.
TOGETHER = 4
#: How often a caller who can cancel is asked, in seconds.
ASKED_S = 0.01


class Held:
    """The streams that some work has open, which another thread can cancel. Thread-safe."""

    def __init__(self) -> None:
        self._streams: list[Any] = []
        self._lock = threading.Lock()
        self._is_cancelled = False

    def hold(self, stream: Any) -> None:
        """Take a stream that was just opened."""
        with self._lock:
            self._streams.append(stream)
            late = self._is_cancelled
        if late:
            stream.cancel()

    def cancel(self) -> None:
        """Cancel every stream, and those that are still to come."""
        with self._lock:
            self._is_cancelled = True
            streams = list(self._streams)
        for stream in streams:
            with suppress(Exception):  # one that ended just now has nothing left to cancel
                stream.cancel()

    def check(self) -> None:
        """Raise CallCancelledError after `cancel`; asked before a call is repeated."""
        if self._is_cancelled:
            raise CallCancelledError("The evaluation was cancelled.")


def together(works: Sequence[Callable[[Held], T]], cancelled: Cancelled | None = None) -> list[T]:
    """Return what each of `works` gives; they run in threads, a few at once.

    Parameters
    ----------
    works : sequence of callable
        Each gives the streams that it opens to the `Held` that it gets.
    cancelled : callable, optional
        Asked every 10 ms, by the calling thread.

    Raises
    ------
    CallCancelledError
        When `cancelled` said so.

    Notes
    -----
    After an error, KeyboardInterrupt included, every stream is cancelled, and its thread waited for: the
    connection can be used on.
    """
    held = Held()
    with ThreadPoolExecutor(min(TOGETHER, len(works)), "larvik-fetch") as pool:
        futures = [pool.submit(work, held) for work in works]
        try:
            return [_wait(future, cancelled) for future in futures]
        except BaseException:
            held.cancel()
            for future in futures:
                future.cancel()
            raise


def _wait(future: Future[T], cancelled: Cancelled | None) -> T:
    if cancelled is None:
        return future.result()
    while True:
        try:
            return future.result(ASKED_S)
        except WaitedError:
            if future.done():
                raise
            if cancelled():
                raise CallCancelledError("The evaluation was cancelled.") from None
