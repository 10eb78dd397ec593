"""How pixels travel: one object for each encoding."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from larvik.array.budget import Budget, Estimates
from larvik.array.evaluator import Cancelled
from larvik.array.expression import Expression
from larvik.array.grids import grid_of
from larvik.array.planner import size
from larvik.errors import InvalidArgumentError
from larvik.proto.v1 import flight_pb2
from larvik.wire.chunks import chunks_schema, encode_chunks
from larvik.wire.dense import Dense, dense, encode_dense
from larvik.wire.refs import encode_refs, refs_schema
from larvik_server.flight.asked import Asked

#: What one stream may hold while it evaluates.
BUDGET = Budget(memory_bytes=128 << 20)
#: Stored chunks travel when they are smaller than the result by this factor.
WORTH = 0.8
#: Life of a presigned address, in seconds, and most objects of one stream of them.
ADDRESS_S = 60
MAX_ADDRESSES = 4096

Batches = Callable[[Cancelled], Iterator[pa.RecordBatch]]


class Encoding(Protocol):
    """One way for pixels to travel.

    Attributes
    ----------
    number : Encoding
        In the contract.
    reads_ahead : bool
        Whether its batches are made ahead by themselves.
    """

    number: flight_pb2.Encoding.ValueType
    reads_ahead: bool

    def refusal(self, asked: Asked) -> str:
        """Return why it cannot be used; empty when it can."""

    def reason(self, asked: Asked) -> str:
        """Return why it is the best, as one sentence; empty when it is not worth it."""

    def stream(self, asked: Asked, promised: str) -> tuple[pa.Schema, Batches]:
        """Return schema and batches; nothing is read before the batches are asked for."""


class DenseEncoding:
    """Decoded blocks, clipped to the selection; every expression and every client."""

    number = flight_pb2.ENCODING_DENSE
    reads_ahead = False

    def refusal(self, asked: Asked) -> str:
        """Return nothing: it can always be used."""
        return ""

    def reason(self, asked: Asked) -> str:
        """Return why nothing else was."""
        if asked.region is None:
            return "The result is computed here."
        return (
            f"Stored chunks of about {size(asked.stored_bytes)} are not much less than the"
            f" {size(asked.figures.bytes_result)} of the result, or were not asked for."
        )

    def stream(self, asked: Asked, promised: str) -> tuple[pa.Schema, Batches]:
        """Evaluate block by block."""
        layout = layout_of(asked.expression, asked.dims, promised)

        def batches(cancelled: Cancelled) -> Iterator[pa.RecordBatch]:
            blocks = asked.service.blocks(
                asked.expression,
                asked.arrays,
                regions=layout.regions(),
                budget=BUDGET,
                source_bytes=asked.figures.bytes_source,
                cancelled=cancelled,
            )
            return encode_dense(layout, (block for _, block in blocks))

        return layout.schema, batches


class ChunksEncoding:
    """Stored bytes of whole chunks; the client decodes."""

    number = flight_pb2.ENCODING_CHUNKS
    reads_ahead = True

    def refusal(self, asked: Asked) -> str:
        """Return why there are no chunks to send."""
        return asked.not_stored()

    def reason(self, asked: Asked) -> str:
        """Compare stored bytes with those of the result."""
        if asked.stored_bytes >= WORTH * asked.figures.bytes_result:
            return ""
        return (
            f"Stored chunks of about {size(asked.stored_bytes)} make a result of"
            f" {size(asked.figures.bytes_result)}; the client decodes them."
        )

    def stream(self, asked: Asked, promised: str) -> tuple[pa.Schema, Batches]:
        """Read chunks as they are."""
        assert asked.region is not None
        region = asked.region
        schema = chunks_schema(len(region.selection), asked.schema_metadata(promised))

        def batches(cancelled: Cancelled) -> Iterator[pa.RecordBatch]:
            array = asked.arrays[region.source.array_id]
            reader = asked.service.reader(array, region.source.level)
            return encode_chunks(schema, reader.stored_chunks(region.selection))

        return schema, batches


class StoreEncoding:
    """Descriptors of the stored objects, for clients on this host.

    Parameters
    ----------
    socket : str
        Abstract unix socket that hands them out; empty where there is none.
    """

    number = flight_pb2.ENCODING_STORE
    reads_ahead = False

    def __init__(self, socket: str) -> None:
        self.socket = socket

    def refusal(self, asked: Asked) -> str:
        """Return what is missing."""
        if not self.socket:
            return "descriptors are not handed out here"
        if not asked.is_near:
            return "the client is on another host"
        return asked.not_stored() or ("" if asked.objects.are_files else "the objects are no files")

    def reason(self, asked: Asked) -> str:
        """Say that nothing moves."""
        return "The client is on this host and reads the stored objects itself, so nothing has to move."

    def stream(self, asked: Asked, promised: str) -> tuple[pa.Schema, Batches]:
        """Return an empty stream: the ticket is for the socket."""
        return pa.schema([], metadata=dict(asked.schema_metadata(promised))), _refuse_stream


class RefsEncoding:
    """Presigned addresses of the stored objects.

    Parameters
    ----------
    allowed : bool
        Whether the settings of the store allow them.
    """

    number = flight_pb2.ENCODING_REFS
    reads_ahead = False

    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed

    def refusal(self, asked: Asked) -> str:
        """Return what is missing."""
        if not self.allowed:
            return "the settings do not allow presigned addresses"
        why = asked.not_stored()
        if why or not asked.objects.are_addressable:
            return why or "the objects are not in a bucket of this server"
        return "" if self._count(asked) <= MAX_ADDRESSES else f"it touches more than {MAX_ADDRESSES} objects"

    def reason(self, asked: Asked) -> str:
        """Say who does the work, where it is less than decoding here."""
        if asked.stored_bytes >= WORTH * asked.figures.bytes_result:
            return ""
        return f"The client reads the {self._count(asked)} stored objects from the bucket itself."

    def stream(self, asked: Asked, promised: str) -> tuple[pa.Schema, Batches]:
        """Sign addresses, a batch at a time."""
        assert asked.region is not None
        schema = refs_schema(len(asked.region.selection), asked.schema_metadata(promised))

        def addresses() -> Iterator[tuple[tuple[int, ...], str | None, float]]:
            for shard, url in asked.objects.addresses(self._grid(asked), ADDRESS_S):
                yield shard, url, time.time() + ADDRESS_S

        return schema, lambda cancelled: encode_refs(schema, addresses())

    def _grid(self, asked: Asked) -> tuple[range, ...]:
        assert asked.region is not None
        return asked.region.shards(asked.metadata.shards)

    def _count(self, asked: Asked) -> int:
        return math.prod(map(len, self._grid(asked)))


def layout_of(expression: Expression, dims: Sequence[str], promised: str) -> Dense:
    """Return how the value of an expression travels as `dense`."""
    estimates = Estimates(BUDGET)
    chunks = [max(sizes, default=1) for sizes in grid_of(expression)]
    return dense(
        expression.shape,
        chunks,
        expression.dtype,
        dims=dims,
        metadata={"larvik.plan": promised},
        fits=lambda shape: estimates.peak(expression, shape) <= BUDGET.most_bytes,
    )


def _refuse_stream(cancelled: Cancelled) -> Iterator[pa.RecordBatch]:
    raise InvalidArgumentError(
        "A ticket of the encoding `store` is shown to the socket that its plan names, not to DoGet.",
        reason="ENCODING_UNSUPPORTED",
        field="ticket",
    )
