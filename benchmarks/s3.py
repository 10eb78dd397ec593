"""Reads from a bucket of a real S3-compatible server, with requests as they are here and taking longer.

Beside the same pixels on the local disk, and zarr-python with s3fs. Each round reads other windows, which
no server has in memory.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import Any

import numpy as np
from buckets import Bucket
from figures import figure, ratios
from ground import TOKEN, Ground, ground, interleaved
from workers import Worker

NAME = "thin lz4"
ZARR, TUNED = "zarr-python + s3fs", "zarr-python + s3fs, tuned"
ENGINE, SERVER, CACHED = "Larvik, embedded", "Larvik, server", "Larvik, server, disk cache"
LOCAL = "Larvik, embedded, local disk"
#: What a request to a store in the same region takes longer than one to this machine.
LATE_MS = 30.0
CACHE_BYTES = 10 << 30


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the figures."""
    here = ground(quick)
    found: dict[str, Any] = {}
    for late_ms in (0.0, LATE_MS):
        with Bucket(here, NAME, late_ms) as bucket, ExitStack() as stack:
            workers = {
                label: stack.enter_context(_worker(here, *system))
                for label, system in _systems(here, bucket).items()
            }
            what = "S3" if not late_ms else f"S3 + {late_ms:.0f} ms"
            selection = _stacks(here.shape, 1 if late_ms else here.shape[0])
            found |= _compared(f"{what}, full read", _full(here, workers, selection), 1)
            found |= _compared(f"{what}, crop, p50", _crops(here, workers), 2)
    return found


def _systems(here: Ground, bucket: Bucket) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return module and arguments of each reader, by label."""

    def through(disk_cache_bytes: int) -> dict[str, Any]:
        url, source = bucket.larvik(disk_cache_bytes).url, here.stored[NAME].source
        return {"url": url, "token": TOKEN, "source": source}

    stored = here.stored[NAME]
    return {
        ZARR: ("s3_zarr", bucket.zarr_where(NAME)),
        TUNED: ("s3_zarr", {**bucket.zarr_where(NAME), "concurrency": 64}),
        ENGINE: ("s3_engine", bucket.engine_where(NAME)),
        SERVER: ("larvik", through(0)),
        CACHED: ("larvik", through(CACHE_BYTES)),
        LOCAL: ("engine", {"path": stored.path, "source": stored.source}),
    }


def _worker(here: Ground, module: str, where: dict[str, Any]) -> Worker:
    worker = Worker(module)
    try:
        worker.ask("open", where=where, truth=here.truth)
    except BaseException:
        worker.close()
        raise
    return worker


def _full(here: Ground, workers: dict[str, Worker], selection: list[list[int]]) -> dict[str, list[float]]:
    """Return seconds of each read, by label; the caches were filled by the round that warms up."""

    def read(worker: Worker) -> float:
        return float(worker.ask("read", selections=[selection])["seconds"])

    return interleaved(
        {label: lambda worker=worker: read(worker) for label, worker in workers.items()}, here.rounds
    )


def _crops(here: Ground, workers: dict[str, Worker]) -> dict[str, list[float]]:
    """Return the median seconds of a crop in each round, by label."""
    rounds = {label: iter(range(here.rounds + 1)) for label in workers}

    def read(label: str) -> float:
        selections = windows(here.shape, next(rounds[label]))
        return statistics.median(workers[label].ask("read", selections=selections)["each"])

    return interleaved({label: lambda label=label: read(label) for label in workers}, here.rounds)


def windows(shape: tuple[int, ...], number: int) -> list[list[list[int]]]:
    """Return windows of 512 x 512 at any place of planes that no other round reads."""
    random = np.random.default_rng(number)
    side = min(512, shape[-1] // 2)
    found = []
    for channel in range(shape[1]):
        for z in range(number % 8, shape[2], 8):
            y, x = (int(random.integers(0, size - side + 1)) for size in shape[-2:])
            found.append([[0, 1], [channel, channel + 1], [z, z + 1], [y, y + side], [x, x + side]])
    return found


def _stacks(shape: tuple[int, ...], times: int) -> list[list[int]]:
    return [[0, times], *([0, size] for size in shape[1:])]


def _compared(what: str, seconds: dict[str, list[float]], bound: float) -> dict[str, Any]:
    found = {}
    for label, taken in seconds.items():
        reach = (">=", bound) if label in (ENGINE, CACHED) else None
        found[f"{what}: {label}, against {ZARR}"] = figure(
            ratios(seconds[ZARR], taken), "x faster", reach, ms=statistics.median(taken) * 1e3,
            table=what, system=label,
        )  # fmt: skip
    for label in (ENGINE, CACHED):
        found[f"{what}: {label} / local disk"] = figure(ratios(seconds[label], seconds[LOCAL]), "x")
    return found
