"""Full reads: every system gives the whole image as a fresh array, in turn, on each grid.

Speeds are ratios of the same round. The peers that take seconds read a part of one stack, and are compared by
bytes a second.
"""

from __future__ import annotations

from typing import Any

from figures import absent, figure, ratios
from grids import GRIDS, whole
from ground import Ground, finished, ground, interleaved
from systems import (
    CHUNKS,
    DEFAULT,
    DENSE,
    ENGINE,
    HSDS,
    NGINX,
    SLOW,
    STORE,
    TENSORSTORE,
    TILED,
    TUNED,
    XPUBLISH,
    Crew,
)

LABELS = (DEFAULT, TUNED, TENSORSTORE, NGINX, ENGINE, CHUNKS, DENSE, STORE, TILED, HSDS, XPUBLISH)


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the figures of every grid."""
    found: dict[str, Any] = {}
    here = ground(quick)
    for one in GRIDS[1:3] if quick else GRIDS:
        labels = [label for label in LABELS if label not in SLOW or one.cname == "lz4"]
        with Crew(here, one.name, labels) as crew:
            costs = interleaved(
                {label: lambda label=label: _read(crew, label, here) for label in crew.workers}, here.rounds
            )
            found |= _compared(one.name, costs, crew.absent) | _table(one.name, costs, crew.absent)
            found |= _moved(one.name, crew, here)
    return found


def _read(crew: Crew, label: str, here: Ground) -> dict[str, Any]:
    selection = whole(here.shape)
    if label in SLOW:
        selection[:3] = [[0, 1], [0, 1], [0, min(16, here.shape[2])]]
    return crew.ask(label, "read", selections=[selection])


def _compared(grid: str, costs: dict[str, list[Any]], missing: dict[str, str]) -> dict[str, Any]:
    """Return the figures that have something to reach."""
    lz4 = grid.endswith("lz4")
    wanted = (
        (CHUNKS, DEFAULT, 2.5),
        (CHUNKS, TUNED, 2),
        (CHUNKS, TENSORSTORE, 0.9),
        (STORE, TUNED, 3.5 if lz4 else 2),
        (STORE, ENGINE, 0.95),
        (DENSE, TUNED, 1.3),
    )
    found = {}
    for ours, theirs, bound in wanted:
        name, reach = f"{grid}: {ours} / {theirs}", (">=", bound)
        if ours in costs:
            found[name] = figure(ratios(_speeds(costs[ours]), _speeds(costs[theirs])), "x", reach)
        else:
            found[name] = absent(missing[ours], "x", reach)
    name, reach = f"{grid}: server CPU per decoded MB, chunks / dense", ("<=", 0.35)
    if CHUNKS in costs:
        spent = [[one["server_cpu_s"] for one in costs[label]] for label in (CHUNKS, DENSE)]
        # Ticks of the kernel's clock are 10 ms: sums over the rounds are finer than single rounds.
        found[name] = figure([sum(spent[0]) / max(sum(spent[1]), 0.01)], "x", reach)
    else:
        found[name] = absent(missing[CHUNKS], "x", reach)
    return found


def _table(grid: str, costs: dict[str, list[Any]], missing: dict[str, str]) -> dict[str, Any]:
    """Return a row for each system: its speed beside zarr-python's, and what it costs."""
    found = {}
    for label in LABELS:
        name, details = f"{grid}: {label}, full read", {"table": "full read", "grid": grid, "system": label}
        if label not in costs:
            found |= {name: absent(missing[label]) | details} if label in missing else {}
            continue
        rounds = costs[label]
        megabytes = sum(one["bytes"] for one in rounds) / 1e6
        found[name] = figure(
            ratios(_speeds(rounds), _speeds(costs[DEFAULT])),
            "x zarr",
            mb_s=figure([speed / 1e6 for speed in _speeds(rounds)])["value"],
            client_ms_per_mb=sum(one["cpu_s"] for one in rounds) * 1e3 / megabytes,
            server_ms_per_mb=sum(one["server_cpu_s"] for one in rounds) * 1e3 / megabytes,
            peak_mib=max(one["peak_mib"] for one in rounds),
            server_mib=max(one["server_mib"] for one in rounds),
            **details,
        )
    return found


def _speeds(rounds: list[dict[str, Any]]) -> list[float]:
    return [one["bytes"] / one["seconds"] for one in rounds]


def _moved(grid: str, crew: Crew, here: Ground) -> dict[str, Any]:
    """Return what travels in each encoding, as a part of the pixels: it tells which one was really used."""
    found, server = {}, here.larvik()
    for label in (CHUNKS, DENSE, STORE):
        if label in crew.workers:
            mark = len(server.log)
            answer = _read(crew, label, here)
            lines = finished(server, "DO_GET", mark, within_s=0.5)
            moved = sum(line.get("size_bytes", 0) for line in lines) / answer["bytes"]
            found[f"{grid}: {label}, bytes sent / bytes of pixels"] = figure([moved])
    return found
