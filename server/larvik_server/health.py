"""Asking a running server whether it serves: what container health checks run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from larvik.errors import InvalidArgumentError, UnauthenticatedError, UnavailableError
from larvik.wire.status import DETAILS_KEY, decode_details
from larvik_server.settings import is_loopback

#: Where a server listens that says nothing else.
PORT = 7410


def check(
    url: str, token: str | None, timeout_s: float, *, ca: Path | None = None, tls: bool | None = None
) -> str:
    """Return the state of the server at `url`, when it serves.

    Parameters
    ----------
    url : str
        ``larvik://host[:port]``; TLS except on the loopback. ``larvik+insecure://`` is never TLS.
    token : str or None
        Any key of the server.
    timeout_s : float
        How long it gets to answer, in seconds.
    ca : Path, optional
        PEM certificates that the server is checked against, instead of the system's.
    tls : bool, optional
        Overrides what the URL implies, for a server with TLS on the loopback.

    Raises
    ------
    InvalidArgumentError
        ``URL_INVALID``; ``CERTIFICATE_INVALID``, when the file `ca` cannot be read.
    UnavailableError
        ``SERVER_UNREACHABLE``, when it does not answer or does not serve.
    UnauthenticatedError
        ``TOKEN_MISSING`` or ``TOKEN_INVALID``: there is a server, but it does not know the token.
    """
    target, implied = _address(url)
    is_tls = implied if tls is None else tls
    with _open(target, is_tls, ca) as channel:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        try:
            answer = HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s, metadata=metadata
            )
        except grpc.RpcError as error:
            trailer: dict[str, Any] = dict(cast("Iterable[tuple[str, Any]]", error.trailing_metadata() or ()))
            ours = decode_details(trailer.get(DETAILS_KEY, b""))
            if isinstance(ours, UnauthenticatedError):
                raise ours from None
            how = "TLS" if is_tls else "no TLS"
            raise UnavailableError(
                f"No Larvik server answers at {target} ({how}). Is it running, and is the address right?",
                reason="SERVER_UNREACHABLE",
            ) from None
    state: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if state != "SERVING":
        raise UnavailableError(f"The server at {target} says {state}.", reason="SERVER_UNREACHABLE")
    return state


def _address(url: str) -> tuple[str, bool]:
    """Return ``host:port``, and whether `url` means TLS."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in ("larvik", "larvik+insecure") or not host or parts.path.strip("/"):
        raise InvalidArgumentError(
            "A server is named as larvik://host:port or larvik+insecure://host:port.",
            reason="URL_INVALID",
            field="url",
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{PORT if port is None else port}", scheme == "larvik" and not is_loopback(host)


def _open(target: str, is_tls: bool, ca: Path | None) -> grpc.Channel:
    if not is_tls:
        return grpc.insecure_channel(target)
    try:
        certificates = ca.read_bytes() if ca is not None else None
    except OSError as error:
        raise InvalidArgumentError(
            f"The certificates in {ca} cannot be read: {error.strerror}.",
            reason="CERTIFICATE_INVALID",
            field="ca",
        ) from None
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(root_certificates=certificates))
