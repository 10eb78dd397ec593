"""Asking a running server whether it serves: what container health checks run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from larvik.errors import UnauthenticatedError, UnavailableError
from larvik.wire.status import DETAILS_KEY, decode_details
from larvik_server.settings import is_loopback


def check(url: str, token: str | None, timeout_s: float) -> str:
    """Return the state of the server at `url`, when it serves.

    Parameters
    ----------
    url : str
        ``larvik://host:port``; TLS except on the loopback.
    token : str or None
        Any key of the server.

    Raises
    ------
    UnavailableError
        ``SERVER_UNREACHABLE``, when it does not answer or does not serve.
    UnauthenticatedError
        ``TOKEN_MISSING`` or ``TOKEN_INVALID``: there is a server, but it does not know the token.
    """
    scheme, _, target = url.rstrip("/").rpartition("://")
    host = target.rpartition(":")[0].strip("[]")
    plain = scheme == "larvik+insecure" or is_loopback(host)
    open_channel = grpc.insecure_channel if plain else _secure_channel
    with open_channel(target) as channel:
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
            raise UnavailableError(
                f"No Larvik server answers at {target}.", reason="SERVER_UNREACHABLE"
            ) from None
    state: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if state != "SERVING":
        raise UnavailableError(f"The server at {target} says {state}.", reason="SERVER_UNREACHABLE")
    return state


def _secure_channel(target: str) -> grpc.Channel:
    return grpc.secure_channel(target, grpc.ssl_channel_credentials())
