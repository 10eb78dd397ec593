"""Reading pixels over the network: `dense` against zarr-python on the same store, push-down against fetching.

Medians of interleaved rounds, as ratios inside one run. The server and the client share this machine over
loopback.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

TOKEN = "a-token-of-the-benchmark"
CONNECT = """
import sys, time
start = time.perf_counter()
import larvik
larvik.connect(sys.argv[1], token=sys.argv[2])
print(time.perf_counter() - start)
"""


def run(quick: bool = False) -> dict[str, dict[str, Any]]:
    """Measure; `quick` only shows that it runs."""
    import larvik
    from larvik.testing.server import larvik_server

    shape = (1, 1, 16, 512, 512) if quick else (2, 2, 64, 1024, 1024)
    rounds = 3 if quick else 7
    with (
        tempfile.TemporaryDirectory(prefix="larvik-reads-") as folder,
        larvik_server(Path(folder) / "served", token=TOKEN) as server,
        larvik.connect(server.url, token=TOKEN) as connection,
    ):
        connect = [_connect_time(server.url) for _ in range(rounds)]
        source, location = _store(connection, shape)
        dense = _dense(connection, source, Path(folder) / "served" / location, rounds)
        pushed = _push_down(connection, source, rounds, server)
    return {
        "full read over Flight, dense, against zarr-python tuned": {
            "value": dense,
            "unit": "x faster",
            "reach": (">=", 1.3),
        },
        "max over z pushed down against fetch-and-compute: time": {
            "value": pushed[0],
            "unit": "x",
            "reach": ("<=", 1.05),
        },
        "max over z pushed down: part of the bytes": {
            "value": pushed[1],
            "unit": "",
            "reach": ("<=", 1.02 / shape[2]),
        },
        "connect to a server, import included": {"value": statistics.median(connect), "unit": "s"},
    }


def _connect_time(url: str) -> float:
    command = [sys.executable, "-c", CONNECT, url, TOKEN]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _store(connection: Any, shape: tuple[int, ...]) -> tuple[Any, str]:
    """Store an image that compresses as microscopes' do; return its finest level and where it is."""
    from larvik.array.expression import Source
    from larvik.array.spec import ArraySpec, Level, default_axis
    from larvik.ids import new_id

    ones, zeros = (1.0,) * 5, (0.0,) * 5
    axes = tuple(default_axis(dim) for dim in "tczyx")
    spec = ArraySpec(axes, "uint16", (Level("0", shape, shape, shape, ones, zeros),))
    session = connection.arrays.begin("Representation", {"id": new_id(), "name": "benchmark"}, spec, {})
    connection.arrays.put_many(session, _blocks(shape, session.spec.levels[0].shards))
    values = connection.arrays.commit(session).values
    level = ArraySpec.from_dict(values["spec"]).levels[0]
    return Source(values["id"], values["version"], 0, level.shape, "uint16", level.chunks), str(
        values["location"]
    )


def _blocks(shape: tuple[int, ...], shards: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    random = np.random.default_rng(0)
    for start in product(*(range(0, size, step) for size, step in zip(shape, shards, strict=True))):
        extent = tuple(min(step, size - at) for at, size, step in zip(start, shape, shards, strict=True))
        yield start, random.poisson(200, extent).astype("uint16")


def _dense(connection: Any, source: Any, location: Path, rounds: int) -> float:
    """Return how much faster than zarr-python, with one thread per core, a full read is."""
    import zarr

    stored = zarr.open_group(str(location), mode="r")["0"]

    def locally() -> np.ndarray:
        with zarr.config.set({"async.concurrency": 2}):
            return np.asarray(stored[...])

    remotely, locally_s = _interleaved(
        [lambda: connection.arrays.evaluator.reader(source).read((slice(None),) * 5), locally], rounds
    )
    return statistics.median(b / a for a, b in zip(remotely, locally_s, strict=True))


def _push_down(connection: Any, source: Any, rounds: int, server: Any) -> tuple[float, float]:
    """Return time and bytes of a maximum over z pushed down, as parts of fetching and computing it here."""
    from larvik.array.options import set_options
    from larvik.array.record import record

    expression = record("max", [source], {"axes": (2,), "keepdims": False})
    evaluator = connection.arrays.evaluator

    def evaluated(where: str) -> None:
        with set_options(evaluate=where):
            evaluator.evaluate([expression])

    there, here = _interleaved([lambda: evaluated("server"), lambda: evaluated("client")], rounds)
    moved = {}
    for where in ("server", "client"):
        before = _moved_bytes(server)
        evaluated(where)
        moved[where] = _moved_bytes(server) - before
    return statistics.median(a / b for a, b in zip(there, here, strict=True)), moved["server"] / moved[
        "client"
    ]


def _moved_bytes(server: Any) -> int:
    """Return what the server says that it sent; the line of a stream follows its last batch."""
    time.sleep(0.2)
    lines = [json.loads(line) for line in server.log.splitlines() if '"DO_GET"' in line]
    return sum(line.get("size_bytes", 0) for line in lines)


def _interleaved(calls: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Return the seconds of each call in each round, after one round to warm up."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if number:
                taken.append(time.perf_counter() - start)
    return times
