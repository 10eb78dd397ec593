"""The sockets of callers: found by address and ended, which is how a call that waits for its caller ends.

pyarrow's server can neither cancel a call that is blocked in a write or a read, nor be told of keepalives.
Both are done to the connection beneath.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

#: A peer that answers no probe: when the first goes out, the pause between them in seconds, how many. How
#: long sent bytes may stay unacknowledged, in milliseconds.
KEEPALIVE_IDLE_S, KEEPALIVE_PAUSE_S, KEEPALIVE_PROBES = 60, 15, 4
UNACKNOWLEDGED_MS = 120_000

_DESCRIPTORS = Path("/proc/self/fd")
_PEER = re.compile(r"(?:ipv4|ipv6):\[?(?P<host>[^\]]+)\]?:(?P<port>\d+)")


def cut(peer: str) -> bool:
    """End the connections from `peer`, such as ``ipv4:127.0.0.1:5000``; return whether there were any.

    Every call of that connection ends as if its caller had gone. Only where ``/proc`` tells the descriptors.
    """
    wanted = _address(peer)
    is_found = False
    for found, connection in _connections():
        if wanted is not None and found == wanted:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
                is_found = True
    return is_found


def keep_alive(seen: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Have the kernel end connections whose peer is gone without a word; return the peers there are.

    Parameters
    ----------
    seen : set
        Peers that were seen to already: what the last call returned.
    """
    found = set()
    for peer, connection in _connections():
        found.add(peer)
        if peer in seen:
            continue
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_PAUSE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
    return found


def _connections() -> Iterator[tuple[tuple[str, int], socket.socket]]:
    """Yield the peer of every TCP connection of this process, and a socket that is closed after its turn."""
    for name in os.listdir(_DESCRIPTORS) if _DESCRIPTORS.is_dir() else ():
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    # Asked of the duplicate: the number itself may have become another socket meanwhile.
                    yield _plain(*connection.getpeername()[:2]), connection
        except OSError:
            continue  # closed meanwhile, or not connected


def _address(peer: str) -> tuple[str, int] | None:
    found = _PEER.fullmatch(unquote(peer))
    return _plain(found["host"], int(found["port"])) if found else None


def _plain(host: str, port: int) -> tuple[str, int]:
    return host.removeprefix("::ffff:").partition("%")[0], port
