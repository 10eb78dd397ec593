"""The tile channel: one DoExchange that a client keeps open for many small reads.

Whichever thread reads the next request also works on it, so that a lone request meets no hand-over. A request
that may take long is worked on while another thread of the channel reads on: it sees what is cancelled or
replaced meanwhile. Only one thread writes at a time, as gRPC demands.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

from larvik.errors import CallCancelledError, InvalidArgumentError, ResourceExhaustedError
from larvik.proto.v1 import flight_pb2
from larvik.wire.messages import parse
from larvik.wire.status import encode_status, presentable
from larvik_server.flight.gate import Call
from larvik_server.flight.streams import ChannelPlace
from larvik_server.flight.tiles import Opened, Pixels, Tiles

#: Schema of the answers.
TILE = pa.schema([("data", pa.large_binary())])
#: Requests that may be unanswered, and those that one channel works on at once.
MAX_UNANSWERED = 16
MAX_BUSY = 2
#: Longest message of a client, in bytes.
MAX_MESSAGE = (1 << 20) + 1024
#: A tile that took less lately is made by the thread that reads, before it reads on; in seconds.
QUICK_S = 0.002


class _GoneError(Exception):
    """The client is gone, or sends what is no Flight message."""


class _Job:
    """One request that has not been answered."""

    __slots__ = ("id", "is_cancelled", "message", "opened")

    def __init__(self, number: int, message: flight_pb2.TileRead, opened: Opened) -> None:
        self.id = number
        self.message = message
        self.opened = opened
        self.is_cancelled = False


class TileChannel:
    """Serves one exchange until its client is done; make one for each call.

    Parameters
    ----------
    call : Call
        Gets the counts.
    tiles : Tiles
        What is opened and read.
    reader, writer : pyarrow.flight streams
        Of the exchange.
    place : ChannelPlace
        Tells what it may do.
    """

    def __init__(
        self,
        call: Call,
        tiles: Tiles,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.MetadataRecordBatchWriter,
        place: ChannelPlace,
    ) -> None:
        self._call = call
        self._tiles = tiles
        self._reader = reader
        self._writer = writer
        self._place = place
        self._state = threading.Condition()
        self._writing = threading.Lock()
        self._pending: deque[_Job] = deque()
        self._working: dict[int, _Job] = {}
        self._last_id = 0
        self._is_read = False  # whether some thread reads
        self._is_over = False
        self._waiting = 0
        self._helpers = 0
        self._answered = self._failed = 0

    def serve(self) -> None:
        """Answer requests until the client closes its side, is gone, or sends no Flight messages."""
        try:
            with suppress(pa.ArrowException, OSError):  # the client is gone already
                self._writer.begin(TILE)
                self._run()
        finally:
            with self._state:
                while self._helpers:
                    self._state.wait()
            self._call.fields.update(tiles=self._answered, failed=self._failed)

    def _help(self) -> None:
        try:
            self._run()
        finally:
            with self._state:
                self._helpers -= 1
                self._state.notify_all()

    def _run(self) -> None:
        """Work on what waits, or read, until the channel is over."""
        is_lost = True
        try:
            while True:
                job = self._take()
                if job is not None:
                    self._work(job)
                elif self._is_over or not self._read():
                    break
            is_lost = False
        except _GoneError:
            pass
        finally:
            self._end(is_lost)

    def _end(self, is_lost: bool) -> None:
        with self._state:
            self._is_over = True
            if is_lost:
                for job in (*self._pending, *self._working.values()):
                    job.is_cancelled = True
                self._pending.clear()
            self._state.notify_all()

    def _take(self) -> _Job | None:
        """Return a request to work on, or None: then this thread reads, unless the channel is over."""
        with self._state:
            while True:
                if self._pending and len(self._working) < MAX_BUSY:
                    job = self._pending.popleft()
                    self._working[job.id] = job
                    return job
                if self._is_over:
                    return None
                if not self._is_read:
                    self._is_read = True
                    return None
                self._waiting += 1
                self._state.wait()
                self._waiting -= 1

    def _read(self) -> bool:
        """Take in messages until another thread shall read; return False at the end of the stream."""
        while True:
            try:
                chunk = self._reader.read_chunk()
            except StopIteration:
                return False
            except (pa.ArrowException, OSError) as error:
                raise _GoneError from error
            job = self._received(chunk)
            if job is None:
                continue
            with self._state:
                if not self._working and not self._pending and job.opened.seconds < QUICK_S:
                    self._working[job.id] = job
                else:
                    self._pending.append(job)
                    self._is_read = False
                    self._call_in()
                    return True
            self._work(job)

    def _call_in(self) -> None:
        """Have another thread at hand, which reads or works on: as many as may be busy, and one."""
        if self._waiting:
            self._state.notify()
        elif self._helpers < MAX_BUSY:
            self._helpers += 1
            threading.Thread(target=self._help, name="larvik-tiles", daemon=True).start()

    def _received(self, chunk: flight.FlightStreamChunk) -> _Job | None:
        """Return the tile that a message asks for; answer or do whatever else it says."""
        data = chunk.app_metadata
        number = 0
        try:
            if chunk.data is not None or data is None or data.size > MAX_MESSAGE:
                raise InvalidArgumentError(
                    "A message of a tile channel is one TileRequest in app_metadata, and no batch.",
                    reason="MESSAGE_MALFORMED",
                    field="app_metadata",
                )
            request = parse(flight_pb2.TileRequest, data.to_pybytes(), field="app_metadata")
            number = self._number(request.id)
            self._place.check()
            kind = request.WhichOneof("kind")
            if kind == "read":
                return self._admit(number, request.read)
            if kind == "open":
                document = self._tiles.open(number, request.open)
                self._answer(flight_pb2.TileReply(id=number, handle=number, document=document))
            elif kind == "cancel":
                self._cancel(set(request.cancel.ids))
            else:
                raise InvalidArgumentError(
                    "A TileRequest takes open, read or cancel.", reason="MESSAGE_MALFORMED", field="kind"
                )
        except _GoneError:
            raise
        except Exception as error:
            self._refuse(number, error)
        return None

    def _number(self, number: int) -> int:
        if number <= self._last_id:
            raise InvalidArgumentError(
                f"The id of a TileRequest is larger than that of the one before, {self._last_id}; this one is"
                f" {number}.",
                reason="TILE_INVALID",
                field="id",
            )
        self._last_id = number
        return number

    def _admit(self, number: int, message: flight_pb2.TileRead) -> _Job:
        """Return the request as a job, in place of those that it replaces."""
        job = _Job(number, message, self._tiles.find(message.handle))
        with self._state:
            unanswered = len(self._pending) + len(self._working)
            replaced = [one for one in self._pending if message.group and one.message.group == message.group]
            for one in replaced:
                self._pending.remove(one)
        for one in replaced:
            self._refuse(one.id, CallCancelledError("A later request of the same group replaced this one."))
        if unanswered - len(replaced) >= MAX_UNANSWERED:
            raise ResourceExhaustedError(
                f"{MAX_UNANSWERED} requests of this channel are unanswered. Await one before the next.",
                reason="TILES_EXHAUSTED",
                retry_after_s=0.1,
            )
        return job

    def _cancel(self, ids: set[int]) -> None:
        with self._state:
            dropped = [job for job in self._pending if job.id in ids]
            for job in dropped:
                self._pending.remove(job)
            for number in ids & self._working.keys():
                self._working[number].is_cancelled = True
        for job in dropped:
            self._refuse(job.id, CallCancelledError("The caller cancelled the request."))

    def _work(self, job: _Job) -> None:
        def is_given_up() -> bool:
            self._place.check_caller()
            return job.is_cancelled

        held = 0
        try:
            try:
                size_bytes = self._tiles.size_bytes(job.opened, job.message)
                self._place.take(size_bytes)
                held = size_bytes
                data = self._tiles.read(job.opened, job.message, is_given_up)
            finally:
                self._done(job)
            self._answer(flight_pb2.TileReply(id=job.id), data)
        except _GoneError:
            raise
        except Exception as error:
            self._refuse(job.id, error)
        finally:
            if held:
                self._place.give(held)

    def _done(self, job: _Job) -> None:
        with self._state:
            self._working.pop(job.id, None)
            if self._pending and self._waiting:
                self._state.notify()

    def _refuse(self, number: int, error: Exception) -> None:
        status = encode_status(presentable(error, self._call.request_id))
        self._answer(flight_pb2.TileReply(id=number, status=status.SerializeToString()))

    def _answer(self, reply: flight_pb2.TileReply, data: Pixels | bytes | None = None) -> None:
        metadata = pa.py_buffer(reply.SerializeToString())
        batch = _batch(data) if data is not None else None
        with self._writing:
            self._failed += bool(reply.status)
            self._place.watched.waits()
            try:
                if batch is None:
                    self._writer.write_metadata(metadata)
                else:
                    self._answered += 1
                    self._call.size_bytes += batch.nbytes
                    self._writer.write_with_metadata(batch, metadata)
            except (pa.ArrowException, OSError) as error:
                raise _GoneError from error
            finally:
                self._place.watched.goes_on()


def _batch(data: Pixels | bytes) -> pa.RecordBatch:
    """Return bytes as the one row of a batch, without a copy."""
    values = pa.py_buffer(data)
    offsets = pa.py_buffer(np.array([0, values.size], np.int64))
    column = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, values])
    return pa.RecordBatch.from_arrays([column], schema=TILE)
