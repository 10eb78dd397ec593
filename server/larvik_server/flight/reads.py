"""What can be read: commands and paths become a schema, a plan, and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
from google.protobuf.json_format import MessageToJson

from larvik.array.budget import Budget, Estimates
from larvik.array.evaluate import Cancelled, evaluate
from larvik.array.expression import Expression, Source
from larvik.array.grids import grid_of
from larvik.array.planner import plan
from larvik.errors import InvalidArgumentError, NotFoundError
from larvik.ids import parse_id
from larvik.proto.v1 import flight_pb2
from larvik.query.query import Query
from larvik.services.arrays import StoredArray
from larvik.services.bundle import Services
from larvik.services.principal import Principal
from larvik.wire.batches import Dense, dense, encode_dense
from larvik.wire.expressions import decode_expressions, encode_expressions
from larvik.wire.queries import decode_query, encode_query
from larvik.wire.values import check_name

#: What one stream may hold while it evaluates.
BUDGET = Budget(memory_bytes=128 << 20)
#: Kinds of paths.
ARRAYS, TABLES, MODELS = "arrays", "tables", "models"


@dataclass(frozen=True, slots=True)
class Read:
    """Something that a principal may read.

    Attributes
    ----------
    command : FlightCommand
        Names it, in tickets.
    schema : pyarrow.Schema
        Of its batches.
    batches : callable
        Makes its batches; reads nothing before it is called. Takes what is asked, now and then, whether to
        give up.
    arrays : mapping
        Where its arrays are stored, by id.
    plan : ArrayPlan or None
        Of pixels.
    """

    command: flight_pb2.FlightCommand
    schema: pa.Schema
    batches: Callable[[Cancelled], Iterator[pa.RecordBatch]]
    arrays: Mapping[str, StoredArray]
    plan: flight_pb2.ArrayPlan | None = None


class Reads:
    """Opens what commands and paths name, with the rights of a principal."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def open(
        self,
        principal: Principal,
        command: flight_pb2.FlightCommand,
        arrays: Mapping[str, StoredArray] | None = None,
    ) -> Read:
        """Return what `command` reads.

        Parameters
        ----------
        arrays : mapping, optional
            Where its arrays are, from a ticket; without it rights are checked and they are looked up.

        Raises
        ------
        InvalidArgumentError
            ``COMMAND_INVALID``, for a command that reads nothing.
        """
        kind = command.WhichOneof("kind")
        if kind == "array_read":
            return self._array(principal, command, arrays)
        if kind == "table_read":
            return self._rows(principal, command)
        if kind == "measurement_read":
            return self._measurements(principal, command)
        raise InvalidArgumentError(
            "The descriptor's command takes array_read, table_read or measurement_read here.",
            reason="COMMAND_INVALID",
            field="command",
        )

    def open_path(self, principal: Principal, path: tuple[str, ...]) -> Read:
        """Return what a path such as ``("arrays", id)`` reads.

        Raises
        ------
        NotFoundError
            ``PATH_UNKNOWN``, or that there is no such array, table or model.
        """
        if len(path) == 2 and path[0] == ARRAYS:
            return self.open_array(principal, parse_id(path[1], field="path"))
        command = flight_pb2.FlightCommand()
        if len(path) == 2 and path[0] == TABLES:
            command.measurement_read.table_id = parse_id(path[1], field="path")
        elif len(path) == 2 and path[0] == MODELS:
            command.table_read.query.CopyFrom(encode_query(Query(self._services.registry.get(path[1]).name)))
        else:
            shown = "/".join(path)[:100]
            raise NotFoundError(
                f"There is no flight {shown!r}: paths are arrays/ID, tables/ID and models/NAME.",
                reason="PATH_UNKNOWN",
            )
        return self.open(principal, command)

    def open_array(self, principal: Principal, array_id: str, stored: StoredArray | None = None) -> Read:
        """Return the read of the finest level of an array, whole."""
        arrays = self._services.arrays
        stored = stored or arrays.stored(arrays.record(principal, array_id))
        finest = stored.spec.levels[0]
        source = Source(stored.id, stored.version, 0, finest.shape, stored.spec.dtype, finest.chunks)
        command = flight_pb2.FlightCommand()
        command.array_read.expression.CopyFrom(encode_expressions([source]))
        command.array_read.dims.extend(stored.spec.dims)
        return self._pixels(command, source, {stored.id: stored})

    def _array(
        self,
        principal: Principal,
        command: flight_pb2.FlightCommand,
        arrays: Mapping[str, StoredArray] | None,
    ) -> Read:
        accepted = command.array_read.accept_encodings
        if accepted and flight_pb2.ENCODING_DENSE not in accepted:
            raise InvalidArgumentError(
                "This server encodes pixels as ENCODING_DENSE, which accept_encodings does not name.",
                reason="ENCODING_UNSUPPORTED",
                field="accept_encodings",
            )
        expressions = decode_expressions(command.array_read.expression)
        if len(expressions) != 1:
            raise InvalidArgumentError(
                "An ArrayRead asks for one result; ask for several with several calls.",
                reason="EXPRESSION_INVALID",
                field="expression.results",
            )
        if arrays is None:
            arrays = self._services.arrays.locate(principal, expressions)
        return self._pixels(command, expressions[0], arrays)

    def _pixels(
        self,
        command: flight_pb2.FlightCommand,
        expression: Expression,
        arrays: Mapping[str, StoredArray],
    ) -> Read:
        figures = plan(expression, remote=False, where="client")
        promised = flight_pb2.ArrayPlan(
            shape=expression.shape,
            dtype=expression.dtype.name,
            encoding=flight_pb2.ENCODING_DENSE,
            reason="The one encoding of this server.",
            result_bytes=figures.bytes_result,
            source_bytes=figures.bytes_source,
            chunks=figures.chunks,
        )
        dims = tuple(check_name(name, field="dims") for name in command.array_read.dims[: expression.ndim])
        layout = layout_of(expression, dims, promised)

        def batches(cancelled: Cancelled) -> Iterator[pa.RecordBatch]:
            blocks = evaluate(
                expression,
                self._services.arrays.opener(arrays),
                budget=BUDGET,
                regions=layout.regions(),
                cancelled=cancelled,
            )
            return encode_dense(layout, (block for _, block in blocks))

        return Read(command, layout.schema, batches, arrays, promised)

    def _rows(self, principal: Principal, command: flight_pb2.FlightCommand) -> Read:
        query = decode_query(command.table_read.query)
        catalog = self._services.catalog
        return Read(
            command,
            catalog.table_schema(principal, query),
            lambda _: iter(catalog.table(principal, query)),
            {},
        )

    def _measurements(self, principal: Principal, command: flight_pb2.FlightCommand) -> Read:
        tables, table_id = self._services.tables, command.measurement_read.table_id

        def batches(cancelled: Cancelled) -> Iterator[pa.RecordBatch]:
            return iter(tables.read(principal, table_id).to_batches(max_chunksize=65_536))

        return Read(command, tables.schema(principal, table_id), batches, {})


def layout_of(expression: Expression, dims: tuple[str, ...], promised: flight_pb2.ArrayPlan) -> Dense:
    """Return how the value of an expression travels."""
    estimates = Estimates(BUDGET)
    chunks = [max(sizes, default=1) for sizes in grid_of(expression)]
    return dense(
        expression.shape,
        chunks,
        expression.dtype,
        dims=dims,
        metadata={"larvik.plan": MessageToJson(promised, indent=None)},
        fits=lambda shape: estimates.peak(expression, shape) <= BUDGET.most_bytes,
    )
