"""Open streams: bounded in number, given up when their caller is gone or loses the right."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.flight as flight

from larvik.array.evaluate import Cancelled
from larvik.errors import CallCancelledError, ResourceExhaustedError
from larvik_server.access import RevokedKeys
from larvik_server.flight.gate import Call
from larvik_server.flight.memory import IdleTrim

T = TypeVar("T")
_END: Any = object()


class Streams:
    """Counts what is open, and refuses more than the limits allow."""

    def __init__(self, most: int, most_per_subject: int, revoked: RevokedKeys) -> None:
        self._most = most
        self._most_per_subject = most_per_subject
        self._revoked = revoked
        self._trim = IdleTrim()
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="ahead")

    @contextmanager
    def slot(self, call: Call) -> Iterator[None]:
        """Hold one of the places.

        Raises
        ------
        ResourceExhaustedError
            ``STREAMS_EXHAUSTED``; ``metadata["retry_after_s"]`` says when to try again.
        """
        subject = call.principal.subject_id
        with self._lock:
            if self._open.total() >= self._most or self._open[subject] >= self._most_per_subject:
                raise ResourceExhaustedError(
                    f"Too many streams are open: {self._open[subject]} of yours, {self._open.total()} in all."
                    " Close some, or retry in a second.",
                    reason="STREAMS_EXHAUSTED",
                    retry_after_s=1,
                )
            self._open[subject] += 1
        self._trim.begin()
        try:
            yield
        finally:
            self._trim.end()
            with self._lock:
                self._open[subject] -= 1
                if not self._open[subject]:
                    del self._open[subject]

    def batches(
        self,
        call: Call,
        context: flight.ServerCallContext,
        batches: Callable[[Cancelled], Iterator[pa.RecordBatch]],
    ) -> Iterator[pa.RecordBatch]:
        """Yield the batches of a read, the next one being made while one is sent; errors leave as ours."""

        def is_given_up() -> bool:
            self.check(call, context)  # also within a batch, which may take long to compute
            return False

        try:
            with self.slot(call):
                for batch in self._ahead(batches(is_given_up)):
                    self.check(call, context)
                    call.size_bytes += batch.nbytes
                    yield batch
        except GeneratorExit:
            call.finish("CANCELLED")
            raise
        except BaseException as error:
            raise call.refusal(error, streaming=True) from None
        call.finish()

    def check(self, call: Call, context: flight.ServerCallContext) -> None:
        """Refuse to go on for a caller who is gone, or whose key was revoked meanwhile."""
        if context.is_cancelled():
            raise CallCancelledError("The caller cancelled the call.")
        self._revoked.check(call.principal.key_id)

    def check_key(self, key_id: str) -> None:
        """Refuse a ticket whose key was revoked meanwhile."""
        self._revoked.check(key_id)

    def _ahead(self, items: Iterator[T]) -> Iterator[T]:
        future: Future[T] = self._pool.submit(next, items, _END)
        try:
            while (item := future.result()) is not _END:
                future = self._pool.submit(next, items, _END)
                yield item
        finally:
            if not future.cancel():
                future.exception()  # wait: an iterator that runs cannot be closed
            close = getattr(items, "close", None)
            if close is not None:
                close()
