"""Push-down: expressions that the server evaluates, and whose values come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.evaluate import Block
from larvik.array.expression import Expression
from larvik.errors import CallCancelledError, UnavailableError
from larvik.proto.v1 import flight_pb2
from larvik.wire.dense import decode_dense
from larvik_client.channel import retried
from larvik_client.commands import command_of
from larvik_client.flight import FlightSession
from larvik_client.interrupts import Held, together
from larvik_client.receiving import receive_dense

if TYPE_CHECKING:
    from larvik.array.evaluator import Cancelled
    from larvik_client.tiles import TileSession

#: Most attempts of one read, while the server cannot be reached or ends in the middle.
READ_ATTEMPTS = 10


def push_down(
    flight: FlightSession,
    expressions: Sequence[Expression],
    cancelled: Cancelled | None = None,
    small: TileSession | None = None,
) -> list[NDArray[Any]]:
    """Return the value of each expression; several are asked for at once, the same one only once.

    Parameters
    ----------
    flight : FlightSession
        Streams.
    expressions : sequence of Expression
        What the server evaluates.
    cancelled : callable, optional
        Asked now and then; the server stops when it says so, or when the program is interrupted.
    small : TileSession, optional
        Where results may travel that are small and little work.
    """
    distinct = {id(node): node for node in expressions}
    values = {} if small is None else _small(small, distinct)
    left = {key: node for key, node in distinct.items() if key not in values}
    works = [partial(fetch, flight, node) for node in left.values()]
    if works:
        values.update(zip(left, together(works, cancelled), strict=True))
    repeats = Counter(map(id, expressions))
    return [values[id(node)].copy() if repeats[id(node)] > 1 else values[id(node)] for node in expressions]


def _small(small: TileSession, expressions: dict[int, Expression]) -> dict[int, NDArray[Any]]:
    """Return the values that fit the tile channel."""
    found = {}
    for key, node in expressions.items():
        value = retried(partial(small.read, node), attempts=READ_ATTEMPTS) if node.size else None
        if value is not None:
            found[key] = value
    return found


def fetch(flight: FlightSession, expression: Expression, held: Held | None = None) -> NDArray[Any]:
    """Return the value of an expression, evaluated by the server and put together here.

    Parameters
    ----------
    held : Held, optional
        Gets the stream, so that another thread can cancel it.
    """
    held = held or Held()
    result = np.empty(expression.shape, expression.dtype)
    if expression.size:
        command = command_of(expression, [flight_pb2.ENCODING_DENSE])

        def once() -> None:
            held.check()
            receive_dense(flight.redeem(flight.offer(command), held), result)

        retried(once, attempts=READ_ATTEMPTS, patience_s=flight.timeout_s)
    return result


def stream(
    flight: FlightSession, expression: Expression, cancelled: Cancelled | None = None
) -> Iterator[Block]:
    """Yield the value of an expression, evaluated by the server, as its blocks arrive.

    After a cut the stream is opened again, and what came already is passed over.
    """
    if not expression.size:
        return
    command = command_of(expression, [flight_pb2.ENCODING_DENSE])
    done = failures = 0
    while True:
        try:
            offer = retried(lambda: flight.offer(command))
            for batch in islice(flight.redeem(offer), done, None):  # the order is always the same
                if cancelled is not None and cancelled():
                    raise CallCancelledError("The evaluation was cancelled.")
                box, pixels = decode_dense(batch, expression.shape, expression.dtype)
                done += 1
                if expression.ndim:
                    yield tuple(part.start for part in box.slices), pixels.copy()
                else:
                    yield (), pixels.copy().reshape(())
            return
        except UnavailableError:
            failures += 1
            if failures >= READ_ATTEMPTS:
                raise
