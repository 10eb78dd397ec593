"""One open tile channel: requests go out in order, answers come back to whoever waits for them.

Nobody else reads: of the callers that wait, one reads for all, and hands the reading on when its own answer
has come. A lone caller so writes and reads by itself, without another thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from larvik.errors import CallCancelledError, DataLossError, DeadlineError, LarvikError, UnavailableError
from larvik.proto.v1 import flight_pb2
from larvik.wire.status import decode_details, decode_flight

if TYPE_CHECKING:
    import pyarrow as pa

#: Reads that may be unanswered; a server takes 16.
MAX_UNANSWERED = 12
#: Expressions that stay open; a server keeps 256.
MAX_OPEN = 128


class Call:
    """One request and its answer."""

    __slots__ = ("batch", "deadline", "error", "gate", "id", "is_done", "is_promoted", "reply")

    def __init__(self, deadline: float) -> None:
        self.id = 0
        self.deadline = deadline
        self.reply = flight_pb2.TileReply()
        self.batch: pa.RecordBatch | None = None
        self.error: LarvikError | None = None
        self.is_done = False
        self.is_promoted = False  # woken to read, not because it is done
        self.gate: threading.Lock | None = None  # held while the caller sleeps

    def wake(self) -> None:
        """End the sleep of the caller, if it sleeps; under the lock of the exchange."""
        if self.gate is not None and self.gate.locked():
            self.gate.release()


class Exchange:
    """One open tile channel. Thread-safe.

    Parameters
    ----------
    writer, reader : pyarrow.flight streams
        Of the client's DoExchange.
    ends_at : float
        When it is to be replaced by another, by ``time.monotonic``.
    """

    def __init__(self, writer: Any, reader: Any, ends_at: float) -> None:
        self.ends_at = ends_at
        self._writer = writer
        self._reader = reader
        self._lock = threading.Lock()
        self._writing = threading.RLock()  # a write that fails closes the stream
        self._room = threading.BoundedSemaphore(MAX_UNANSWERED)
        self._waiting: dict[int, Call] = {}
        self._opened: dict[object, Call] = {}  # what opened each expression
        self._last_id = 0
        self._is_read = False
        self._failure: LarvikError | None = None

    @property
    def is_broken(self) -> bool:
        """Whether no request can be sent any more."""
        return self._failure is not None

    @property
    def is_unused(self) -> bool:
        """Whether nobody waits for an answer."""
        return not self._waiting

    def read(
        self,
        key: object,
        message: Callable[[], flight_pb2.TileOpen],
        ask: flight_pb2.TileRead,
        deadline: float,
    ) -> pa.RecordBatch | None:
        """Return the batch that answers a read of an expression, which is opened first where it is not.

        Parameters
        ----------
        key : object
            Tells expressions apart.
        message : callable
            Makes what opens the expression.
        ask : TileRead
            What is read; gets its handle here.
        deadline : float
            By ``time.monotonic``.

        Raises
        ------
        UnavailableError
            When the channel broke; another may be opened.
        DeadlineError
            ``CALL_TIMED_OUT``; the channel broke.
        """
        if not self._room.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _late()
        try:
            opening, is_new, reading = self._send(key, message, ask, deadline)
            try:
                self._await(opening if is_new else reading)
                self._await(reading)
            except BaseException as error:
                self._forget(opening if is_new else None, reading)
                is_unknown = isinstance(error, LarvikError) and error.reason == "TILE_HANDLE_UNKNOWN"
                if is_new or is_unknown:
                    self._opened.pop(key, None)
                if is_unknown and opening.reply.status:  # somebody else's, at the same time
                    _check(opening)
                raise
            return reading.batch
        finally:
            self._room.release()

    def expired(self, now: float) -> bool:
        """Break the channel when a caller waits beyond its deadline; tell whether anybody waits."""
        with self._lock:
            is_late = any(call.deadline < now for call in self._waiting.values())
            is_waited_for = bool(self._waiting)
        if is_late:
            self.fail(
                UnavailableError("The tile channel did not answer in time.", reason="SERVER_UNREACHABLE")
            )
        return is_waited_for

    def fail(self, error: LarvikError) -> None:
        """Break the channel: whoever waits gets `error`, or that it waited too long."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            now = time.monotonic()
            for call in self._waiting.values():
                call.error = _late() if call.deadline < now else self._failure
                call.is_done = True
                call.wake()
            self._waiting.clear()
            is_read = self._is_read
        self._reader.cancel()
        if not is_read:
            self._shut()

    def _shut(self) -> None:
        """Close the broken stream, which nobody reads any more: left open, it would complain when it goes."""
        import pyarrow as pa

        with self._writing, suppress(pa.ArrowException, OSError):
            self._writer.close()

    def close(self) -> None:
        """Break the channel on purpose."""
        self.fail(CallCancelledError("The connection was closed."))

    def _send(
        self,
        key: object,
        message: Callable[[], flight_pb2.TileOpen],
        ask: flight_pb2.TileRead,
        deadline: float,
    ) -> tuple[Call, bool, Call]:
        """Send a read, before it what opens its expression where nothing did; tell whether that is new."""
        reading = Call(deadline)
        with self._writing:
            opening = self._opened.get(key)
            is_new = opening is None
            if opening is None:
                opening = Call(deadline)
                self._write(opening, open=message())
                self._opened[key] = opening
                while len(self._opened) > MAX_OPEN:
                    del self._opened[next(iter(self._opened))]
            ask.handle = opening.id
            self._write(reading, read=ask)
        return opening, is_new, reading

    def _write(self, call: Call | None, **kind: Any) -> None:
        import pyarrow as pa

        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._last_id += 1
            if call is not None:
                call.id = self._last_id
                self._waiting[call.id] = call
        request = flight_pb2.TileRequest(id=self._last_id, **kind)
        try:
            self._writer.write_metadata(pa.py_buffer(request.SerializeToString()))
        except (pa.ArrowException, OSError) as error:
            failure = _lost(error)
            self.fail(failure)
            raise failure from None

    def _await(self, call: Call) -> None:
        """Return when a call is answered, reading for all where nobody else does."""
        while True:
            with self._lock:
                if call.is_done:
                    break
                call.is_promoted = False
                is_leader = not self._is_read
                if is_leader:
                    self._is_read = True
                else:
                    call.gate = threading.Lock()
                    call.gate.acquire()
            if is_leader:
                self._lead(call)
            else:
                self._sleep(call)
        _check(call)

    def _sleep(self, call: Call) -> None:
        assert call.gate is not None
        # The deadline is kept by who looks at `expired`; this is for the case that nobody does.
        if not call.gate.acquire(timeout=max(0.0, call.deadline - time.monotonic()) + 5.0):
            self.fail(_late())

    def _lead(self, call: Call) -> None:
        """Read answers until that to `call` is there; then let another caller read."""
        import pyarrow as pa

        is_whole = False
        try:
            while not call.is_done:
                try:
                    chunk = self._reader.read_chunk()
                except StopIteration:
                    self.fail(UnavailableError("The server ended the tile channel."))
                except (pa.ArrowException, OSError) as error:
                    self.fail(_lost(error))
                else:
                    self._deliver(chunk)
            is_whole = True
        finally:
            if not is_whole:  # interrupted: an answer to somebody may be lost
                self.fail(UnavailableError("The tile channel was interrupted."))
            with self._lock:
                self._is_read = False
                self._promote()
            if self._failure is not None:
                self._shut()

    def _deliver(self, chunk: Any) -> None:
        reply = flight_pb2.TileReply()
        if chunk.app_metadata is not None:
            reply.MergeFromString(chunk.app_metadata.to_pybytes())
        if reply.id == 0:
            self.fail(decode_details(reply.status) or UnavailableError("The tile channel is out of step."))
            return
        with self._lock:
            call = self._waiting.pop(reply.id, None)
            if call is not None:
                call.reply, call.batch = reply, chunk.data
                call.is_done = True
                call.wake()

    def _promote(self) -> None:
        """Wake one caller that sleeps, to read."""
        for call in self._waiting.values():
            if call.gate is not None and call.gate.locked():
                call.is_promoted = True
                call.wake()
                return

    def _forget(self, *calls: Call | None) -> None:
        """Give up calls that are not answered; one that was woken to read wakes another."""
        dropped = []
        with self._lock:
            for call in calls:
                if call is None:
                    continue
                if self._waiting.pop(call.id, None) is not None:
                    dropped.append(call.id)
                if call.is_promoted and not self._is_read:
                    self._promote()
        if dropped and self._failure is None:
            with self._writing:
                try:
                    self._write(None, cancel=flight_pb2.TileCancel(ids=dropped))
                except LarvikError:
                    return  # it broke meanwhile


def _check(call: Call) -> None:
    """Raise what a call was answered with, unless it succeeded."""
    if call.error is not None:
        raise call.error
    if call.reply.status:
        raise decode_details(call.reply.status) or DataLossError(
            "The server's answer cannot be understood.", reason="STREAM_INVALID"
        )


def _lost(error: Exception) -> LarvikError:
    """Return why the channel broke; what only means that it did can be tried again."""
    found = decode_flight(error)
    if isinstance(found, CallCancelledError):
        return UnavailableError("The server ended the tile channel.")
    return found


def _late() -> DeadlineError:
    return DeadlineError("The server did not answer in time.", reason="CALL_TIMED_OUT")
