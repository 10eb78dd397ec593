"""Hostile bytes in any descriptor, ticket, message or stream give an error of ours; the server goes on."""

from __future__ import annotations

import json
import re
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from larvik.array.expression import Source
from larvik.array.spec import ArraySpec, Level, default_axis
from larvik.errors import InvalidArgumentError, LarvikError, NotFoundError, UnauthenticatedError
from larvik.ids import new_id
from larvik.proto.v1 import catalog_pb2, flight_pb2, query_pb2
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Query
from larvik.wire.boxes import encode_block, upload_schema
from larvik.wire.expressions import encode_expressions
from larvik.wire.status import DETAILS_KEY, decode_details, decode_flight
from larvik.wire.values import write_row
from larvik_client.flight import FlightSession

ROOT = Path(__file__).parents[3]
LEAKS = re.compile(rf"Traceback|File \"|{re.escape(str(ROOT))}/|/tmp/|site-packages|larvik_server[./]")


@pytest.fixture
def client(server):
    with flight.FlightClient(server.flight_url) as opened:
        yield opened


@pytest.fixture
def options(server):
    return flight.FlightCallOptions(
        timeout=30, headers=[(b"authorization", f"Bearer {server.token}".encode())]
    )


def refused(call: Any) -> LarvikError:
    """Return the error of ours that a Flight call gives; it shows nothing of the server."""
    with pytest.raises(pa.ArrowException) as caught:
        call()
    assert caught.value.extra_info, f"no details: {caught.value}"
    assert not LEAKS.search(str(caught.value)), caught.value
    return decode_flight(caught.value)


def of(command: bytes) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(command)


COMMANDS = {
    "empty": b"",
    "no message": b"\xff" * 50,
    "upload": flight_pb2.FlightCommand(upload_put=flight_pb2.UploadPut(upload_id="x")).SerializeToString(),
    "no expression": flight_pb2.FlightCommand(array_read=flight_pb2.ArrayRead()).SerializeToString(),
    "no query": flight_pb2.FlightCommand(table_read=flight_pb2.TableRead()).SerializeToString(),
    "bad id": flight_pb2.FlightCommand(
        measurement_read=flight_pb2.MeasurementRead(table_id="../../etc/passwd")
    ).SerializeToString(),
    "unknown encoding": flight_pb2.FlightCommand(
        array_read=flight_pb2.ArrayRead(accept_encodings=[99])  # type: ignore[list-item]
    ).SerializeToString(),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_malformed_command_is_refused(client, options, command):
    assert isinstance(refused(lambda: client.get_flight_info(of(command), options)), InvalidArgumentError)
    # pyarrow's client drops the trailers of this one method, and its server would send a traceback.
    with pytest.raises((OSError, pa.ArrowException)) as caught:
        client.get_schema(of(command), options)
    assert not LEAKS.search(str(caught.value))


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("arrays",),
        ("arrays", "x"),
        ("arrays", "a\0b"),
        ("nope", "x"),
        ("models", "Nope"),
        ("arrays", "x" * 100_000),
    ],
)
def test_a_malformed_path_is_refused(client, options, path):
    error = refused(lambda: client.get_flight_info(flight.FlightDescriptor.for_path(*path), options))
    assert isinstance(error, InvalidArgumentError | NotFoundError)


def test_an_array_that_does_not_exist_is_not_found(client, options):
    path = flight.FlightDescriptor.for_path("arrays", new_id())
    assert refused(lambda: client.get_flight_info(path, options)).reason == "ARRAY_NOT_FOUND"


def test_criteria_that_mean_nothing_are_refused(client, options):
    assert refused(lambda: list(client.list_flights(b"\xff", options))).reason == "CRITERIA_INVALID"


def test_a_source_that_claims_another_shape_is_refused(client, options, stored):
    source = Source(stored.array_id, 1, 0, (10**6, 10**6), "uint16", (1000, 1000))
    command = flight_pb2.FlightCommand()
    command.array_read.expression.CopyFrom(encode_expressions([source]))
    error = refused(lambda: client.get_flight_info(of(command.SerializeToString()), options))
    assert error.reason == "EXPRESSION_INVALID"


@settings(max_examples=40)
@given(data=st.binary(max_size=300))
def test_any_bytes_as_ticket_are_refused(server, data):
    headers = [(b"authorization", f"Bearer {server.token}".encode())]
    with flight.FlightClient(server.flight_url) as client:
        error = refused(
            lambda: client.do_get(flight.Ticket(data), flight.FlightCallOptions(headers=headers)).read_all()
        )
    assert isinstance(error, UnauthenticatedError)


def test_a_ticket_with_flipped_bits_is_refused(client, options, stored):
    info = client.get_flight_info(flight.FlightDescriptor.for_path("arrays", stored.array_id), options)
    ticket = info.endpoints[0].ticket.ticket
    for position in range(0, 8 * len(ticket), 97):
        altered = bytearray(ticket)
        altered[position // 8] ^= 1 << position % 8
        error = refused(lambda data=bytes(altered): client.do_get(flight.Ticket(data), options).read_all())
        assert isinstance(error, UnauthenticatedError)


def test_a_ticket_is_for_whom_it_was_made(client, options, server, stored):
    info = client.get_flight_info(flight.FlightDescriptor.for_path("arrays", stored.array_id), options)
    other = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {server.reader_token}".encode())])
    error = refused(lambda: client.do_get(info.endpoints[0].ticket, other).read_all())
    assert error.reason == "TICKET_FOREIGN"


def upload_command(upload_id: str) -> flight.FlightDescriptor:
    return of(
        flight_pb2.FlightCommand(upload_put=flight_pb2.UploadPut(upload_id=upload_id)).SerializeToString()
    )


def sent(client, options, descriptor, schema, batches) -> None:
    writer, reader = client.do_put(descriptor, schema, options)
    try:
        for batch in batches:
            writer.write_batch(batch)
        writer.done_writing()
        reader.read()
    finally:
        writer.close()


def test_blocks_of_no_session_are_refused(client, options):
    batches = list(encode_block((0, 0), np.zeros((2, 2), "uint8")))
    error = refused(lambda: sent(client, options, upload_command(new_id()), upload_schema(2), batches))
    assert error.reason == "UPLOAD_NOT_FOUND"


def test_a_stream_of_other_columns_is_refused_and_the_session_stays(client, options, connection, stored):
    session = connection.arrays.begin("Representation", {"id": new_id(), "name": "x"}, stored.spec, {})
    other = pa.record_batch([[1]], names=["a"])
    error = refused(lambda: sent(client, options, upload_command(session.id), other.schema, [other]))
    assert error.reason == "BLOCK_INVALID"
    outside = list(encode_block((0, 0, 0, 0, 10**6), np.zeros((1, 1, 1, 1, 1), "uint16")))
    error = refused(lambda: sent(client, options, upload_command(session.id), upload_schema(5), outside))
    assert error.reason == "BLOCK_INVALID"
    connection.arrays.abort(session)


def lying(batch: pa.RecordBatch, size: int, claimed: int) -> pa.RecordBatch:
    """Return a batch whose one value of `size` bytes claims to be longer than its buffer."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    raw = sink.getvalue().to_pybytes()
    lie = raw.replace(struct.pack("<qq", 0, size), struct.pack("<qq", 0, claimed))
    assert lie != raw
    return pa.ipc.open_stream(lie).read_next_batch()


def test_offsets_that_leave_their_buffer_are_refused(client, options, connection):
    level = Level("0", (1, 8192), (1, 8192), (1, 8192), (1.0, 1.0), (0.0, 0.0))
    spec = ArraySpec((default_axis("y"), default_axis("x")), "uint8", (level,))
    session = connection.arrays.begin("Representation", {"id": new_id(), "name": "x"}, spec, {})
    box = pa.record_batch([[b"7" * 77], [[0, 0]], [[1, 8192]]], schema=upload_schema(2))
    batch = lying(box, 77, 8192)
    error = refused(lambda: sent(client, options, upload_command(session.id), batch.schema, [batch]))
    assert error.reason == "MESSAGE_MALFORMED"
    connection.arrays.abort(session)


def table_command(table_id: str) -> flight.FlightDescriptor:
    command = flight_pb2.FlightCommand()
    write_row(command.table_put.values, {"id": table_id, "name": "rows"})
    return of(command.SerializeToString())


def test_a_table_of_text_that_is_none_is_refused(client, options):
    text = pa.array([b"\xff\xfe"]).view(pa.string())
    batch = pa.RecordBatch.from_arrays([text], names=["name"])
    error = refused(lambda: sent(client, options, table_command(new_id()), batch.schema, [batch]))
    assert error.reason == "MESSAGE_MALFORMED"


def test_a_table_whose_sender_went_away_is_not_stored(server, connection):
    table_id = new_id()
    headers = [(b"authorization", f"Bearer {server.token}".encode()), (b"x-request-id", b"went-away")]
    batch = pa.record_batch({"n": [1, 2, 3]})
    with flight.FlightClient(server.flight_url) as client:
        options = flight.FlightCallOptions(timeout=0.3, headers=headers)
        writer, reader = client.do_put(table_command(table_id), batch.schema, options)
        writer.write_batch(batch)
        assert reader.read() is None
        with suppress(flight.FlightTimedOutError):
            writer.close()
    give_up = time.monotonic() + 30
    while not (lines := [line for line in server.log.splitlines() if "went-away" in line]):
        assert time.monotonic() < give_up
    assert [json.loads(line)["code"] for line in lines] == ["CANCELLED"]
    where = (Compare(("id",), Lookup.EXACT, table_id),)
    assert connection.catalog.count(Query("Table", where=where)) == 0


def test_an_upload_without_all_its_blocks_is_not_committed(connection, stored):
    session = connection.arrays.begin("Representation", {"id": new_id(), "name": "x"}, stored.spec, {})
    with pytest.raises(LarvikError) as caught:
        connection.arrays.commit(session)
    assert caught.value.reason == "ARRAY_INCOMPLETE"
    connection.arrays.abort(session)


def test_a_table_whose_stream_is_given_up_is_not_stored(connection):
    id = new_id()
    batch = pa.record_batch({"n": [1, 2, 3]})
    command = flight_pb2.FlightCommand()
    command.table_put.rows = 6
    write_row(command.table_put.values, {"id": id, "name": "half"})

    def batches():
        yield batch
        raise KeyboardInterrupt

    session = FlightSession(connection.arrays._channel, lambda: connection._flight_url)
    with pytest.raises(KeyboardInterrupt):
        session.put(command, batch.schema, batches())
    session.close()
    with pytest.raises(NotFoundError):
        connection.arrays.read_table(id)
    whole = pa.Table.from_batches([batch, batch])
    connection.arrays.write_table({"id": id, "name": "whole"}, whole)
    assert connection.arrays.read_table(id).num_rows == 6


def call(server, method: str, data: bytes) -> LarvikError | None:
    """Send bytes as the request of a method; return the error, which shows nothing of the server."""
    metadata = (("authorization", f"Bearer {server.token}"),)
    with grpc.insecure_channel(server.url.partition("://")[2]) as channel:
        try:
            channel.unary_unary(f"/larvik.proto.v1.CatalogService/{method}")(
                data, metadata=metadata, timeout=30
            )
        except grpc.RpcError as error:
            failure = error
        else:
            return None
    assert not LEAKS.search(failure.details() or ""), failure.details()
    ours = decode_details(dict(failure.trailing_metadata() or ()).get(DETAILS_KEY, b""))
    assert ours is not None, failure
    return ours


@settings(max_examples=40)
@given(
    data=st.binary(max_size=200), method=st.sampled_from(["QueryRecords", "CreateRecords", "UpdateRecord"])
)
def test_any_bytes_as_request_give_an_answer_or_an_error_of_ours(server, data, method):
    error = call(server, method, data)
    assert error is None or error.reason != "INTERNAL"


TOKENS = ["x", "\0", "x" * 100_000, "eyJhIjoxfQ==", "\U0001f600"]


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: repr(token[:10]))
def test_a_page_token_that_nobody_gave_is_refused(server, token):
    request = catalog_pb2.QueryRecordsRequest(query=query_pb2.Query(model="Sample"), page_token=token)
    assert isinstance(call(server, "QueryRecords", request.SerializeToString()), InvalidArgumentError)


def test_ten_megabytes_of_text_are_refused_by_the_name_of_the_field(connection):
    with pytest.raises(InvalidArgumentError) as caught:
        connection.catalog.create("Experiment", [{"id": new_id(), "name": "x" * 10_000_000}])
    assert caught.value.metadata["field"] == "Experiment.name"


def test_a_message_above_the_limit_is_refused(server):
    error = None
    with grpc.insecure_channel(
        server.url.partition("://")[2], options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        try:
            channel.unary_unary("/larvik.proto.v1.CatalogService/QueryRecords")(
                b"x" * (65 << 20), metadata=(("authorization", f"Bearer {server.token}"),), timeout=60
            )
        except grpc.RpcError as failure:
            error = failure
    assert error is not None
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_server_serves_after_all_of_this(connection, server):
    assert connection.catalog.count(Query("Representation")) >= 0
    assert '"exc_info"' not in server.log
    assert "Traceback" not in server.log
