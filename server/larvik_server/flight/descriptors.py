"""The unix socket of the encoding `store`: descriptors of stored objects, for clients on this host."""

from __future__ import annotations

import logging
import secrets
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from larvik.errors import (
    InvalidArgumentError,
    PermissionDeniedError,
    ResourceExhaustedError,
    SelectionError,
    UnauthenticatedError,
)
from larvik.ids import new_id
from larvik.proto.v1 import flight_pb2
from larvik.services.arrays import ArrayService, StoredArray
from larvik.services.identity import IdentityService
from larvik.services.principal import READ, Principal
from larvik.services.stored_objects import StoredObjects, StoredRegion
from larvik.wire.expressions import decode_expressions
from larvik.wire.objects import MAX_OBJECTS, BrokenSocketError, close, receive, send
from larvik.wire.status import encode_status, presentable
from larvik_server.access import RevokedKeys
from larvik_server.flight.tickets import Tickets, stored_arrays

log = logging.getLogger(__name__)

#: Most clients that are connected at once.
CLIENTS = 128
#: How long a client may take for its first message and for each answer, and be silent in between, in seconds.
BUSY_S = 5.0
IDLE_S = 600.0


@dataclass(frozen=True, slots=True)
class Permitted:
    """What a ticket lets its owner have.

    Attributes
    ----------
    key_id, expires_at
        Of the ticket; the latter in POSIX seconds.
    array : StoredArray
        Which array.
    objects : StoredObjects
        Of the level.
    grid : tuple of range
        The objects that the selection touches, per dim.
    """

    key_id: str
    expires_at: float
    array: StoredArray
    objects: StoredObjects
    grid: tuple[range, ...]


class DescriptorServer:
    """Listens on an abstract unix socket, which has a name and no file.

    Any process of this host may connect; each shows a token and a ticket, as it would to DoGet.

    Parameters
    ----------
    identity, revoked : IdentityService, RevokedKeys
        Know tokens.
    tickets : Tickets
        Redeems tickets.
    arrays : ArrayService
        Opens objects.
    clients : int
        Most that are connected at once.
    """

    def __init__(
        self,
        identity: IdentityService,
        revoked: RevokedKeys,
        tickets: Tickets,
        arrays: ArrayService,
        *,
        clients: int = CLIENTS,
    ) -> None:
        self.name = f"larvik-{secrets.token_hex(16)}"
        self.identity = identity
        self.revoked = revoked
        self.tickets = tickets
        self.arrays = arrays
        self._places = threading.Semaphore(clients)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(f"\0{self.name}")
        self._socket.listen(clients)
        threading.Thread(target=self._accept, name="descriptors", daemon=True).start()

    @staticmethod
    def is_possible() -> bool:
        """Whether this system has such sockets."""
        return sys.platform.startswith("linux")

    def stop(self) -> None:
        """Take no more clients; idempotent."""
        with suppress(OSError):  # wakes who waits for the next client; closing alone does not
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # stopped
            is_full = not self._places.acquire(blocking=False)
            threading.Thread(target=self._serve, args=(connection, is_full), daemon=True).start()

    def _serve(self, connection: socket.socket, is_full: bool) -> None:
        client = _Client(self, is_full)
        connection.settimeout(BUSY_S)
        try:
            with connection:
                while (asked := receive(connection, flight_pb2.ObjectsRequest)) is not None:
                    request, unwanted = asked
                    close(unwanted)
                    connection.settimeout(BUSY_S)
                    goes_on = client.answer(connection, request)
                    if not goes_on:
                        break
                    connection.settimeout(IDLE_S)
        except BrokenSocketError as error:
            client.problem = str(error)
        finally:
            if not is_full:
                self._places.release()
            client.log()


class _Client:
    """One connection: whose, by which ticket, and what it was given."""

    def __init__(self, server: DescriptorServer, is_full: bool) -> None:
        self._server = server
        self._is_full = is_full
        self._principal: Principal | None = None
        self._permitted: Permitted | None = None
        self._began = time.perf_counter()
        self._request_id = new_id()
        self._given = 0
        self.problem = ""

    def answer(self, connection: socket.socket, request: flight_pb2.ObjectsRequest) -> bool:
        """Answer a request; return whether another may come."""
        reply = flight_pb2.ObjectsReply()
        found: list[int | None] = []
        try:
            try:
                self._open(request, found)
                reply.stored.extend(item is not None for item in found)
                descriptors = [item for item in found if item is not None]
            except Exception as error:  # of any kind: shown as the call of another method shows it
                shown = presentable(error, self._request_id)
                self.problem = shown.reason
                reply.status = encode_status(shown).SerializeToString()
                descriptors = []
            send(connection, reply, descriptors)
            self._given += len(descriptors)
        finally:
            close([item for item in found if item is not None])
        return self._permitted is not None

    def _open(self, request: flight_pb2.ObjectsRequest, found: list[int | None]) -> None:
        """Add the descriptors of a request to `found`, None for what is not stored."""
        permitted = self._admit(request)
        if len(request.objects) > MAX_OBJECTS:
            raise InvalidArgumentError(
                f"A request names at most {MAX_OBJECTS} objects.", reason="LIMIT_EXCEEDED", field="objects"
            )
        for wanted in request.objects:
            shard = tuple(wanted.shard)
            if len(shard) != len(permitted.grid) or any(
                number not in numbers for number, numbers in zip(shard, permitted.grid, strict=True)
            ):
                raise SelectionError("The ticket's selection does not touch this object.", field="objects")
            found.append(permitted.objects.open(shard))

    def _admit(self, request: flight_pb2.ObjectsRequest) -> Permitted:
        """Return what the client may have now."""
        server = self._server
        if self._is_full:
            raise ResourceExhaustedError(
                "Too many clients read stored objects. Retry in a second.",
                reason="STREAMS_EXHAUSTED",
                retry_after_s=1,
            )
        if request.token or self._principal is None:
            self._principal, self._permitted = None, None
            principal = server.identity.authenticate(request.token)
            principal.require(READ)
            self._principal = principal
        server.revoked.check(self._principal.key_id)
        if request.ticket or self._permitted is None:
            self._permitted = None
            self._permitted = self._redeem(self._principal, request.ticket)
        server.revoked.check(self._permitted.key_id)
        if time.time() >= self._permitted.expires_at:
            raise UnauthenticatedError(
                "The ticket has expired. Ask GetFlightInfo for another.", reason="TICKET_EXPIRED"
            )
        server.arrays.check_unchanged(self._permitted.array)
        return self._permitted

    def _redeem(self, principal: Principal, ticket: bytes) -> Permitted:
        body = self._server.tickets.redeem(principal, ticket)
        if body.encoding != flight_pb2.ENCODING_STORE:
            raise PermissionDeniedError(
                "The ticket is not for stored objects: it is redeemed by DoGet.", reason="TICKET_FOREIGN"
            )
        (expression,) = decode_expressions(body.command.array_read.expression)
        region = StoredRegion.of(expression)
        assert region is not None
        array = stored_arrays(body)[region.source.array_id]
        objects = self._server.arrays.objects(array, region.source.level)
        expires_at = body.expires_at.ToMilliseconds() / 1000
        return Permitted(body.key_id, expires_at, array, objects, region.shards(objects.metadata.shards))

    def log(self) -> None:
        """Write the connection's line."""
        log.info(
            "objects.finished",
            extra={
                "subject": self._principal.subject_id if self._principal is not None else "",
                "objects": self._given,
                "reason": self.problem,
                "duration_ms": round((time.perf_counter() - self._began) * 1000, 3),
                "request_id": self._request_id,
            },
        )
