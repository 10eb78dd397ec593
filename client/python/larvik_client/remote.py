"""Connections to a server: what ``larvik.connect("larvik://...")`` opens."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from larvik.errors import UnauthenticatedError
from larvik.proto.v1 import catalog_pb2
from larvik.schema import Registry
from larvik.wire.records import decode_registry
from larvik_client.address import parse_address, read_certificates
from larvik_client.arrays import RemoteArrays
from larvik_client.catalog import RemoteCatalog
from larvik_client.channel import TIMEOUT_S, Channel, Credentials
from larvik_client.flight import FlightSession

if TYPE_CHECKING:
    from larvik.connection import Arrays, Catalog
    from larvik.models.array import LarvikArray
    from larvik.models.base import Model
    from larvik.storage.zarr_store import ReadOnlyStore


class RemoteConnection:
    """`larvik.connection.Connection` of a server. Thread-safe.

    Attributes
    ----------
    url : str
        Normal form of the address, without a token.
    registry : Registry
        The models that the server knows.
    server_version : str
        Version of the server.
    features : frozenset of str
        What the server can do beyond the first version.
    scopes : frozenset of str
        What the token allows.

    Notes
    -----
    A forked child opens a channel of its own when it first asks for rows; pixels and tables it can read only
    when its parent had not (``PROCESS_FORKED``).
    """

    registry: Registry
    catalog: Catalog
    arrays: Arrays

    def __init__(self, channel: Channel, *, tune_malloc: bool = True) -> None:
        self._channel = channel
        self._flight = FlightSession(channel, lambda: self._flight_url, tune_malloc=tune_malloc)
        described = channel.call(channel.catalog.Describe, catalog_pb2.DescribeRequest(), idempotent=True)
        self._flight_url = channel.address.flight_url(described.flight_url)
        self._tile_urls = list(described.tile_urls)
        self._lanes: dict[str, FlightSession] = {}
        self.url = channel.address.url
        self.server_version = described.version
        self.features = frozenset(described.features)
        self.scopes = frozenset(described.scopes)
        self.subject_id = described.subject_id
        self.registry = decode_registry(described.models)
        if "tiles" in self.features:
            self._flight.lanes = self._tile_lanes
        self.catalog = RemoteCatalog(channel, self._flight)
        self.arrays = RemoteArrays(channel, self._flight)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._channel.is_closed

    def model(self, name: str) -> type[Model]:
        """Return the class of a model by name; a generic read-only one when its package is not here."""
        from larvik.models.generic import model_class

        return model_class(name, self.registry)

    def store(self, row: LarvikArray, *, level: int | None = None) -> ReadOnlyStore:
        """Return the array of `row` as a read-only Zarr store."""
        from larvik.storage.connected import open_store

        return open_store(row, self.arrays.evaluator, level)

    def close(self) -> None:
        """Close the channels; idempotent."""
        for session in (self._flight, *self._lanes.values()):
            session.close()
        self._channel.close()

    def _tile_lanes(self) -> list[FlightSession]:
        """Return sessions to the processes for tiles; the server may have come to have some since."""
        if not self._tile_urls:
            channel = self._channel
            described = channel.call(channel.catalog.Describe, catalog_pb2.DescribeRequest())
            self._tile_urls = list(described.tile_urls)
        return [self._lane(self._channel.address.flight_url(url)) for url in self._tile_urls]

    def _lane(self, url: str) -> FlightSession:
        if url not in self._lanes:
            self._lanes[url] = FlightSession(self._channel, lambda: url)
        return self._lanes[url]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<connection to {self.url}>"


def connect(
    url: str,
    token: str | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    ca: str | os.PathLike[str] | None = None,
    tls: bool | None = None,
    tune_malloc: bool = True,
) -> RemoteConnection:
    """Connect to a server.

    Parameters
    ----------
    url : str
        ``larvik://host[:port]`` (TLS except on the loopback) or ``larvik+insecure://host[:port]``.
    token : str
        Access token or API key.
    timeout_s : float
        Deadline of every call that is not a stream, in seconds.
    ca : path, optional
        PEM certificates that the server is checked against, instead of the system's.
    tls : bool, optional
        Overrides what the URL implies.
    tune_malloc : bool
        Whether reading pixels may ask glibc to keep up to 64 MiB of freed memory, which halves what a read
        costs.

    Raises
    ------
    InvalidArgumentError
        ``URL_INVALID``.
    UnauthenticatedError
        ``TOKEN_MISSING`` or ``TOKEN_INVALID``.
    UnavailableError
        ``SERVER_UNREACHABLE``.
    """
    address = parse_address(url, tls=tls)
    if not token:
        raise UnauthenticatedError(
            f"{address.url} needs a token: larvik.connect(url, token=...), LARVIK_TOKEN or a profile.",
            reason="TOKEN_MISSING",
        )
    if not (token.isascii() and token.isprintable()):
        raise UnauthenticatedError(
            "The token has characters that no token has. Copy it again.", reason="TOKEN_INVALID"
        )
    _load_flight()
    channel = Channel(address, Credentials(token, read_certificates(ca)), timeout_s)
    try:
        return RemoteConnection(channel, tune_malloc=tune_malloc)
    except BaseException:
        channel.close()
        raise


_loading: threading.Thread | None = None


def _load_flight() -> None:
    """Load the library that pixels and tables need while the server answers."""
    global _loading
    if _loading is None:
        _loading = threading.Thread(target=_import_flight, name="larvik-load", daemon=True)
        _loading.start()


def _import_flight() -> None:
    import pyarrow.flight  # noqa: F401


def _before_fork() -> None:
    """Let the loading end: a child would wait for ever for the import that its parent's thread was doing."""
    if _loading is not None and _loading is not threading.current_thread():
        _loading.join()


os.register_at_fork(before=_before_fork)
