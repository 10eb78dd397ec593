"""A client process: reads through one system, times it, and checks every answer against the true pixels.

Usage: python worker.py SYSTEM, with one JSON request a line on standard input and one answer a line on
standard output. SYSTEM is a module of ``peers``; it may run in an environment of its own, so this needs NumPy
alone.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np


class UnavailableError(Exception):
    """What was asked for does not exist here."""


class Desk:
    """Answers the requests of one benchmark."""

    def __init__(self, system: Any) -> None:
        self._system = system
        self._reader: Any = None
        self._truth: Any = None

    def open(self, where: dict[str, Any], truth: str | None = None) -> dict[str, Any]:
        """Open the array that `where` names to the system; a reader that was open is closed."""
        self.close()
        self._truth = np.load(truth, mmap_mode="r") if truth else None
        self._reader = self._system.Reader(**where)
        return {}

    def close(self) -> dict[str, Any]:
        """Close what is open."""
        reader, self._reader = self._reader, None
        if reader is not None and hasattr(reader, "close"):
            reader.close()
        return {}

    def read(self, selections: list[list[list[int]]]) -> dict[str, Any]:
        """Read regions one after the other; each is given as start and stop per dim."""
        regions = [tuple(slice(*bounds) for bounds in selection) for selection in selections]
        found, answer = _timed([lambda region=region: self._reader.read(region) for region in regions])
        for region, pixels in zip(regions, found, strict=True):
            if not _equal(pixels, self._truth[region]):
                raise ValueError(f"wrong pixels at {region}")
        return answer

    def maximum(self, axis: int, **options: Any) -> dict[str, Any]:
        """Compute the maximum of the whole array along an axis."""
        (found,), answer = _timed([lambda: self._reader.maximum(axis, **options)])
        if not _equal(found, self._maximum(axis)):
            raise ValueError("a wrong maximum")
        return answer

    def call(self, name: str, **options: Any) -> dict[str, Any]:
        """Do something that only this system can; returns what its reader returns."""
        if self._truth is not None and name.startswith("write"):
            options["pixels"] = np.asarray(self._truth[:])
        answer: dict[str, Any] = getattr(self._reader, name)(**options)
        return answer

    def _maximum(self, axis: int) -> Any:
        first = [self._truth[index].max(axis - 1) for index in range(self._truth.shape[0])]
        return np.stack(first)


def _timed(calls: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return what the calls return, and what they cost."""
    _reset_peak()
    results, each = [], []
    cpu, began = time.process_time(), time.perf_counter()
    for call in calls:
        start = time.perf_counter()
        results.append(call())
        each.append(time.perf_counter() - start)
    ended = time.perf_counter()
    cpu = time.process_time() - cpu
    # perf_counter is the clock of the whole machine, so that beginnings and ends of processes compare.
    cost = {"seconds": ended - began, "began": began, "ended": ended, "each": each}
    size = sum(np.asarray(result).nbytes for result in results)
    return results, {**cost, "cpu_s": cpu, "peak_mib": _peak_mib(), "bytes": size}


def _equal(found: Any, true: Any) -> bool:
    pixels = np.asarray(found)
    if pixels.shape != true.shape or pixels.dtype != true.dtype:
        return False
    if pixels.ndim < 4:
        return bool(np.array_equal(pixels, true))
    return all(_equal(part, other) for part, other in zip(pixels, true, strict=True))


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    sys.path.insert(0, str(Path(__file__).parent))
    desk = Desk(importlib.import_module(f"peers.{sys.argv[1]}"))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(desk, request.pop("do"))(**request)
        except UnavailableError as error:
            answer = {"unavailable": str(error)}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
    desk.close()


if __name__ == "__main__":
    sys.modules["worker"] = sys.modules["__main__"]  # peers raise its UnavailableError
    main()
