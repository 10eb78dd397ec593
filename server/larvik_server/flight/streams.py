"""Open streams: bounded in number, given up when their caller is gone or loses the right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.flight as flight

from larvik.array.evaluator import Cancelled
from larvik.errors import CallCancelledError
from larvik_server.access import RevokedKeys
from larvik_server.flight.gate import Call
from larvik_server.flight.limits import StreamLimits
from larvik_server.flight.memory import IdleTrim
from larvik_server.flight.places import Places
from larvik_server.flight.watchdog import Watchdog, Watched

T = TypeVar("T")
_END: Any = object()

#: What a stream holds at most of what is stored: batches on their way, and the one that is made ahead.
STREAM_BYTES = 16 << 20
#: How often a channel at work looks whether its caller is there, in seconds.
LOOK_S = 0.05


class ChannelPlace:
    """The place of one tile channel, and what its requests ask of the limits.

    Attributes
    ----------
    watched : Watched
        Told whenever the client is waited for.
    """

    def __init__(
        self,
        call: Call,
        context: flight.ServerCallContext,
        revoked: RevokedKeys,
        held: Places,
        trim: IdleTrim,
        watched: Watched,
    ) -> None:
        self.watched = watched
        self._context = context
        self._subject, self._key = call.principal.subject_id, call.principal.key_id
        self._revoked = revoked
        self._held = held
        self._trim = trim
        self._asked_at = 0.0

    def check(self) -> None:
        """Refuse a request of a caller whose key was revoked meanwhile."""
        self._revoked.check(self._key)

    def check_caller(self) -> None:
        """Refuse to go on for a caller who is gone; looks every `LOOK_S`, for it costs 0.1 ms."""
        self.check()
        now = time.monotonic()
        if now - self._asked_at > LOOK_S:
            self._asked_at = now
            if self._context.is_cancelled():
                raise CallCancelledError("The caller cancelled the call.")

    def take(self, size_bytes: int) -> None:
        """Take the memory of one tile; raises as `Streams.slot`."""
        self._held.take(self._subject, size_bytes)

    def give(self, size_bytes: int) -> None:
        """Give the memory of one tile back."""
        self._held.give(self._subject, size_bytes)
        self._trim.used()


class Streams:
    """Lets streams and tile channels be open, within the limits."""

    def __init__(self, limits: StreamLimits, revoked: RevokedKeys) -> None:
        exhausted = "STREAMS_EXHAUSTED"
        self._open = Places("streams", limits.streams, limits.streams_per_subject, reason=exhausted)
        self._channels = Places(
            "tile channels", limits.channels, limits.channels_per_subject, reason=exhausted
        )
        self._held = Places(
            "bytes in flight",
            limits.held_bytes,
            limits.held_bytes_per_subject,
            reason=exhausted,
            retry_after_s=0.2,
        )
        self._revoked = revoked
        self._trim = IdleTrim()
        self._watchdog = Watchdog(limits.stall_s, limits.stream_s, self._trim)
        self._pool = ThreadPoolExecutor(limits.streams, thread_name_prefix="ahead")

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open, and no tile is made or sent."""
        return not self._open.total and not self._held.total

    @contextmanager
    def slot(
        self,
        call: Call,
        context: flight.ServerCallContext,
        *,
        held_bytes: int = STREAM_BYTES,
        patience: float = 1.0,
        wait_s: float = 0.0,
    ) -> Iterator[Watched]:
        """Hold a place for a stream, and what it takes of the memory; the watchdog looks at it meanwhile.

        Parameters
        ----------
        held_bytes : int
            What it may take of the memory.
        patience : float
            How many times as long as usual it waits for its caller.
        wait_s : float
            How long it waits for a place.

        Raises
        ------
        ResourceExhaustedError
            ``STREAMS_EXHAUSTED``; ``metadata["retry_after_s"]`` says when to try again.
        """
        subject = call.principal.subject_id
        with (
            self._open.hold(subject, wait_s=wait_s),
            self._held.hold(subject, held_bytes, wait_s=wait_s),
        ):
            self._trim.begin()
            try:
                with self._watchdog.watch(call, context, patience=patience) as watched:
                    yield watched
            finally:
                self._trim.end()

    @contextmanager
    def channel(self, call: Call, context: flight.ServerCallContext) -> Iterator[ChannelPlace]:
        """Hold a place for a tile channel; raises as `slot`."""
        subject = call.principal.subject_id
        with (
            self._channels.hold(subject),
            self._watchdog.watch(call, context, endless=True) as watched,
        ):
            yield ChannelPlace(call, context, self._revoked, self._held, self._trim, watched)

    def batches(
        self,
        call: Call,
        context: flight.ServerCallContext,
        batches: Callable[[Cancelled], Iterator[pa.RecordBatch]],
        held_bytes: int = STREAM_BYTES,
        *,
        ahead: bool = True,
    ) -> Iterator[pa.RecordBatch]:
        """Return the batches of a read; errors leave as ours.

        The next batch is made while one is sent, except where what makes them does so itself (`ahead`). The
        place is taken before this returns, so that a refusal is the answer to the call.
        """
        held = ExitStack()
        watched = held.enter_context(self.slot(call, context, held_bytes=held_bytes))
        stream = self._sent(call, context, batches, watched, held, self._ahead if ahead else iter)
        next(stream)  # a generator that was begun is closed when it is dropped, one that was not is not
        return stream

    def stop(self) -> None:
        """End the threads."""
        self._watchdog.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _sent(
        self,
        call: Call,
        context: flight.ServerCallContext,
        batches: Callable[[Cancelled], Iterator[pa.RecordBatch]],
        watched: Watched,
        held: ExitStack,
        made: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    ) -> Iterator[Any]:
        def is_given_up() -> bool:
            self.check(call, context)  # also within a batch, which may take long to compute
            return False

        try:
            with held:
                yield None
                for batch in made(batches(is_given_up)):
                    self.check(call, context)
                    call.size_bytes += batch.nbytes
                    watched.waits()
                    yield batch
                    watched.goes_on()
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
