"""Small reads of a server: over a tile channel that stays open, so that each costs one message each way."""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Expression, Source
from larvik.array.planner import Plan
from larvik.errors import (
    DataLossError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from larvik.proto.v1 import flight_pb2
from larvik.wire.expressions import encode_expressions
from larvik_client.exchange import Exchange
from larvik_client.flight import FlightSession
from larvik_client.forks import renew_after_fork

if TYPE_CHECKING:
    import pyarrow as pa

#: Largest result that travels as a tile, the decoded bytes of the chunks that it may touch, and their number.
MAX_BYTES = 1 << 20
MAX_SOURCE_BYTES = 32 << 20
MAX_CHUNKS = 16
#: How long a process for tiles gets to take a channel, and how long the one for bulk data then stands in for
#: it, in seconds.
OPEN_TIMEOUT_S = 5.0
STAND_IN_S = 30.0
#: A channel is replaced by another after this time, so that clients spread over processes anew, in seconds.
CHANNEL_S = 3600.0
#: How often deadlines are looked at, and after how many looks at an idle channel nobody looks, until a read.
LOOK_S = 0.25
IDLE_LOOKS = 40

Box = tuple[slice, ...]


class TileSession:
    """Small reads of one server. Thread-safe; holds no channel before the first.

    Parameters
    ----------
    bulk : FlightSession
        To the process for bulk data, which takes tiles too.
    lanes : callable
        Gives sessions to the processes for tiles, when a channel is opened.
    """

    def __init__(self, bulk: FlightSession, lanes: Callable[[], Sequence[FlightSession]]) -> None:
        self._bulk = bulk
        self._lanes = lanes
        self._exchange: tuple[int, Exchange] | None = None
        self._looks = 0
        self._looker: threading.Thread | None
        self.renew_locks()
        renew_after_fork(self)

    def renew_locks(self) -> None:
        """Forget a lock that a thread of the parent process may hold."""
        self._opening = threading.Lock()
        self._watching = threading.Lock()
        self._looker = None

    def read(
        self, expression: Expression, box: Box | None = None, out: NDArray[Any] | None = None
    ) -> NDArray[Any] | None:
        """Return part of the value of an expression, or None when it is better read as a stream.

        Parameters
        ----------
        expression : Expression
            What is read; whether it reads much to give little, the caller knows.
        box : tuple of slice, optional
            Bounds inside it, steps of 1; all of it when not given.
        out : numpy.ndarray, optional
            Where it goes, of any strides; else a new array.

        Raises
        ------
        LarvikError
            Whatever the read met; nothing was tried again.
        """
        bounds = box if box is not None else tuple(slice(0, size) for size in expression.shape)
        size = tuple(item.stop - item.start for item in bounds)
        if not is_small(expression, bounds, size):
            return None
        ask = flight_pb2.TileRead(start=[item.start for item in bounds], size=size)
        try:
            batch = self._ask(expression, ask)
        except ResourceExhaustedError as error:
            if error.reason in ("MEMORY_EXHAUSTED", "LIMIT_EXCEEDED"):
                return None  # a stream may hold more
            raise
        if out is None:
            out = np.empty(size, expression.dtype)
        _fill(out, _elements(batch, out.nbytes))
        return out

    def close(self) -> None:
        """Close the channel; idempotent. That of a parent process is left alone."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange[0] == os.getpid():
            exchange[1].close()

    def _ask(self, expression: Expression, ask: flight_pb2.TileRead) -> pa.RecordBatch | None:
        deadline = time.monotonic() + self._bulk.timeout_s
        key: object = expression
        if isinstance(expression, Source):
            key = (expression.array_id, expression.version, expression.level)

        def opens() -> flight_pb2.TileOpen:
            return flight_pb2.TileOpen(expression=encode_expressions([expression]))

        exchange = self._opened(deadline)
        try:
            return exchange.read(key, opens, ask, deadline)
        except NotFoundError as error:
            if error.reason != "TILE_HANDLE_UNKNOWN":
                raise
            return exchange.read(key, opens, ask, deadline)

    def _opened(self, deadline: float) -> Exchange:
        """Return the channel, opened where there is none, and anew where it broke or is old."""
        self._keep_looking()
        found = self._exchange
        if found is not None and found[0] == os.getpid() and not found[1].is_broken:
            exchange = found[1]
            if exchange.ends_at > time.monotonic() or not exchange.is_unused:
                return exchange
        with self._opening:
            other = self._exchange
            if other is not None and other is not found and not other[1].is_broken:
                return other[1]
            if found is not None and found[0] == os.getpid():
                found[1].close()
            exchange = self._open(deadline)
            self._exchange = (os.getpid(), exchange)
            return exchange

    def _open(self, deadline: float) -> Exchange:
        """Open a channel to a process for tiles, or to the one for bulk data while none answers."""
        now = time.monotonic()
        lanes = list(self._lanes())
        for lane in random.sample(lanes, len(lanes)):
            try:
                return lane.tiles(min(OPEN_TIMEOUT_S, deadline - now), now + CHANNEL_S)
            except (UnavailableError, TimeoutError):
                continue
        return self._bulk.tiles(deadline - now, now + (STAND_IN_S if lanes else CHANNEL_S))

    def _keep_looking(self) -> None:
        """Have a thread that looks at deadlines for a while from now."""
        with self._watching:
            self._looks = 0
            if self._looker is None:
                self._looker = threading.Thread(target=self._look, name="larvik-tiles", daemon=True)
                self._looker.start()

    def _look(self) -> None:
        """Break a channel whose callers wait beyond their deadline, while there are any."""
        while True:
            time.sleep(LOOK_S)
            found = self._exchange
            is_waited_for = found is not None and found[1].expired(time.monotonic())
            with self._watching:
                self._looks = 0 if is_waited_for else self._looks + 1
                if self._looks >= IDLE_LOOKS:
                    self._looker = None
                    return


def is_small(expression: Expression, bounds: Box, size: tuple[int, ...]) -> bool:
    """Whether part of an expression is read as a tile: a small result, of few chunks where it is stored."""
    elements = math.prod(size)
    if not 0 < elements * expression.dtype.itemsize <= MAX_BYTES:
        return False
    if not isinstance(expression, Source):
        return True
    chunks = 1
    for item, chunk in zip(bounds, expression.chunks, strict=True):
        chunks *= (item.stop - 1) // chunk - item.start // chunk + 1
    chunk_bytes = math.prod(expression.chunks) * expression.dtype.itemsize
    return chunks <= MAX_CHUNKS and chunks * chunk_bytes <= MAX_SOURCE_BYTES


def reads_little(planned: Plan) -> bool:
    """Whether what a server reads to evaluate an expression is as little as what a tile of a level needs."""
    return planned.chunks <= MAX_CHUNKS and planned.bytes_source <= MAX_SOURCE_BYTES


def _elements(batch: pa.RecordBatch | None, expected: int) -> NDArray[np.uint8]:
    """Return the bytes of an answer, a view of it."""
    buffers = batch.column(0).buffers() if batch is not None and batch.num_rows == 1 else [None] * 3
    if buffers[2] is None or buffers[2].size < expected:
        raise DataLossError("The answer of the tile channel is too short.", reason="STREAM_INCOMPLETE")
    return np.frombuffer(buffers[2], np.uint8, expected)


def _fill(out: NDArray[Any], elements: NDArray[np.uint8]) -> None:
    """Write elements into an array. They are copied as bytes first: where they lie they have no alignment."""
    little = out.dtype.newbyteorder("<")
    if out.flags.c_contiguous and out.dtype == little:
        out.reshape(-1).view(np.uint8)[:] = elements
    else:
        out[...] = elements.copy().view(little).reshape(out.shape)
