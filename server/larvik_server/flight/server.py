"""The Flight server: thin handlers over reads, puts and listings, each behind the gate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
from google.protobuf.message import Message

from larvik.errors import CallCancelledError, InvalidArgumentError, LarvikError, UnsupportedError
from larvik.proto.v1 import flight_pb2
from larvik.services.bundle import Services
from larvik.wire.messages import parse
from larvik.wire.records import encode_record
from larvik.wire.values import decode_row
from larvik_server.flight.choice import Encodings
from larvik_server.flight.exchange import TileChannel
from larvik_server.flight.gate import CALL, HEALTH, Call, Gate, handler
from larvik_server.flight.listing import Listing
from larvik_server.flight.peers import is_near
from larvik_server.flight.puts import put_table, put_upload
from larvik_server.flight.reads import Read, Reads
from larvik_server.flight.streams import Streams
from larvik_server.flight.tickets import MAX_COMMAND, Tickets, stored_arrays
from larvik_server.flight.tiles import Tiles
from larvik_server.flight.watchdog import Watched

#: How many times as long an upload waits for more, as a read waits for what was sent to be taken.
UPLOAD_PATIENCE = 10.0
#: How long an upload waits for a place before it is refused: whoever streams cannot begin anew at will.
UPLOAD_WAIT_S = 45.0
_ACTIONS = ((HEALTH, "Answers SERVING while streams are served."),)


class FlightServer(flight.FlightServerBase):
    """Reads and uploads of one Larvik.

    Parameters
    ----------
    location : str
        ``grpc://host:port`` or ``grpc+tls://host:port``.
    services : Services
        Behind it.
    gate : Gate
        Every call passes it.
    tickets : Tickets
        Makes and redeems tickets.
    streams : Streams
        Bounds what is open.
    listed : int
        Most arrays, and most tables, of one listing.
    tls : tuple of bytes, optional
        Certificate and key, PEM.
    encodings : Encodings, optional
        How pixels may travel; without it nothing but their bytes is handed out.
    """

    def __init__(
        self,
        location: str,
        services: Services,
        gate: Gate,
        tickets: Tickets,
        streams: Streams,
        listed: int,
        tls: tuple[bytes, bytes] | None = None,
        encodings: Encodings | None = None,
    ) -> None:
        super().__init__(location, middleware={CALL: gate}, tls_certificates=[tls] if tls else None)
        self._services = services
        self._tickets = tickets
        self._streams = streams
        self._reads = Reads(services, encodings or Encodings())
        self._listing = Listing(services, self._reads, tickets, listed)

    @handler
    def list_flights(self, call: Call, context: Any, criteria: bytes) -> list[flight.FlightInfo]:
        """List arrays, tables and models."""
        return list(self._listing.listed(call.principal, criteria or b""))

    @handler
    def get_flight_info(
        self, call: Call, context: Any, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        """Tell how to read what a descriptor names."""
        return self._listing.info(call.principal, descriptor, self._read(call, context, descriptor))

    @handler
    def get_schema(
        self, call: Call, context: Any, descriptor: flight.FlightDescriptor
    ) -> flight.SchemaResult:
        """Tell the schema of what a descriptor names."""
        return flight.SchemaResult(self._read(call, context, descriptor).schema)

    @handler
    def do_get(self, call: Call, context: Any, ticket: flight.Ticket) -> flight.FlightDataStream:
        """Stream what a ticket permits."""
        body = self._tickets.redeem(call.principal, ticket.ticket)
        self._streams.check_key(body.key_id)
        read = self._reads.open(call.principal, body.command, stored_arrays(body), body.encoding)
        batches = self._streams.batches(call, context, read.batches, ahead=not read.reads_ahead)
        return flight.GeneratorStream(read.schema, batches)

    @handler
    def do_put(
        self,
        call: Call,
        context: Any,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """Store blocks of an upload session, or a measurement table."""
        command = self._command(descriptor)
        kind = command.WhichOneof("kind")
        with self._streams.slot(call, context, patience=UPLOAD_PATIENCE, wait_s=UPLOAD_WAIT_S) as watched:
            batches = self._received(call, context, reader, watched)
            if kind == "upload_put":
                put_upload(
                    self._services,
                    call.principal,
                    command.upload_put,
                    batches,
                    lambda blocks: _tell(writer, flight_pb2.UploadPutResult(blocks=blocks)),
                )
            elif kind == "table_put":
                put = command.table_put
                rows = put.rows if put.HasField("rows") else None
                values = decode_row(put.values)
                record = put_table(self._services, call.principal, values, reader.schema, batches, rows)
                _tell(writer, flight_pb2.TablePutResult(record=encode_record(record).SerializeToString()))
            else:
                raise InvalidArgumentError(
                    "The descriptor's command takes upload_put or table_put here.",
                    reason="COMMAND_INVALID",
                    field="command",
                )

    @handler
    def do_exchange(
        self,
        call: Call,
        context: Any,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.MetadataRecordBatchWriter,
    ) -> None:
        """Serve a tile channel."""
        if self._command(descriptor).WhichOneof("kind") != "tile_channel":
            raise InvalidArgumentError(
                "The descriptor's command takes tile_channel here.", reason="COMMAND_INVALID", field="command"
            )
        with self._streams.channel(call, context) as place:
            TileChannel(call, Tiles(self._services.arrays, call.principal), reader, writer, place).serve()

    @handler
    def list_actions(self, call: Call, context: Any) -> list[tuple[str, str]]:
        """List the actions."""
        return list(_ACTIONS)

    @handler
    def do_action(self, call: Call, context: Any, action: flight.Action) -> list[flight.Result]:
        """Answer an action."""
        if action.type != HEALTH:
            raise UnsupportedError(f"There is no action {action.type[:200]!r}.", reason="METHOD_UNKNOWN")
        return [flight.Result(pa.py_buffer(b"SERVING"))]

    def _read(self, call: Call, context: Any, descriptor: flight.FlightDescriptor) -> Read:
        if descriptor.descriptor_type == flight.DescriptorType.PATH:
            path = tuple(part.decode("utf-8", "replace") for part in descriptor.path)
            return self._reads.open_path(call.principal, path)
        command = self._command(descriptor)
        return self._reads.open(call.principal, command, is_near=is_near(context.peer()))

    def _command(self, descriptor: flight.FlightDescriptor) -> flight_pb2.FlightCommand:
        data = descriptor.command or b"" if descriptor.descriptor_type == flight.DescriptorType.CMD else b""
        if len(data) > MAX_COMMAND:
            raise InvalidArgumentError(
                "The descriptor's command is too long.", reason="COMMAND_INVALID", field="command"
            )
        return parse(flight_pb2.FlightCommand, data, field="command")

    def _received(
        self, call: Call, context: Any, reader: flight.MetadataRecordBatchReader, watched: Watched
    ) -> Iterator[pa.RecordBatch]:
        """Yield the batches of an upload, each checked to be valid Arrow, as long as it may go on."""
        try:
            watched.waits()
            for chunk in reader:
                watched.goes_on()
                self._streams.check(call, context)
                if chunk.data is not None:
                    # Arrow believes the offsets that it receives: lying ones would read memory of others.
                    chunk.data.validate(full=True)
                    call.size_bytes += chunk.data.nbytes
                    yield chunk.data
                watched.waits()
            watched.goes_on()
        except LarvikError:
            raise
        except (pa.ArrowException, flight.FlightError, OSError):
            self._streams.check(call, context)
            raise InvalidArgumentError(
                "The stream does not hold the Arrow record batches of its schema.",
                reason="MESSAGE_MALFORMED",
                field="stream",
            ) from None
        # A caller who went away in mid-stream looks like one who has sent everything.
        self._streams.check(call, context)


def _tell(writer: flight.FlightMetadataWriter, answer: Message) -> None:
    try:
        writer.write(answer.SerializeToString())
    except OSError:
        raise CallCancelledError("The caller is gone.") from None
