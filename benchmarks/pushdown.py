"""A maximum over z: computed by the server, against fetching the stack and computing here.

On the loopback, and on a shaped link of 50 ms and 100 Mbit/s.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from far import Far
from figures import absent, figure, ratios
from ground import Ground, finished, ground, interleaved
from worker import UnavailableError
from workers import Worker

NAME = "thin lz4"
Z = 2


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the figures."""
    here = ground(quick)
    return _loopback(here) | _shaped(here)


def _loopback(here: Ground) -> dict[str, Any]:
    server = here.larvik()
    with Worker("larvik") as pushing, Worker("larvik") as fetching:
        pushing.ask("open", where=here.larvik_where(NAME, "auto"), truth=here.truth)
        # Not `auto`, which on one host would read files: what is fetched has to travel.
        try:
            fetching.ask("open", where=here.larvik_where(NAME, "chunks"), truth=here.truth)
        except UnavailableError:
            fetching.ask("open", where=here.larvik_where(NAME, "dense"), truth=here.truth)
        calls = {
            "server": lambda: _maximum(pushing, "server"),
            "client": lambda: _maximum(fetching, "client"),
        }
        seconds = interleaved(calls, here.rounds)
        mark = len(server.log)
        _maximum(pushing, "server")
        moved = sum(line.get("size_bytes", 0) for line in finished(server, "DO_GET", mark))
    pixels = 2 * here.shape[0] * here.shape[1] * here.shape[2] * here.shape[3] * here.shape[4]
    return {
        "loopback: max over z, pushed down / fetched, time": figure(
            ratios(seconds["server"], seconds["client"]), "x", ("<=", 1.05)
        ),
        "loopback: max over z, pushed down, bytes sent / bytes of pixels": figure(
            [moved / pixels], "x", ("<=", 1.02 / here.shape[Z])
        ),
    }


def _shaped(here: Ground) -> dict[str, Any]:
    """Return how many times sooner the result is there when it is computed before the link."""
    with ExitStack() as stack:
        url = stack.enter_context(Far(here)).url
        workers, missing = {}, {}
        for encoding in ("dense", "chunks"):
            worker = stack.enter_context(Worker("larvik"))
            where = {**here.larvik_where(NAME, encoding), "url": url}
            try:
                worker.ask("open", where=where, truth=here.truth)
                workers[encoding] = worker
            except UnavailableError as error:
                missing[encoding] = str(error)
        calls: dict[str, Any] = {"server": lambda: _maximum(workers["dense"], "server")}
        for encoding, worker in workers.items():
            calls[encoding] = lambda worker=worker: _maximum(worker, "client")
        seconds = interleaved(calls, 1 if here.quick else 5)
    found = {}
    for encoding, reach in (("dense", (">=", 0.8 * here.shape[Z])), ("chunks", None)):
        name = f"shaped link: max over z, pushed down, against fetching {encoding}"
        if encoding in seconds:
            found[name] = figure(ratios(seconds[encoding], seconds["server"]), "x faster", reach)
        else:
            found[name] = absent(missing[encoding], "x faster", reach)
    return found


def _maximum(worker: Worker, place: str) -> float:
    return float(worker.ask("maximum", axis=Z, where=place)["seconds"])
