"""The encoding `store`, seen from the client: descriptors of stored objects, from a socket of the server."""

from __future__ import annotations

import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING

from larvik.errors import LarvikError, UnauthenticatedError
from larvik.proto.v1 import flight_pb2
from larvik.storage.base import ByteRange
from larvik.storage.local import read_range
from larvik.storage.zarr_metadata import ArrayMetadata
from larvik.wire.objects import MAX_OBJECTS, BrokenSocketError, receive, send
from larvik.wire.status import decode_details
from larvik_client.objects import Index, LevelObjects

if TYPE_CHECKING:
    from larvik_client.flight import Offer

#: How long the server may take to answer, in seconds.
ANSWER_S = 30.0
#: Most descriptors that are kept open.
KEPT_DESCRIPTORS = 256


class Descriptor:
    """An open file; closed when nobody reads from it any more."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class ObjectSocket:
    """The connection to the socket of one server. Thread-safe; a forked child makes its own.

    Parameters
    ----------
    token : str
        The bearer token.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._lock = threading.Lock()
        self._pid = 0
        self._name = ""
        self._socket: socket.socket | None = None
        self._shown = b""

    def renew_locks(self) -> None:
        """Forget a lock that a thread of the parent process may hold."""
        self._lock = threading.Lock()

    def ask(self, name: str, ticket: bytes, shards: Sequence[Index]) -> list[Descriptor | None]:
        """Return descriptors of stored objects, None for each that is not stored.

        Parameters
        ----------
        name : str
            Of the socket.
        ticket : bytes
            That allows it.
        shards : sequence of tuple of int
            At most `MAX_OBJECTS`; none checks the ticket alone.

        Raises
        ------
        BrokenSocketError
            When nobody answers there.
        LarvikError
            What the server says.
        """
        with self._lock:
            try:
                return self._ask(name, ticket, shards)
            except BrokenSocketError:
                self._drop()
                return self._ask(name, ticket, shards)  # the server may have hung up on a silent client
            except LarvikError:
                self._shown = b""
                raise
            except BaseException:
                self._drop()  # in the middle of an answer
                raise

    def close(self) -> None:
        """Hang up; idempotent."""
        with self._lock:
            self._drop()

    def _ask(self, name: str, ticket: bytes, shards: Sequence[Index]) -> list[Descriptor | None]:
        request = flight_pb2.ObjectsRequest()
        connection = self._connected(name, request)
        if self._shown != ticket:
            request.ticket = ticket
            self._shown = b""
        for shard in shards:
            request.objects.add(shard=shard)
        send(connection, request)
        answer = receive(connection, flight_pb2.ObjectsReply)
        if answer is None:
            raise BrokenSocketError("the server hung up")
        reply, numbers = answer
        descriptors = iter([Descriptor(number) for number in numbers])
        if reply.status:
            refused = decode_details(reply.status)
            raise refused if refused is not None else BrokenSocketError("an answer that nobody understands")
        self._shown = ticket
        found = [next(descriptors, None) if is_stored else None for is_stored in reply.stored]
        if len(numbers) != sum(reply.stored) or len(found) != len(shards):
            raise BrokenSocketError("not what was asked for")
        return found

    def _connected(self, name: str, request: flight_pb2.ObjectsRequest) -> socket.socket:
        if self._socket is not None and self._pid == os.getpid() and self._name == name:
            return self._socket
        self._drop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(ANSWER_S)
            connection.connect(f"\0{name}")
        except OSError as error:
            connection.close()
            raise BrokenSocketError(str(error)) from error
        self._socket, self._pid, self._name = connection, os.getpid(), name
        request.token = self._token
        return connection

    def _drop(self) -> None:
        """Close the connection; a child's copy of its parent's is closed too, which does not end that."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._shown = None, b""


class DescriptorCache:
    """Descriptors of the objects that were used last. Thread-safe."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[object, Index], Descriptor | None] = OrderedDict()
        self._lock = threading.Lock()

    def renew_locks(self) -> None:
        """Forget a lock that a thread of the parent process may hold."""
        self._lock = threading.Lock()

    def find(self, level: object, shards: Sequence[Index]) -> dict[Index, Descriptor | None]:
        """Return those of the objects of a level that are kept."""
        with self._lock:
            found = {shard: self._kept[level, shard] for shard in shards if (level, shard) in self._kept}
            for shard in found:
                self._kept.move_to_end((level, shard))
            return found

    def keep(self, level: object, found: dict[Index, Descriptor | None]) -> None:
        """Keep descriptors; those that were not used for longest go."""
        with self._lock:
            self._kept.update({(level, shard): descriptor for shard, descriptor in found.items()})
            if self._most is None:
                self._most = _room()
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


def _room() -> int:
    """Return how many descriptors may be kept of those that this process may have."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return KEPT_DESCRIPTORS if limit < 0 else min(KEPT_DESCRIPTORS, max(8, limit // 8))


class DescriptorObjects(LevelObjects):
    """The objects of one level by descriptors that the server passes.

    Parameters
    ----------
    name, metadata
        As of `LevelObjects`.
    offer : Offer
        From GetFlightInfo, for the whole level.
    renew : callable
        Makes another offer: tickets expire, and sockets go with their process.
    connection, cache : ObjectSocket, DescriptorCache
        Of the client.
    """

    def __init__(
        self,
        name: str,
        metadata: ArrayMetadata,
        offer: Offer,
        renew: Callable[[], Offer],
        connection: ObjectSocket,
        cache: DescriptorCache,
    ) -> None:
        super().__init__(name, metadata)
        self._offer = offer
        self._renew = renew
        self._connection = connection
        self._cache = cache

    def check(self, selection: tuple[slice, ...]) -> None:
        """Ask whether this may still be read, and for the first objects of a selection with the same call."""
        first = list(islice(self.shards(selection), MAX_OBJECTS))
        known = self._cache.find(self, first)
        self._cache.keep(self, self._asked([shard for shard in first if shard not in known]))

    def read_many(self, requests: Sequence[ByteRange]) -> list[bytes | None]:
        """Return the bytes of each request, None where there is no object."""
        grouped = [(self.shard_of(key), list(group)) for key, group in groupby(requests, lambda r: r.key)]
        found = self._found([shard for shard, _ in grouped])
        answers: list[bytes | None] = []
        for shard, group in grouped:
            descriptor = found[shard]
            if descriptor is None:
                answers += [None] * len(group)
            else:
                answers += [read_range(descriptor.number, request) for request in group]
        return answers

    def _found(self, shards: Sequence[Index]) -> dict[Index, Descriptor | None]:
        found = self._cache.find(self, shards)
        missing = iter(dict.fromkeys(shard for shard in shards if shard not in found))
        while some := list(islice(missing, MAX_OBJECTS)):
            more = self._asked(some)
            self._cache.keep(self, more)
            found.update(more)
        return found

    def _asked(self, shards: Sequence[Index]) -> dict[Index, Descriptor | None]:
        offer = self._offer
        try:
            answer = self._connection.ask(offer.plan.socket, offer.ticket.ticket, shards)
        except (BrokenSocketError, UnauthenticatedError) as error:
            if isinstance(error, UnauthenticatedError) and error.reason != "TICKET_EXPIRED":
                raise
            offer = self._offer = self._renew()
            answer = self._connection.ask(offer.plan.socket, offer.ticket.ticket, shards)
        return dict(zip(shards, answer, strict=True))
