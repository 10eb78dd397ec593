"""The wire alone: streams taken by a stock Flight client, beside a raw TCP stream."""

from __future__ import annotations

import statistics
import time
from datetime import datetime
from typing import Any

from figures import absent, figure, ratios
from ground import Ground, finished, ground, interleaved
from limits import TcpServer
from processes import anonymous_mib
from worker import UnavailableError
from workers import Worker

#: Grid that streams are measured on.
NAME = "thin lz4"
READERS = 8
FIRST = {"chunks": 2, "dense": 5}


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the figures."""
    here = ground(quick)
    found: dict[str, Any] = {}
    for encoding in ("chunks", "dense"):
        try:
            found |= _stream(here, encoding) | _first(here, encoding) | _stalled(here, encoding)
        except UnavailableError as error:
            names = {
                "stream / raw TCP stream": (">=", 0.9), "first data": ("<=", FIRST[encoding]),
                "cancel to generator closed": ("<=", 10), "memory behind a stalled reader": ("<=", 16),
            }  # fmt: skip
            found |= {f"{encoding}: {name}": absent(str(error), reach=reach) for name, reach in names.items()}
    return found


def _opened(here: Ground, encoding: str) -> Worker:
    worker = Worker("flight_stream")
    try:
        worker.ask("open", where=here.flight_where(NAME, encoding))
    except UnavailableError:
        worker.close()
        raise
    return worker


def _stream(here: Ground, encoding: str) -> dict[str, Any]:
    """Return bytes a second of a whole stream, as a part of those of a raw TCP stream of as many bytes.

    With `chunks` the server passes on stored bytes that are in memory: nothing but the way is measured.
    """
    with _opened(here, encoding) as worker, TcpServer() as server, Worker("limits") as limits:
        limits.ask("open", where={"port": server.port})
        size = worker.ask("call", name="drain")["bytes"]
        calls = {
            "flight": lambda: size / worker.ask("call", name="drain")["seconds"],
            "tcp": lambda: size / limits.ask("call", name="stream", size=size)["seconds"],
        }
        speeds = interleaved(calls, here.rounds)
    reach = (">=", 0.9) if encoding == "chunks" else None
    mb_s = statistics.median(speeds["flight"]) / 1e6
    return {
        f"{encoding}: stream / raw TCP stream": figure(
            ratios(speeds["flight"], speeds["tcp"]), "x", reach, mb_s=mb_s
        )
    }


def _first(here: Ground, encoding: str) -> dict[str, Any]:
    """Return milliseconds from question to first batch, and from a cancel to the end of the generator."""
    server = here.larvik()
    firsts, ends = [], []
    with _opened(here, encoding) as worker:
        selections = _stacks(here.shape)
        worker.ask("call", name="first", selection=selections.pop())
        for selection in selections[: 2 if here.quick else 15]:
            mark = len(server.log)
            answer = worker.ask("call", name="first", selection=selection)
            firsts.append(answer["first_s"] * 1e3)
            for line in finished(server, "DO_GET", mark):
                if line["code"] == "CANCELLED":
                    ended = datetime.fromisoformat(line["timestamp"]).timestamp()
                    ends.append((ended - answer["cancelled_at"]) * 1e3)
    name = f"{encoding}: cancel to generator closed"
    closed = (
        figure(ends, "ms", ("<=", 10))
        if ends
        else absent("every stream ended before its cancel", "ms", ("<=", 10))
    )
    return {f"{encoding}: first data": figure(firsts, "ms", ("<=", FIRST[encoding])), name: closed}


def _stacks(shape: tuple[int, ...]) -> list[list[list[int]]]:
    """Return different stacks, so that no first chunk was read before."""
    outer = [[t, t + 1] for t in range(shape[0])], [[c, c + 1] for c in range(shape[1])]
    plane = [[0, shape[3]], [0, shape[4]]]
    depth = max(1, shape[2] // 2)
    starts = range(0, shape[2] - depth + 1, max(1, depth // 8))
    return [[t, c, [z, z + depth], *plane] for z in starts for t in outer[0] for c in outer[1]]


def _stalled(here: Ground, encoding: str) -> dict[str, Any]:
    """Return what the server holds for each of several readers that took one batch and no more.

    The first reader is not counted: with it come caches and threads that the others share.
    """
    samples = []
    for _ in range(1 if here.quick else 5):
        here.stop_larvik()
        pid = here.larvik().pid
        with _opened(here, encoding) as worker:
            held = []
            for _ in range(READERS + 1):
                worker.ask("call", name="stall")
                time.sleep(0.1 if here.quick else 0.5)
                held.append(anonymous_mib(pid))
        samples.append((held[-1] - held[0]) / READERS)
    return {f"{encoding}: memory behind a stalled reader": figure(samples, "MiB", ("<=", 16))}
