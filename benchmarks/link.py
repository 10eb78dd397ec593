"""A shaped link: relays TCP connections over one wire of a given delay and rate in each direction.

Usage: python link.py ROUND_TRIP_MS MBIT_PER_S PORT [PORT ...], which prints the port that stands for each.

It stands in for ``tc netem``, whose kernel module many machines lack. All connections share the wire; a new
one waits one more round trip, as its handshake would. Loss and slow start are not imitated.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

#: Bytes that travel as one piece, and seconds that a sender may be ahead of the wire: timers are coarse.
PIECE = 16 << 10
AHEAD_S = 0.005


class Wire:
    """One direction: pieces leave one after the other at its rate, and arrive after its delay."""

    def __init__(self, delay_s: float, bytes_per_s: float) -> None:
        self.delay_s = delay_s
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    async def send(self, size: int) -> float:
        """Return when a piece arrives, once it may leave."""
        now = time.perf_counter()
        self._free_at = leaves = max(now, self._free_at) + size / self._bytes_per_s
        if leaves - now > AHEAD_S:
            await asyncio.sleep(leaves - now - AHEAD_S)
        return leaves + self.delay_s


async def carry(
    wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, later_s: float
) -> None:
    """Carry one direction of a connection; its first bytes are `later_s` late."""
    arrivals: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            at, piece = await arrivals.get()
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    delivering = asyncio.create_task(deliver())
    open_at = time.perf_counter() + later_s
    with suppress(OSError):
        while piece := await reader.read(PIECE):
            if (wait := open_at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            arrivals.put_nowait((await wire.send(len(piece)), piece))
    arrivals.put_nowait((time.perf_counter() + wire.delay_s, b""))
    with suppress(OSError):
        await delivering


async def relay(round_trip_s: float, bytes_per_s: float, ports: Sequence[int]) -> None:
    """Relay connections until cancelled."""
    up, down = (Wire(round_trip_s / 2, bytes_per_s) for _ in range(2))

    async def serve(port: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                beyond, there = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.close()
                return
            await asyncio.gather(
                carry(up, reader, there, round_trip_s),
                carry(down, beyond, writer, 0.0),
                return_exceptions=True,
            )
            for end in (writer, there):
                end.close()

        return await asyncio.start_server(connected, "127.0.0.1", 0)

    servers = [await serve(port) for port in ports]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


class Link:
    """A running relay. A context manager; ``ports`` stand for those that were given."""

    def __init__(self, round_trip_ms: float, mbit_per_s: float, ports: Sequence[int]) -> None:
        command = [sys.executable, __file__, str(round_trip_ms), str(mbit_per_s), *map(str, ports)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.ports: list[int] = json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(
            relay(float(sys.argv[1]) / 1000, float(sys.argv[2]) * 125_000, list(map(int, sys.argv[3:])))
        )
