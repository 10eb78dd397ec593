"""Pixels of a server: expressions evaluated there, or here from regions fetched over Flight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from larvik.array.demand import demand
from larvik.array.evaluate import Block, compute, evaluate
from larvik.array.expression import Expression, Source
from larvik.array.options import options
from larvik.array.planner import Plan, plan
from larvik.array.record import record
from larvik.array.regions import whole
from larvik.proto.v1 import flight_pb2
from larvik_client.channel import retried
from larvik_client.commands import command_of
from larvik_client.flight import FlightSession
from larvik_client.pushdown import push_down, stream
from larvik_client.reader import NAMED, RemoteReader, Routes
from larvik_client.tiles import reads_little

if TYPE_CHECKING:
    from larvik.array.evaluator import Cancelled, Reader

#: Most parts of an expression whose encoding `explain` asks for.
EXPLAINED = 8


class RemoteEvaluator:
    """`larvik.array.evaluator.Evaluator` of a server. Thread-safe; holds no pixels and no token."""

    def __init__(self, flight: FlightSession, url: str) -> None:
        self.url = url
        self._flight = flight
        self._routes = Routes(flight)

    def evaluate(
        self, expressions: Sequence[Expression], *, cancelled: Cancelled | None = None
    ) -> list[NDArray[Any]]:
        """Return the value of each expression: pushed down, or computed here from what is fetched."""
        planned = self._plan(expressions)
        if planned.where == "server":
            is_light = reads_little(planned) and options().encoding in ("auto", "tiles")
            small = self._flight.small if is_light else None
            return push_down(self._flight, expressions, cancelled, small)
        encoding = options().encoding  # threads that read do not know those of this one
        return compute(expressions, lambda source: self._reader(source, encoding), cancelled=cancelled)

    def explain(self, expression: Expression) -> Plan:
        """Return where `expression` would be evaluated, why, and how the pixels for it would travel."""
        planned = self._plan([expression])
        parts = [expression] if planned.where == "server" else list(islice(_parts(expression), EXPLAINED))
        plans = [self._offered(part) for part in parts if part.size]
        if planned.where not in ("client", "server") or not plans:
            return planned
        names = {number: name for name, number in NAMED.items()}
        encodings = dict.fromkeys(names.get(item.encoding, "dense") for item in plans)
        return replace(
            planned,
            encoding=", ".join(encodings),
            encoding_why=plans[0].reason,
            bytes_stored=sum(item.stored_bytes for item in plans),
        )

    def blocks(
        self, expression: Expression, block_bytes: int, *, cancelled: Cancelled | None = None
    ) -> Iterator[Block]:
        """Yield the value block by block, each a new array, with where it begins."""
        if self._plan([expression]).where == "server":
            yield from stream(self._flight, expression, cancelled)
            return
        encoding = options().encoding
        yield from evaluate(
            expression,
            lambda source: self._reader(source, encoding),
            block_bytes=block_bytes,
            cancelled=cancelled,
        )

    def _plan(self, expressions: Sequence[Expression]) -> Plan:
        link = None if self._routes.near.is_possible else self._flight.link  # the same host: no link at all
        return plan(expressions, remote=True, link=link)

    def reader(self, source: Source) -> Reader:
        """Return a reader of a stored level."""
        return self._reader(source, options().encoding)

    def _reader(self, source: Source, encoding: str) -> RemoteReader:
        return RemoteReader(self._routes, source, encoding)

    def _offered(self, expression: Expression) -> flight_pb2.ArrayPlan:
        """Return the server's plan of what this client would ask for."""
        accepted = [flight_pb2.ENCODING_CHUNKS, flight_pb2.ENCODING_DENSE]
        if self._routes.near.is_possible:
            accepted.append(flight_pb2.ENCODING_STORE)
        if self._routes.is_bucket_reached:
            accepted.append(flight_pb2.ENCODING_REFS)
        wanted = options().encoding
        command = command_of(expression, [NAMED[wanted]] if wanted in NAMED else accepted)
        return retried(lambda: self._flight.offer(command)).plan


def _parts(expression: Expression) -> Iterator[Expression]:
    """Yield what is fetched of each stored level that an expression needs."""
    for node, regions in demand([(expression, whole(expression.shape))]).items():
        if isinstance(node, Source):
            for region in regions:
                yield record("select", [node], {"selection": region})
