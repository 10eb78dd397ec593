"""Tickets are redeemed by whom they were made for, in time, and unaltered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.array.spec import ArraySpec, Axis, Level
from larvik.errors import LarvikError, PermissionDeniedError, UnauthenticatedError
from larvik.proto.v1 import flight_pb2
from larvik.services.arrays import StoredArray
from larvik.services.principal import Principal
from larvik_server.flight.tickets import MAX_COMMAND, Tickets, stored_arrays

ANNA = Principal("anna", "Anna", "user", frozenset({"read"}), "key-1")
SPEC = ArraySpec((Axis("x", "space"),), "uint8", (Level("0", (4,), (2,), (4,), (1.0,), (0.0,)),))
ARRAYS = (
    StoredArray("a", 1, "arrays/aa/a.ome.zarr", SPEC),
    StoredArray("b", 2, "registered:1/b", SPEC, "print"),
)


def command() -> flight_pb2.FlightCommand:
    found = flight_pb2.FlightCommand()
    found.table_read.query.model = "Sample"
    return found


def tickets(lifetime_s: int = 60, secret: bytes = b"secret") -> Tickets:
    return Tickets(secret, lifetime_s)


def test_a_ticket_gives_back_what_it_was_made_for():
    ticket, _ = tickets().issue(ANNA, command(), ARRAYS)
    body = tickets().redeem(ANNA, ticket)
    assert body.command == command()
    assert stored_arrays(body) == {array.id: array for array in ARRAYS}
    assert body.key_id == "key-1"


def test_a_ticket_with_any_bit_flipped_is_refused():
    ticket, _ = tickets().issue(ANNA, command())
    for position in range(8 * len(ticket)):
        altered = bytearray(ticket)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(UnauthenticatedError) as caught:
            tickets().redeem(ANNA, bytes(altered))
        assert caught.value.reason == "TICKET_INVALID"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_by_an_error_of_ours(data):
    with pytest.raises(LarvikError):
        tickets().redeem(ANNA, data)


def test_bytes_after_a_ticket_are_refused():
    ticket, _ = tickets().issue(ANNA, command())
    with pytest.raises(UnauthenticatedError):
        tickets().redeem(ANNA, ticket + b"\x1a\x00")


def test_a_ticket_holds_the_largest_command():
    large = flight_pb2.FlightCommand()
    large.array_read.expression.nodes.add().constant.tensor.data = bytes(MAX_COMMAND)
    ticket, _ = tickets().issue(ANNA, large, ARRAYS)
    assert tickets().redeem(ANNA, ticket).command == large


def test_a_ticket_ends():
    ticket, _ = tickets(lifetime_s=-1).issue(ANNA, command())
    with pytest.raises(UnauthenticatedError) as caught:
        tickets().redeem(ANNA, ticket)
    assert caught.value.reason == "TICKET_EXPIRED"


def test_a_ticket_of_somebody_else_is_refused():
    ticket, _ = tickets().issue(ANNA, command())
    with pytest.raises(PermissionDeniedError):
        tickets().redeem(replace(ANNA, subject_id="bert"), ticket)


def test_a_ticket_of_another_server_is_refused():
    ticket, _ = tickets(secret=b"other").issue(ANNA, command())
    with pytest.raises(UnauthenticatedError):
        tickets().redeem(ANNA, ticket)
