"""Reading over a shaped link: 50 ms for the way there and back, 100 Mbit/s; every remote system in turn.

A part of a stack (32 MiB), and single crops. See ``link.py`` for what the link imitates and what not.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import Any

from crops import crops
from far import Far
from figures import absent, figure, ratios
from grids import grid
from ground import Ground, ground, interleaved, plain_name
from peers import hsds_server, nginx, tiled_server, xpublish_server
from peers.environment import PYTHON
from systems import CHUNKS, DENSE, HSDS, NGINX, TILED, TILES, XPUBLISH
from worker import UnavailableError
from workers import Worker

NAME = "thin lz4"
#: Not `auto`, which would find the server on the same host and go around the link.
LABELS = (NGINX, CHUNKS, DENSE, TILES, TILED, HSDS, XPUBLISH)


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the figures."""
    here = ground(quick)
    part = [[0, 1], [0, 1], [0, min(16, here.shape[2])], [0, here.shape[3]], [0, here.shape[4]]]
    some = crops(here.shape)[: 2 if quick else 10]
    rounds = 1 if quick else 5
    with ExitStack() as stack:
        workers, missing = _opened(stack, here)

        def read(label: str, selections: list[Any]) -> list[float]:
            return list(workers[label].ask("read", selections=selections)["each"])

        # So large a read is none for the tile channel.
        large = [label for label in workers if label != TILES]
        reads = interleaved({label: lambda label=label: read(label, [part])[0] for label in large}, rounds)
        single = interleaved(
            {label: lambda label=label: statistics.median(read(label, some)) for label in workers}, rounds
        )
    pixels = 2 * part[2][1] * here.shape[3] * here.shape[4]
    return _rows("read", reads, missing, pixels) | _rows("crop, p50", single, missing, None)


def _rows(
    what: str, seconds: dict[str, list[float]], missing: dict[str, str], pixels: int | None
) -> dict[str, Any]:
    found = {}
    peer = NGINX if NGINX in seconds else DENSE
    for label in LABELS:
        name = f"shaped link: {what}, {label}, against {peer}"
        details = {"table": f"shaped link: {what}", "system": label}
        if label in missing:
            found[name] = absent(missing[label], "x faster") | details
        if label not in seconds:
            continue
        taken = statistics.median(seconds[label])
        speed = {} if pixels is None else {"mb_s": pixels / taken / 1e6}
        found[name] = figure(
            ratios(seconds[peer], seconds[label]), "x faster", ms=taken * 1e3, **speed, **details
        )
    return found


def _opened(stack: ExitStack, here: Ground) -> tuple[dict[str, Worker], dict[str, str]]:
    """Open a client of each system at this end of the link."""
    far = stack.enter_context(Far(here))
    workers: dict[str, Worker] = {}
    missing: dict[str, str] = {}
    for label, module, absent_, where in _ways(stack, here, far):
        try:
            if why := absent_():
                raise UnavailableError(why)
            peer = label in (TILED, HSDS, XPUBLISH)
            worker = stack.enter_context(Worker(module, str(PYTHON)) if peer else Worker(module))
            worker.ask("open", where=where(), truth=here.truth)
            workers[label] = worker
        except UnavailableError as error:
            missing[label] = str(error)
    return workers, missing


def _ways(stack: ExitStack, here: Ground, far: Far) -> list[tuple[str, str, Any, Any]]:
    """Return label, module, why it is missing, and where it reads from, of each system."""

    def linked(server: Any) -> int:
        return int(stack.enter_context(here.link_to(server.port)).ports[0])

    def larvik(label: str) -> Any:
        return lambda: {**here.larvik_where(NAME, label.split(", ")[1]), "url": far.url}

    plain = plain_name(grid(NAME))
    return [
        (NGINX, "tensorstore_files", nginx.missing, lambda: here.nginx_where(NAME, linked(here.nginx))),
        *((label, "larvik", lambda: None, larvik(label)) for label in (CHUNKS, DENSE, TILES)),
        (TILED, "tiled_server", tiled_server.missing, lambda: here.tiled.where(plain, linked(here.tiled))),
        (HSDS, "hsds_server", hsds_server.missing, lambda: here.hsds.where(plain, linked(here.hsds))),
        (
            XPUBLISH, "xpublish_server", xpublish_server.missing,
            lambda: here.xpublish.where(plain, linked(here.xpublish)),
        ),
    ]  # fmt: skip
