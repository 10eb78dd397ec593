"""Every method of both listeners refuses callers without a key, and keys without the scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from larvik.errors import LarvikError, PermissionDeniedError, UnauthenticatedError
from larvik.services.principal import WRITE
from larvik.testing.server import LarvikServer
from larvik.wire.status import DETAILS_KEY, decode_details, decode_flight
from larvik_server.flight.gate import METHODS as FLIGHT_METHODS
from larvik_server.rpc.scopes import METHODS

BAD = {
    "none": (),
    "empty": (("authorization", ""),),
    "no scheme": (("authorization", "lvk_aaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),),
    "unknown": (("authorization", "Bearer lvk_aaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),),
    "long": (("authorization", "Bearer " + "x" * 4000),),
    "basic": (("authorization", "Basic YTpi"),),
}


def grpc_error(
    server: LarvikServer, method: str, metadata: tuple[tuple[str, str], ...], url: str = ""
) -> LarvikError | None:
    """Call a method with an empty request and return the error that it gives, if any."""
    with grpc.insecure_channel((url or server.url).partition("://")[2]) as channel:
        call = channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=20)
        try:
            next(call, None)
        except grpc.RpcError as error:
            failure = error
        else:
            return None
        finally:
            call.cancel()
    ours = decode_details(dict(failure.trailing_metadata() or ()).get(DETAILS_KEY, b""))
    assert ours is not None, f"{method} failed without details: {failure}"
    return ours


def reflected_methods(server: LarvikServer) -> dict[str, str]:
    """Ask the server itself which methods it has, by reflection."""
    found: dict[str, str] = {}
    with grpc.insecure_channel(server.url.partition("://")[2]) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        metadata = (("authorization", f"Bearer {server.token}"),)

        def ask(**question: Any) -> reflection_pb2.ServerReflectionResponse:
            request = reflection_pb2.ServerReflectionRequest(**question)
            return next(stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=20))

        for service in ask(list_services="").list_services_response.service:
            answer = ask(file_containing_symbol=service.name).file_descriptor_response
            for data in answer.file_descriptor_proto:
                file = descriptor_pb2.FileDescriptorProto.FromString(data)
                for declared in file.service:
                    if f"{file.package}.{declared.name}" == service.name:
                        found.update(
                            {f"/{service.name}/{method.name}": service.name for method in declared.method}
                        )
    return found


def test_the_table_has_a_row_for_every_method_that_the_server_has(server):
    methods = set(reflected_methods(server))
    assert len(methods) >= 15
    assert methods <= set(METHODS), "a new method needs a row in larvik_server/rpc/scopes.py"


@pytest.mark.parametrize("metadata", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("method", METHODS)
def test_every_grpc_method_refuses_a_caller_without_a_key(server, method, metadata):
    assert isinstance(grpc_error(server, method, metadata), UnauthenticatedError)


@pytest.mark.parametrize("method", [name for name, scope in METHODS.items() if scope == WRITE])
def test_every_grpc_method_that_writes_refuses_a_key_that_only_reads(server, method):
    error = grpc_error(server, method, (("authorization", f"Bearer {server.reader_token}"),))
    assert isinstance(error, PermissionDeniedError)
    assert error.reason == "SCOPE_MISSING"


def test_an_unknown_method_is_refused_before_it_is_said_to_be_unknown(server):
    assert isinstance(grpc_error(server, "/larvik.proto.v1.CatalogService/Nope", ()), UnauthenticatedError)
    known = grpc_error(
        server, "/larvik.proto.v1.CatalogService/Nope", (("authorization", f"Bearer {server.token}"),)
    )
    assert known is not None
    assert known.reason == "METHOD_UNKNOWN"


SCHEMA = pa.schema([("a", pa.int64())])
PATH = flight.FlightDescriptor.for_path("models", "Sample")


def _put(client: flight.FlightClient, options: flight.FlightCallOptions) -> None:
    writer, reader = client.do_put(flight.FlightDescriptor.for_command(b""), SCHEMA, options)
    writer.done_writing()
    reader.read()
    writer.close()


def _exchange(client: flight.FlightClient, options: flight.FlightCallOptions) -> None:
    writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(b""), options)
    writer.done_writing()
    reader.read_chunk()


CALLS: dict[flight.FlightMethod, Callable[[flight.FlightClient, flight.FlightCallOptions], object]] = {
    flight.FlightMethod.LIST_FLIGHTS: lambda client, options: list(client.list_flights(options=options)),
    flight.FlightMethod.GET_FLIGHT_INFO: lambda client, options: client.get_flight_info(PATH, options),
    flight.FlightMethod.GET_SCHEMA: lambda client, options: client.get_schema(PATH, options),
    flight.FlightMethod.DO_GET: lambda client, options: client.do_get(flight.Ticket(b""), options).read_all(),
    flight.FlightMethod.DO_PUT: _put,
    flight.FlightMethod.DO_ACTION: lambda client, options: list(
        client.do_action("larvik.v1.health", options)
    ),
    flight.FlightMethod.LIST_ACTIONS: lambda client, options: list(client.list_actions(options)),
    flight.FlightMethod.DO_EXCHANGE: _exchange,
}
#: What pyarrow's server has no handler for: its C++ refuses them by itself.
WITHOUT_HANDLER = {"INVALID", "HANDSHAKE", "POLL_FLIGHT_INFO"}


def flight_error(
    server: LarvikServer, method: flight.FlightMethod, headers: tuple[tuple[str, str], ...]
) -> LarvikError | None:
    if method is flight.FlightMethod.GET_SCHEMA:
        # pyarrow's client drops the trailers of this one method.
        return grpc_error(
            server, "/arrow.flight.protocol.FlightService/GetSchema", headers, server.flight_url
        )
    options = flight.FlightCallOptions(
        timeout=20, headers=[(name.encode(), value.encode()) for name, value in headers]
    )
    with flight.FlightClient(server.flight_url) as client, pytest.raises(pa.ArrowException) as caught:
        CALLS[method](client, options)
    assert caught.value.extra_info, f"{method} failed without details: {caught.value}"
    return decode_flight(caught.value)


def test_every_flight_method_is_called_by_these_tests():
    assert {method.name for method in flight.FlightMethod} - {
        method.name for method in CALLS
    } <= WITHOUT_HANDLER


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("method", CALLS, ids=lambda method: method.name)
def test_every_flight_method_refuses_a_caller_without_a_key(server, method, headers):
    assert isinstance(flight_error(server, method, headers), UnauthenticatedError)


@pytest.mark.parametrize(
    "method",
    [method for method in CALLS if FLIGHT_METHODS.get(method, WRITE) == WRITE],
    ids=lambda method: method.name,
)
def test_every_flight_method_that_writes_or_is_not_offered_refuses_a_key_that_only_reads(server, method):
    error = flight_error(server, method, (("authorization", f"Bearer {server.reader_token}"),))
    assert isinstance(error, PermissionDeniedError)


def test_a_handshake_gives_nothing(server):
    with flight.FlightClient(server.flight_url) as client, pytest.raises((pa.ArrowException, OSError)):
        client.authenticate_basic_token("admin", server.token)
