"""One gRPC channel to a server: tokens, deadlines, retries, and errors of ours."""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

# Without it a child of fork() inherits a library whose threads are gone, and hangs. Read when grpc is
# imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

import grpc
from google.protobuf.message import Message

from larvik.errors import (
    LarvikError,
    PreconditionError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from larvik.proto.v1.catalog_pb2_grpc import CatalogServiceStub
from larvik.proto.v1.uploads_pb2_grpc import UploadServiceStub
from larvik.wire.status import DETAILS_KEY, decode_details, error_of_code
from larvik_client.address import Address
from larvik_client.forks import renew_after_fork

M = TypeVar("M", bound=Message)
T = TypeVar("T")

#: Deadline of a call that names none, and of commits and imports, in seconds.
TIMEOUT_S = 60.0
LONG_TIMEOUT_S = 6 * 3600.0
#: Most attempts of an idempotent call, the longest pause before the first repeat, and before any, in seconds.
ATTEMPTS = 5
PAUSE_S = 0.2
LONGEST_PAUSE_S = 3.0
#: Largest message that is taken; the server keeps its own below.
MESSAGE_BYTES = 256 << 20

_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Trailers with a whole error in them.
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.absolute_max_metadata_size", 64 << 10),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows a server, and checks it against. Never printed, never pickled."""

    token: str | None
    certificates: bytes | None

    def __repr__(self) -> str:
        return "Credentials(...)"

    def __reduce__(self) -> Any:
        raise TypeError("Tokens are not pickled.")

    @property
    def bearer(self) -> str:
        """The value of the header ``authorization``."""
        return f"Bearer {self.token or ''}"


class Channel:
    """Calls to one server. Thread-safe; a forked child opens a channel of its own."""

    def __init__(self, address: Address, credentials: Credentials, timeout_s: float) -> None:
        self.address = address
        self.credentials = credentials
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._opened: tuple[int, grpc.Channel, CatalogServiceStub, UploadServiceStub] | None = None
        self._inherited: list[Any] = []
        self.is_closed = False
        renew_after_fork(self)

    @property
    def catalog(self) -> CatalogServiceStub:
        """Stub of the catalog."""
        return self._open()[2]

    @property
    def uploads(self) -> UploadServiceStub:
        """Stub of upload sessions."""
        return self._open()[3]

    def call(self, method: Callable[..., M], request: Message, *, idempotent: bool = False) -> M:
        """Return the answer of a unary method.

        Parameters
        ----------
        method : callable
            Of a stub.
        request : Message
            What is asked.
        idempotent : bool
            Whether the call may be repeated when the server cannot be reached.
        """
        deadline = time.monotonic() + self.timeout_s

        def once() -> M:
            with self.errors():
                return method(
                    request, timeout=max(0.001, deadline - time.monotonic()), metadata=self._metadata()
                )

        return retried(once, deadline) if idempotent else once()

    def stream(self, method: Callable[..., Any], request: Message) -> Iterator[Any]:
        """Yield the answers of a streaming method; the call is cancelled when the iteration is given up."""
        call = method(request, timeout=LONG_TIMEOUT_S, metadata=self._metadata())
        try:
            with self.errors():
                yield from call
        finally:
            call.cancel()

    def renew_locks(self) -> None:
        """Forget a lock that a thread of the parent process may hold."""
        self._lock = threading.Lock()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of gRPC into ours."""
        try:
            yield
        except grpc.RpcError as error:
            raise _typed(error, self.address) from None

    def close(self) -> None:
        """Close the channel; idempotent. That of a parent process is neither closed nor dropped."""
        with self._lock:
            self.is_closed = True
            opened = self._opened
            if opened is None or opened[0] != os.getpid():
                return
            self._opened = None
        opened[1].close()

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", self.credentials.bearer),)

    def _open(self) -> tuple[int, grpc.Channel, CatalogServiceStub, UploadServiceStub]:
        with self._lock:
            if self.is_closed:
                raise PreconditionError(
                    f"The connection to {self.address.url} is closed.", reason="CONNECTION_CLOSED"
                )
            if self._opened is None or self._opened[0] != os.getpid():
                if self._opened is not None:
                    self._inherited.append(self._opened)  # the parent's: neither used nor closed here
                channel = self._connect()
                self._opened = (os.getpid(), channel, CatalogServiceStub(channel), UploadServiceStub(channel))
            return self._opened

    def _connect(self) -> grpc.Channel:
        if not self.address.is_tls:
            return grpc.insecure_channel(self.address.target, options=_OPTIONS)
        credentials = grpc.ssl_channel_credentials(root_certificates=self.credentials.certificates)
        return grpc.secure_channel(self.address.target, credentials, options=_OPTIONS)


def retried(
    once: Callable[[], T],
    deadline: float = math.inf,
    *,
    attempts: int = ATTEMPTS,
    patience_s: float = math.inf,
) -> T:
    """Return what `once` returns, repeating it while the server cannot be reached or is full.

    Parameters
    ----------
    once : callable
        An idempotent call.
    deadline : float
        By ``time.monotonic``; no repeat begins after it.
    attempts : int
        Most attempts while the server cannot be reached, or while tickets expire.
    patience_s : float
        Most that is spent waiting, in seconds.
    """
    failures = 0
    waited = 0.0
    while True:
        try:
            return once()
        except (UnavailableError, UnauthenticatedError, ResourceExhaustedError) as error:
            failures += not isinstance(error, ResourceExhaustedError)
            pause = _pause(error, failures)
            waited += pause or 0.0
            is_late = time.monotonic() + (pause or 0.0) >= deadline or waited > patience_s
            if pause is None or failures >= attempts or is_late:
                raise
            time.sleep(pause)


def _pause(error: LarvikError, failures: int) -> float | None:
    """Return how long to wait before a call is repeated; None when that is of no use."""
    if isinstance(error, UnavailableError):
        return random.uniform(0.25, 1.0) * float(min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** (failures - 1)))
    if isinstance(error, ResourceExhaustedError):
        # The server says when; spread, so that those it refused do not come back together.
        after = error.metadata.get("retry_after_s")
        return random.uniform(0.5, 1.5) * float(after) if after is not None else None
    return 0.0 if error.reason == "TICKET_EXPIRED" else None


def _typed(error: Any, address: Address) -> LarvikError:
    trailer = dict(error.trailing_metadata() or ()) if hasattr(error, "trailing_metadata") else {}
    ours = decode_details(trailer.get(DETAILS_KEY, b""))
    if ours is not None:
        return ours
    code: grpc.StatusCode = error.code()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        # Nobody here cancels and then waits: the server ended in the middle of the call.
        return unreachable(address)
    return error_of_code(code.value[0], f"{address.target}: {error.details() or code.name}")


def unreachable(address: Address) -> UnavailableError:
    """Return the error of a server that does not answer."""
    how = "TLS" if address.is_tls else "no TLS"
    return UnavailableError(
        f"No Larvik server answers at {address.target} ({how}). Is it running, and is the address right?",
        reason="SERVER_UNREACHABLE",
        url=address.url,
    )
