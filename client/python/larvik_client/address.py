"""Where a server is: the parts of a ``larvik://`` URL."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from larvik.errors import InvalidArgumentError, UnauthenticatedError

PORT = 7410


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port of a server, and whether TLS is spoken there.

    Attributes
    ----------
    url : str
        Normal form of the URL, without a token.
    host : str
        Without brackets.
    """

    url: str
    host: str
    port: int
    is_tls: bool

    @property
    def target(self) -> str:
        """``host:port``, with brackets around IPv6."""
        return f"{_bracketed(self.host)}:{self.port}"

    def flight_url(self, described: str) -> str:
        """Return the Flight address for the one that the server described; without a host, ours is meant.

        Raises
        ------
        UnauthenticatedError
            ``TLS_REQUIRED``, when this address speaks TLS and that one does not: the token would be sent in
            clear text to whoever listens there.
        """
        parts = urlsplit(described)
        if self.is_tls and parts.scheme != "grpc+tls":
            raise UnauthenticatedError(
                f"The server at {self.url} names a Flight address without TLS, where no token is sent to."
                " Correct its public_flight_url.",
                reason="TLS_REQUIRED",
                url=self.url,
            )
        return f"{parts.scheme}://{_bracketed(parts.hostname or self.host)}:{parts.port}"


def parse_address(url: str, *, tls: bool | None = None) -> Address:
    """Return the address that a URL names.

    Parameters
    ----------
    url : str
        ``larvik://host[:port]``: TLS, except on the loopback. ``larvik+insecure://host[:port]``: never TLS.
    tls : bool, optional
        Overrides what the URL implies, for a server with TLS on the loopback.

    Raises
    ------
    InvalidArgumentError
        ``URL_INVALID``; shows how a URL is written.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    extra = scheme and (
        parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/")
    )
    if scheme not in ("larvik", "larvik+insecure") or not host or extra:
        raise InvalidArgumentError(
            "A server is named as larvik://host:port or larvik+insecure://host:port; the token is given"
            " apart.",
            reason="URL_INVALID",
            field="url",
        )
    port = PORT if port is None else port
    is_tls = scheme == "larvik" and not is_loopback(host) if tls is None else tls
    return Address(f"{scheme}://{_bracketed(host)}:{port}", host, port, is_tls)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, reached without a network."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_certificates(path: str | os.PathLike[str] | None) -> bytes | None:
    """Return the PEM certificates that servers are checked against; None for those of the system.

    Raises
    ------
    InvalidArgumentError
        ``CERTIFICATE_INVALID``, when the file cannot be read.
    """
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgumentError(
            f"The certificates in {path} cannot be read: {error.strerror}.",
            reason="CERTIFICATE_INVALID",
            field="ca",
        ) from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
