"""Levels that are read from the stored objects themselves, on the host of the server."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from typing import Any

from numpy.typing import NDArray

from larvik.array.expression import Source
from larvik.errors import InvalidArgumentError
from larvik.proto.v1 import flight_pb2
from larvik.storage.cache import ChunkCache
from larvik.storage.engine import RegionReader
from larvik.wire.objects import BrokenSocketError
from larvik_client.commands import command_of
from larvik_client.descriptors import DescriptorCache, DescriptorObjects, ObjectSocket
from larvik_client.flight import FlightSession, Offer
from larvik_client.forks import renew_after_fork
from larvik_client.objects import name_of
from larvik_client.receiving import level_metadata

#: Most levels that are kept open, and bytes of their decoded chunks.
KEPT_LEVELS = 64
CACHE_BYTES = 64 << 20
#: Most levels that are known not to be had this way.
KNOWN_REFUSED = 4096

_Key = tuple[str, int, int]


class NearLevels:
    """The levels of one server that this client reads by descriptors. Thread-safe.

    Parameters
    ----------
    flight : FlightSession
        To the server.
    """

    def __init__(self, flight: FlightSession) -> None:
        self._flight = flight
        self._socket = ObjectSocket(flight.token)
        self._descriptors = DescriptorCache()
        self._chunks = ChunkCache(CACHE_BYTES)
        self._levels: OrderedDict[_Key, tuple[DescriptorObjects, RegionReader]] = OrderedDict()
        self._refused: OrderedDict[_Key, InvalidArgumentError] = OrderedDict()
        self._lock = threading.Lock()
        self._is_reachable = sys.platform.startswith("linux")
        flight.closing.append(self.close)
        renew_after_fork(self)

    def renew_locks(self) -> None:
        """Forget locks that threads of the parent process may hold."""
        self._lock = threading.Lock()
        self._socket.renew_locks()
        self._descriptors.renew_locks()

    def close(self) -> None:
        """Hang up and close what is kept; idempotent."""
        self._socket.close()
        with self._lock:
            self._levels.clear()
        self._descriptors.clear()

    @property
    def is_possible(self) -> bool:
        """Whether the server is on this host, and its socket has not failed to be reached."""
        return self._is_reachable and self._flight.is_near

    def read(self, source: Source, selection: tuple[slice, ...], out: NDArray[Any]) -> bool:
        """Read a region into `out`; return False when it cannot be had this way."""
        reader = self.reader(source, selection)
        if reader is None:
            return False
        try:
            reader.read(selection, out)
        except BrokenSocketError:
            self._is_reachable = False
            return False
        return True

    def reader(self, source: Source, selection: tuple[slice, ...]) -> RegionReader | None:
        """Return what reads a level, or None when it cannot be had this way.

        The server was asked whether `selection` may be read; its first objects are here.
        """
        if not self.is_possible:
            return None
        try:
            opened = self._opened(source)
            if opened is None:
                return None
            opened[0].check(selection)
        except BrokenSocketError:
            # The server is asked in a moment what its socket is called: that one is not reached from here.
            self._is_reachable = False
            return None
        return opened[1]

    def refusal(self, source: Source) -> InvalidArgumentError:
        """Return why a level is not to be had this way."""
        with self._lock:
            refused = self._refused.get(_key(source))
        return refused or InvalidArgumentError(
            "The encoding `store` is for clients on the server's host; its socket is not reached from here.",
            reason="ENCODING_UNSUPPORTED",
            field="encoding",
        )

    def _opened(self, source: Source) -> tuple[DescriptorObjects, RegionReader] | None:
        key = _key(source)
        with self._lock:
            if key in self._refused:
                return None
            if key in self._levels:
                self._levels.move_to_end(key)
                return self._levels[key]
        try:
            opened = self._open(source)
        except InvalidArgumentError as error:
            if error.reason != "ENCODING_UNSUPPORTED":
                raise
            with self._lock:
                self._refused[key] = error
                while len(self._refused) > KNOWN_REFUSED:
                    self._refused.popitem(last=False)
            return None
        with self._lock:
            self._levels[key] = opened
            while len(self._levels) > KEPT_LEVELS:
                self._levels.popitem(last=False)
        return opened

    def _open(self, source: Source) -> tuple[DescriptorObjects, RegionReader]:
        command = command_of(source, [flight_pb2.ENCODING_STORE])

        def renew() -> Offer:
            return self._flight.offer(command)

        offer, name = renew(), name_of(source)
        metadata = level_metadata(offer.plan.document, name)
        objects = DescriptorObjects(name, metadata, offer, renew, self._socket, self._descriptors)
        return objects, RegionReader(objects, name, metadata, cache=self._chunks)


def _key(source: Source) -> _Key:
    return source.array_id, source.version, source.level
