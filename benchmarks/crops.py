"""Small reads: crops that nobody read before, scrolling through z, and a tile that is cached.

For what is cold the Larvik server is started anew in each round, so that it has nothing in memory; the files
of every system are in the page cache.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from figures import absent, figure, ratios
from ground import Ground, ground, interleaved
from limits import TcpServer
from systems import AUTO, DEFAULT, DENSE, HSDS, NGINX, TENSORSTORE, TILED, TILES, XPUBLISH, Crew
from workers import Worker

FILES = (DEFAULT, TENSORSTORE, NGINX)
OURS = (AUTO, DENSE, TILES)
#: What people get, which on one host may be files, and what travels through sockets.
REACHING = (AUTO, TILES)
SLOW = (TILED, HSDS, XPUBLISH)
TCP = "raw TCP ping-pong, 512 KiB"


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the figures."""
    here = ground(quick)
    found: dict[str, Any] = {}
    for name in ("thin lz4", "thick lz4"):
        found |= _cold(here, name, "crop", 2.5)
    return found | _cold(here, "thick lz4", "scroll", 9) | _cached(here)


def _cold(here: Ground, name: str, kind: str, bound: float) -> dict[str, Any]:
    """Return the figures of crops or of scrolling on one grid."""
    selections = scroll(here.shape) if kind == "scroll" else crops(here.shape)
    peers = (*FILES, *(SLOW if kind == "crop" else ()))
    p50: dict[str, list[float]] = {}
    with Crew(here, name, peers) as theirs:
        for number in range(here.rounds):
            here.stop_larvik()
            with Crew(here, name, OURS) as ours:
                crews = [(theirs, label) for label in theirs.workers] + [
                    (ours, label) for label in ours.workers
                ]
                missing = theirs.absent | ours.absent
                for crew, label in crews[number % len(crews) :] + crews[: number % len(crews)]:
                    crew.ask(label, "read", selections=warm_up(here.shape))
                    each = crew.ask(label, "read", selections=selections)["each"]
                    taken = sum(each) if kind == "scroll" else statistics.median(each)
                    p50.setdefault(label, []).append(taken)
    what = "z-scroll" if kind == "scroll" else "cold crop, p50"
    return _against_zarr(f"{name}: {what}", p50, missing, bound)


def _against_zarr(
    what: str, seconds: dict[str, list[float]], missing: dict[str, str], bound: float
) -> dict[str, Any]:
    grid, table = what.split(": ")
    found = {}
    for label in (*FILES, *OURS, *SLOW):
        name = f"{what}, {label}, against zarr-python"
        reach = (">=", bound) if label in REACHING else None
        if label in seconds:
            found[name] = figure(
                ratios(seconds[DEFAULT], seconds[label]), "x faster", reach,
                ms=statistics.median(seconds[label]) * 1e3, table=table, grid=grid, system=label,
            )  # fmt: skip
        elif label in missing:
            found[name] = absent(missing[label], "x faster", reach)
    return found


def _cached(here: Ground) -> dict[str, Any]:
    """Return how long a tile takes that was read before, beside a raw TCP ping-pong."""
    count = 20 if here.quick else 300
    selections = [[[0, 1], [0, 1], [0, 1], [0, 512], [0, 512]]] * count
    with (
        TcpServer() as server,
        Worker("limits") as limits,
        Crew(here, "thin lz4", (*OURS, TENSORSTORE)) as crew,
    ):
        limits.ask("open", where={"port": server.port})

        def tile(label: str) -> float:
            return statistics.median(crew.ask(label, "read", selections=selections)["each"])

        def ping_pong() -> float:
            return float(limits.ask("call", name="ping_pong", size=512 << 10, count=count)["p50_s"])

        calls: dict[str, Any] = {label: lambda label=label: tile(label) for label in crew.workers}
        seconds = interleaved({TCP: ping_pong, **calls}, here.rounds)
        missing = crew.absent
    found = {}
    for label in (*OURS, TENSORSTORE):
        name, reach = (
            f"512 KiB tile, cached, p50, {label} / raw TCP",
            ("<=", 4) if label in REACHING else None,
        )
        if label in seconds:
            us = statistics.median(seconds[label]) * 1e6
            found[name] = figure(ratios(seconds[label], seconds[TCP]), "x", reach, us=us)
        else:
            found[name] = absent(missing[label], "x", reach)
    return found


def crops(shape: tuple[int, ...]) -> list[list[list[int]]]:
    """Return crops of the first time point, each in planes that no other one touches, at any place."""
    random = np.random.default_rng(1)
    side = min(512, shape[-1] // 2)
    found = []
    for channel in range(shape[1]):
        for z in range(3, shape[2], 8):
            y, x = (int(random.integers(0, size - side + 1)) for size in shape[-2:])
            found.append([[0, 1], [channel, channel + 1], [z, z + 1], [y, y + side], [x, x + side]])
    return found


def scroll(shape: tuple[int, ...]) -> list[list[list[int]]]:
    """Return the same window of every plane of a stack."""
    side = min(512, shape[-1] // 2)
    window = [[side // 3, side // 3 + side], [side // 4, side // 4 + side]]
    return [[[0, 1], [0, 1], [z, z + 1], *window] for z in range(shape[2])]


def warm_up(shape: tuple[int, ...]) -> list[list[list[int]]]:
    """Return crops of the last time point, which nothing is measured on."""
    t, c, z = (size - 1 for size in shape[:3])
    side = min(512, shape[-1] // 2)
    return [[[t, t + 1], [c, c + 1], [z, z + 1], [0, side], [0, side]]] * 4
