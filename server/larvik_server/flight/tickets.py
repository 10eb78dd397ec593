"""Tickets: signed, short-lived permissions to read, redeemed without asking the database."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping

from larvik.array.spec import ArraySpec
from larvik.errors import PermissionDeniedError, UnauthenticatedError
from larvik.proto.v1 import flight_pb2
from larvik.services.arrays import StoredArray
from larvik.services.principal import Principal
from larvik.wire.messages import parse
from larvik.wire.specs import decode_spec, encode_spec

#: Longest command of a descriptor, in bytes.
MAX_COMMAND = 64 << 20
#: Longest ticket that is looked at, in bytes: it holds a command, and where its arrays are.
MAX_TICKET = 2 * MAX_COMMAND


class Tickets:
    """Makes and checks tickets.

    Parameters
    ----------
    secret : bytes
        Key of the signatures, shared by whoever redeems each other's tickets.
    lifetime_s : int
        Life of a ticket.
    """

    def __init__(self, secret: bytes, lifetime_s: int) -> None:
        self._secret = secret
        self._lifetime_s = lifetime_s

    def issue(
        self,
        principal: Principal,
        command: flight_pb2.FlightCommand,
        arrays: Iterable[StoredArray] = (),
        encoding: flight_pb2.Encoding.ValueType = flight_pb2.ENCODING_UNSPECIFIED,
    ) -> tuple[bytes, float]:
        """Return a ticket for what `command` asks, and when it ends (POSIX seconds)."""
        expires = time.time() + self._lifetime_s
        body = flight_pb2.TicketBody(
            command=command,
            subject_id=principal.subject_id,
            key_id=principal.key_id,
            encoding=encoding,
        )
        body.expires_at.FromMilliseconds(int(expires * 1000))
        for array in arrays:
            body.arrays.add(
                id=array.id,
                version=array.version,
                location=array.location,
                spec=encode_spec(array.spec),
                fingerprint=array.fingerprint,
                stored_bytes=array.stored_bytes,
            )
        data = body.SerializeToString()
        return flight_pb2.SignedTicket(body=data, signature=self._sign(data)).SerializeToString(), expires

    def redeem(self, principal: Principal, ticket: bytes) -> flight_pb2.TicketBody:
        """Return the body of a ticket that `principal` may redeem.

        Raises
        ------
        UnauthenticatedError
            ``TICKET_INVALID`` or ``TICKET_EXPIRED``.
        PermissionDeniedError
            ``TICKET_FOREIGN``, when it was made for somebody else.
        """
        if len(ticket) > MAX_TICKET:
            raise _invalid()
        try:
            signed = flight_pb2.SignedTicket.FromString(ticket)
        except Exception:  # whatever protobuf says of bytes that were never signed here
            raise _invalid() from None
        # Compared as a whole, so that bytes beside the two fields are refused too.
        if not hmac.compare_digest(signed.signature, self._sign(signed.body)) or ticket != _plain(signed):
            raise _invalid()
        body = parse(flight_pb2.TicketBody, signed.body, field="ticket")
        if body.expires_at.ToMilliseconds() <= time.time() * 1000:
            raise UnauthenticatedError(
                "The ticket has expired. Ask GetFlightInfo for another.", reason="TICKET_EXPIRED"
            )
        if body.subject_id != principal.subject_id:
            raise PermissionDeniedError("The ticket was made for somebody else.", reason="TICKET_FOREIGN")
        return body

    def _sign(self, body: bytes) -> bytes:
        return hmac.new(self._secret, body, hashlib.sha256).digest()


def stored_arrays(body: flight_pb2.TicketBody) -> Mapping[str, StoredArray]:
    """Return where the arrays of a redeemed ticket are stored, by id."""
    return {
        array.id: StoredArray(
            array.id,
            array.version,
            array.location,
            _spec(array),
            array.fingerprint if array.HasField("fingerprint") else None,
            array.stored_bytes,
        )
        for array in body.arrays
    }


def _spec(array: flight_pb2.StoredArray) -> ArraySpec:
    return decode_spec(array.spec)


def _plain(signed: flight_pb2.SignedTicket) -> bytes:
    return flight_pb2.SignedTicket(body=signed.body, signature=signed.signature).SerializeToString()


def _invalid() -> UnauthenticatedError:
    return UnauthenticatedError(
        "The ticket is not one that this server gave. Ask GetFlightInfo for one.", reason="TICKET_INVALID"
    )
