"""Where callers are, as gRPC names them."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote


def is_near(peer: str) -> bool:
    """Return whether a caller such as ``ipv4:127.0.0.1:50312`` or ``unix:`` is on this host."""
    kind, _, rest = unquote(peer).partition(":")
    if kind == "unix":
        return True
    try:
        address = ipaddress.ip_address(rest.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
