"""What can be read: commands and paths become a schema, a plan, and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
from google.protobuf.json_format import MessageToJson

from larvik.array.evaluator import Cancelled
from larvik.array.expression import Expression, Source
from larvik.errors import InvalidArgumentError, NotFoundError
from larvik.ids import parse_id
from larvik.proto.v1 import flight_pb2
from larvik.query.query import Query
from larvik.services.arrays import StoredArray
from larvik.services.bundle import Services
from larvik.services.principal import Principal
from larvik.wire.expressions import decode_expressions, encode_expressions
from larvik.wire.queries import decode_query, encode_query
from larvik.wire.values import check_name
from larvik_server.flight.asked import Asked
from larvik_server.flight.choice import Encodings

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
    reads_ahead : bool
        Whether its batches are made ahead by themselves.
    """

    command: flight_pb2.FlightCommand
    schema: pa.Schema
    batches: Callable[[Cancelled], Iterator[pa.RecordBatch]]
    arrays: Mapping[str, StoredArray]
    plan: flight_pb2.ArrayPlan | None = None
    reads_ahead: bool = False


class Reads:
    """Opens what commands and paths name, with the rights of a principal."""

    def __init__(self, services: Services, encodings: Encodings) -> None:
        self._services = services
        self._encodings = encodings

    def open(
        self,
        principal: Principal,
        command: flight_pb2.FlightCommand,
        arrays: Mapping[str, StoredArray] | None = None,
        encoding: flight_pb2.Encoding.ValueType | None = None,
        *,
        is_near: bool = False,
    ) -> Read:
        """Return what `command` reads.

        Parameters
        ----------
        arrays : mapping, optional
            Where its arrays are, from a ticket; without it rights are checked and they are looked up.
        encoding : Encoding, optional
            From the same ticket; without it the cheapest that the command accepts is chosen.
        is_near : bool
            Whether the client asks from this host.

        Raises
        ------
        InvalidArgumentError
            ``COMMAND_INVALID``, for a command that reads nothing.
        """
        kind = command.WhichOneof("kind")
        if kind == "array_read":
            return self._array(principal, command, arrays, encoding, is_near)
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
        encoding: flight_pb2.Encoding.ValueType | None,
        is_near: bool,
    ) -> Read:
        expressions = decode_expressions(command.array_read.expression)
        if len(expressions) != 1:
            raise InvalidArgumentError(
                "An ArrayRead asks for one result; ask for several with several calls.",
                reason="EXPRESSION_INVALID",
                field="expression.results",
            )
        if arrays is None:
            arrays = self._services.arrays.locate(principal, expressions)
        return self._pixels(command, expressions[0], arrays, encoding, is_near)

    def _pixels(
        self,
        command: flight_pb2.FlightCommand,
        expression: Expression,
        arrays: Mapping[str, StoredArray],
        encoding: flight_pb2.Encoding.ValueType | None = None,
        is_near: bool = False,
    ) -> Read:
        read = command.array_read
        dims = tuple(check_name(name, field="dims") for name in read.dims[: expression.ndim])
        asked = Asked(self._services.arrays, expression, arrays, dims, read.codecs, is_near)
        if encoding is None:
            chosen = self._encodings.choose(asked, read.accept_encodings)
        else:
            chosen = self._encodings.permitted(asked, encoding)
        promised = self._encodings.promise(asked, chosen)
        schema, batches = chosen.encoding.stream(asked, MessageToJson(promised, indent=None))
        return Read(command, schema, batches, arrays, promised, chosen.encoding.reads_ahead)

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
