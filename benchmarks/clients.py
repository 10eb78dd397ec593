"""Many clients at once: 1, 4 and 16 processes, each reading a stack of its own."""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from typing import Any

from figures import absent, figure, ratios
from ground import Ground, ground, interleaved
from processes import cpu_seconds, peak_mib, reset_peak
from systems import AUTO, CHUNKS, DENSE, NGINX, TENSORSTORE, TUNED, System, systems
from worker import UnavailableError
from workers import Worker, together

NAME = "thin lz4"
LABELS = (TUNED, TENSORSTORE, NGINX, AUTO, CHUNKS, DENSE)


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the figures."""
    here = ground(quick)
    counts = (1, 2) if quick else (1, 4, 16)
    costs: dict[str, list[Any]] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        crews: dict[str, list[Worker]] = {}
        for label in LABELS:
            try:
                crews[label] = _crew(stack, here, systems(here)[label], counts[-1])
            except UnavailableError as error:
                missing[label] = str(error)
        calls = {
            f"{label}, {count} clients": lambda label=label, count=count: _read(
                here, systems(here)[label], crews[label][:count]
            )
            for label in crews
            for count in counts
        }
        costs = interleaved(calls, min(here.rounds, 5))
    found: dict[str, Any] = {}
    for label in LABELS:
        for count in counts:
            found |= _row(label, count, counts[0], costs, missing)
    return found


def _crew(stack: ExitStack, here: Ground, system: System, count: int) -> list[Worker]:
    if why := system.missing():
        raise UnavailableError(why)
    where = system.where(NAME)
    workers = []
    for _ in range(count):
        workers.append(stack.enter_context(Worker(system.module, sys.executable)))
        workers[-1].ask("open", where=where, truth=here.truth)
    return workers


def _read(here: Ground, system: System, workers: list[Worker]) -> dict[str, Any]:
    """Let each client read half a stack; which one is its own as far as there are enough."""
    pid, half = system.pid(), here.shape[2] // 2
    stacks = [(t, c, z) for z in (0, half) for t in range(here.shape[0]) for c in range(here.shape[1])]
    requests = []
    for number in range(len(workers)):
        t, c, z = stacks[number % len(stacks)]
        selection = [[t, t + 1], [c, c + 1], [z, z + half], [0, here.shape[3]], [0, here.shape[4]]]
        requests.append({"do": "read", "selections": [selection]})
    before = cpu_seconds(pid)
    if pid is not None:
        reset_peak(pid)
    answer = together(workers, requests)
    answer["server_cpu_s"] = cpu_seconds(pid) - before
    answer["server_mib"] = peak_mib(pid) if pid is not None else 0.0
    return answer


def _row(
    label: str, count: int, least: int, costs: dict[str, list[Any]], missing: dict[str, str]
) -> dict[str, Any]:
    """Return what several clients get together, against several of zarr-python's and against a single one."""
    name = f"{label}, {count} clients"
    details = {"table": "clients", "system": label, "clients": count}
    if label in missing:
        return {f"{name}: bytes a second against zarr-python, tuned": absent(missing[label]) | details}
    rounds = costs[name]
    speeds = [one["bytes"] / one["seconds"] for one in rounds]
    megabytes = sum(one["bytes"] for one in rounds) / 1e6
    theirs = [one["bytes"] / one["seconds"] for one in costs[f"{TUNED}, {count} clients"]]
    found = {
        f"{name}: bytes a second against zarr-python, tuned": figure(
            ratios(speeds, theirs), "x",
            mb_s=statistics.median(speeds) / 1e6,
            client_ms_per_mb=sum(one["cpu_s"] for one in rounds) * 1e3 / megabytes,
            server_ms_per_mb=sum(one["server_cpu_s"] for one in rounds) * 1e3 / megabytes,
            server_mib=max(one["server_mib"] for one in rounds),
            **details,
        )
    }  # fmt: skip
    if count > least and label in (AUTO, CHUNKS):
        alone = [one["bytes"] / one["seconds"] for one in costs[f"{label}, {least} clients"]]
        reach = (">=", 0.9)
        found[f"{name}: sum against one client"] = figure(ratios(speeds, alone), "x", reach)
    return found
