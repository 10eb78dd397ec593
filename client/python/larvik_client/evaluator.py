"""Pixels of a server: expressions evaluated there, or here from regions fetched over Flight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.evaluate import compute
from larvik.array.expression import Expression, Source
from larvik.array.planner import Plan, plan
from larvik.array.record import record
from larvik.errors import DataLossError
from larvik.proto.v1 import flight_pb2
from larvik.wire.batches import decode_dense
from larvik.wire.expressions import encode_expressions
from larvik_client.flight import FlightSession

if TYPE_CHECKING:
    import pyarrow as pa

    from larvik.array.evaluator import Reader

#: Results up to this size are put together by the calling thread alone.
INLINE_BYTES = 8 << 20


class RemoteEvaluator:
    """`larvik.array.evaluator.Evaluator` of a server. Thread-safe; holds no pixels and no token."""

    def __init__(self, flight: FlightSession, url: str) -> None:
        self.url = url
        self._flight = flight

    def evaluate(self, expressions: Sequence[Expression]) -> list[NDArray[Any]]:
        """Return the value of each expression: pushed down, or computed here from what is fetched."""
        if plan(expressions, remote=True).where == "server":
            return [fetch(self._flight, expression) for expression in expressions]
        return compute(expressions, self.reader)

    def explain(self, expression: Expression) -> Plan:
        """Return where `expression` would be evaluated, and why."""
        return plan(expression, remote=True)

    def reader(self, source: Source) -> Reader:
        """Return a reader of a stored level."""
        return RemoteReader(self._flight, source)


class RemoteReader:
    """One level of one stored array of a server, read by region. Thread-safe."""

    def __init__(self, flight: FlightSession, source: Source) -> None:
        self._flight = flight
        self._source = source

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dim."""
        return self._source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements."""
        return self._source.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Elements of the unit of decoding."""
        return self._source.chunks

    def read(self, selection: tuple[slice, ...], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the region, in `out` when given; one slice with a positive step per dim.

        Raises
        ------
        SelectionError
            ``SELECTION_OUT_OF_BOUNDS``.
        """
        region = tuple(
            range(*item.indices(size)) for item, size in zip(selection, self._source.shape, strict=True)
        )
        whole = all(picks == range(size) for picks, size in zip(region, self._source.shape, strict=True))
        expression: Expression = (
            self._source if whole else record("select", [self._source], {"selection": region})
        )
        return fetch(self._flight, expression, out)


def fetch(flight: FlightSession, expression: Expression, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the value of an expression, evaluated by the server and put together here.

    Parameters
    ----------
    flight : FlightSession
        To the server.
    expression : Expression
        What is asked for.
    out : numpy.ndarray, optional
        Where it goes; of the shape and dtype of the expression.

    Raises
    ------
    DataLossError
        ``STREAM_INCOMPLETE``, when the stream ended without all of it.
    """
    result = np.empty(expression.shape, expression.dtype) if out is None else out
    if expression.size == 0:
        return result
    command = flight_pb2.FlightCommand()
    command.array_read.expression.CopyFrom(encode_expressions([expression]))
    command.array_read.accept_encodings.append(flight_pb2.ENCODING_DENSE)
    target = result if result.ndim else result.reshape(1)
    received = _scatter(flight.batches(command), target)
    if received < math.prod(target.shape):
        raise DataLossError(
            f"The stream ended after {received} of {expression.size} elements. Read again.",
            reason="STREAM_INCOMPLETE",
        )
    return result


def _scatter(batches: Iterator[pa.RecordBatch], target: NDArray[Any]) -> int:
    """Copy tensors to where they belong, one batch while the next arrives; return how many elements."""

    def copy(batch: pa.RecordBatch) -> int:
        box, pixels = decode_dense(batch, target.shape, target.dtype)
        target[box.slices] = pixels
        return pixels.size

    if target.nbytes <= INLINE_BYTES:
        return sum(map(copy, batches))
    received = 0
    with ThreadPoolExecutor(1, "larvik-scatter") as pool:
        copying = None
        for batch in batches:
            received += copying.result() if copying is not None else 0
            copying = pool.submit(copy, batch)
        return received + (copying.result() if copying is not None else 0)
