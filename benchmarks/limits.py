"""The limits of the machine: one raw TCP stream, a raw TCP ping-pong, memcpy.

They are measured by a client process like any other system (``peers.limits``), in the same rounds as what is
compared to them. As a program, this is the server of the raw TCP figures.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

#: A request: how many bytes to send back; 64 bytes long, as a small request of any protocol is.
REQUEST = struct.Struct("<Q56x")
#: What is sent at a time: it stays in the processor's cache.
PIECE = 1 << 20


class TcpServer:
    """A running raw TCP server. A context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()


def answer(connection: socket.socket) -> None:
    """Send what is asked for until the peer goes."""
    piece = memoryview(bytearray(PIECE))
    request = bytearray(REQUEST.size)
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv_into(request, REQUEST.size, socket.MSG_WAITALL) == REQUEST.size:
            (left,) = REQUEST.unpack(request)
            while left:
                left -= connection.send(piece[: min(left, PIECE)])


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the limits in figures of their own."""
    from figures import figure
    from workers import Worker

    rounds, count = (1, 50) if quick else (7, 1000)
    size = (8 << 20) if quick else (512 << 20)
    samples: dict[str, list[float]] = {}
    with TcpServer() as server, Worker("limits") as worker:
        worker.ask("open", where={"port": server.port})
        for number in range(rounds + 1):
            found = {
                "raw TCP, one stream": size / worker.ask("call", name="stream", size=size)["seconds"] / 1e6,
                "raw TCP ping-pong, 64 B": _p50_us(worker, 64, count),
                "raw TCP ping-pong, 512 KiB": _p50_us(worker, 512 << 10, count),
                "memcpy, hot 4 MiB": worker.ask("call", name="copy_hot", size=size)["mb_s"],
                "memcpy into fresh pages": worker.ask("call", name="copy_fresh", size=size)["mb_s"],
            }
            for name, value in found.items() if number else ():
                samples.setdefault(name, []).append(value)
    return {
        name: figure(values, "us p50" if "ping-pong" in name else "MB/s") for name, values in samples.items()
    }


def _p50_us(worker: Any, size: int, count: int) -> float:
    return float(worker.ask("call", name="ping_pong", size=size, count=count)["p50_s"]) * 1e6


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
