"""Raw sockets and memcpy: no system reads faster than these."""

from __future__ import annotations

import socket
import statistics
import time
from typing import Any

import numpy as np


class Reader:
    """A connection to ``limits.py``, and the copies of this process."""

    def __init__(self, port: int) -> None:
        from limits import PIECE, REQUEST

        self._request = REQUEST
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(PIECE))

    def stream(self, size: int) -> dict[str, Any]:
        """Receive `size` bytes of one stream."""
        cpu, start = time.process_time(), time.perf_counter()
        self._receive(size)
        return {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}

    def ping_pong(self, size: int, count: int) -> dict[str, Any]:
        """Ask for `size` bytes, `count` times one after the other."""
        each = []
        for _ in range(count):
            start = time.perf_counter()
            self._receive(size)
            each.append(time.perf_counter() - start)
        return {"p50_s": statistics.median(each)}

    def copy_hot(self, size: int) -> dict[str, Any]:
        """Copy 4 MiB that stay in the cache, until `size` bytes are copied."""
        source, target = np.ones(4 << 20, np.uint8), np.ones(4 << 20, np.uint8)
        count = max(1, size // source.nbytes)
        start = time.perf_counter()
        for _ in range(count):
            np.copyto(target, source)
        return {"mb_s": count * source.nbytes / (time.perf_counter() - start) / 1e6}

    def copy_fresh(self, size: int) -> dict[str, Any]:
        """Copy `size` bytes into memory that was never touched."""
        source = np.ones(size, np.uint8)
        start = time.perf_counter()
        source.copy()
        return {"mb_s": size / (time.perf_counter() - start) / 1e6}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _receive(self, size: int) -> None:
        self._connection.sendall(self._request.pack(size))
        while size:
            taken = self._connection.recv_into(self._buffer, min(size, len(self._buffer)))
            if not taken:
                raise ConnectionError("the raw TCP server is gone")
            size -= taken
