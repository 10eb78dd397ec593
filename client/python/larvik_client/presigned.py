"""The encoding `refs`, seen from the client: stored objects by presigned addresses, over HTTP."""

from __future__ import annotations

import http.client
import random
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from larvik.errors import UnavailableError
from larvik.storage.base import ByteRange
from larvik.storage.ranges import coalesce
from larvik.storage.zarr_metadata import ArrayMetadata
from larvik_client.forks import renew_after_fork
from larvik_client.objects import Index, LevelObjects

#: Requests at once, attempts of each, and the wait for an answer, in seconds.
CONCURRENT = 16
ATTEMPTS = 3
TIMEOUT_S = 20.0
#: Idle connections to one host that are kept.
KEPT_CONNECTIONS = CONCURRENT

Addresses = Mapping[Index, str | None]


class ExpiredAddressError(Exception):
    """The store does not take an address any more."""


class HttpPool:
    """Connections that are kept open, by host. Thread-safe; a forked child makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inherited: list[object] = []
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = defaultdict(list)
        self._threads: ThreadPoolExecutor | None = None
        renew_after_fork(self)

    def get_many(self, asked: Sequence[tuple[str | None, ByteRange]]) -> list[bytes | None]:
        """Return the bytes of ranges of addresses, concurrently; None for what is not there.

        Raises
        ------
        UnavailableError
            ``STORE_UNREACHABLE``.
        ExpiredAddressError
            When an address was refused.
        """
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(CONCURRENT, "larvik-http")
            threads = self._threads
        if len(asked) == 1:
            return [self._get(*asked[0])]
        return list(threads.map(lambda item: self._get(*item), asked))

    def close(self) -> None:
        """Close what is idle, and have no threads any more; idempotent."""
        with self._lock:
            idle, threads = self._idle, self._threads
            self._idle, self._threads = defaultdict(list), None
        for connections in idle.values():
            for connection in connections:
                connection.close()
        if threads is not None:
            threads.shutdown(wait=False)

    def renew_locks(self) -> None:
        """Forget a lock that a thread of the parent process may hold, and what belongs to the parent."""
        self._lock = threading.Lock()
        self._inherited.append((self._idle, self._threads))  # neither used nor closed here
        self._idle, self._threads = defaultdict(list), None

    def _get(self, url: str | None, part: ByteRange) -> bytes | None:
        if url is None:
            return None
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(0.1 * 2**attempt * random.uniform(0.5, 1.5))
            try:
                status, data = self._ask(url, part)
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
                continue
            if status == 206 or status == 416:
                return data if status == 206 else b""
            if status == 200:
                return _cut(data, part)
            if status == 404:
                return None
            if status in (400, 401, 403):
                raise ExpiredAddressError(f"it answers {status}")
            problem = f"it answers {status}"
        raise UnavailableError(
            f"The object store failed ({problem}). Check that {urlsplit(url).hostname} is reached from here.",
            reason="STORE_UNREACHABLE",
        )

    def _ask(self, url: str, part: ByteRange) -> tuple[int, bytes]:
        parts = urlsplit(url)
        place = (parts.scheme, parts.netloc)
        connection = self._take(place)
        try:
            connection.request("GET", f"{parts.path}?{parts.query}", headers={"Range": _range(part)})
            answer = connection.getresponse()
            data = answer.read()
        except BaseException:
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            self._give_back(place, connection)
        return answer.status, data

    def _take(self, place: tuple[str, str]) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle[place]:
                return self._idle[place].pop()
        scheme, host = place
        if scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, timeout=TIMEOUT_S, context=context)
        return http.client.HTTPConnection(host, timeout=TIMEOUT_S)

    def _give_back(self, place: tuple[str, str], connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle[place]) < KEPT_CONNECTIONS:
                self._idle[place].append(connection)
                return
        connection.close()


class PresignedObjects(LevelObjects):
    """The objects of a selection of one level, by addresses that the server signed.

    Parameters
    ----------
    name, metadata
        As of `LevelObjects`.
    sign : callable
        Asks the server for the addresses, by index.
    pool : HttpPool
        Of the client.
    """

    batch_bytes = 32 << 20

    def __init__(
        self, name: str, metadata: ArrayMetadata, sign: Callable[[], Addresses], pool: HttpPool
    ) -> None:
        super().__init__(name, metadata)
        self._sign = sign
        self._pool = pool
        self._lock = threading.Lock()
        self._addresses = sign()

    def read_many(self, requests: Sequence[ByteRange]) -> list[bytes | None]:
        """Return the bytes of each request: neighbours in one GET, all GETs concurrently."""
        merged, places = coalesce(requests)
        used = self._addresses
        try:
            answers = self._get(merged, used)
        except ExpiredAddressError:
            try:
                answers = self._get(merged, self._signed_after(used))
            except ExpiredAddressError as error:
                raise UnavailableError(
                    f"The object store refuses the addresses that the server signed: {error}.",
                    reason="STORE_UNREACHABLE",
                ) from None
        return [
            data
            if (data := answers[place.answer]) is None or place.length is None
            else data[place.offset : place.offset + place.length]
            for place in places
        ]

    def _get(self, parts: Sequence[ByteRange], addresses: Addresses) -> list[bytes | None]:
        return self._pool.get_many([(addresses[self.shard_of(part.key)], part) for part in parts])

    def _signed_after(self, used: Addresses) -> Addresses:
        """Return addresses newer than those used; threads that meet the end of their life ask once."""
        with self._lock:
            if self._addresses is used:
                self._addresses = self._sign()
            return self._addresses


def _range(part: ByteRange) -> str:
    if part.start < 0:
        return f"bytes={part.start}"
    return f"bytes={part.start}-" + (str(part.start + max(1, part.length) - 1) if part.length else "")


def _cut(data: bytes, part: ByteRange) -> bytes:
    """Return the range of an object that came whole."""
    start = max(0, len(data) + part.start) if part.start < 0 else part.start
    return data[start:] if part.length is None else data[start : start + part.length]
