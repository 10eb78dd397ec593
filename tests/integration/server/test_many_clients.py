"""Many clients at once: nobody meets an error or a wrong pixel, and the server's memory stays flat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

import fixtures.crowd
from fixtures.crowd import pixels_of_all
from fixtures.tiles import source_of
from larvik.testing.server import larvik_server
from larvik_client.remote import connect

TOKEN = "a-preset-token-of-the-test"
#: What memory may grow by after the first third of the time, in bytes.
GROWTH = 96 << 20


def memory(pid: int) -> dict[int, int]:
    """Return the resident bytes of a server's processes."""
    found = {}
    for one in (psutil.Process(pid), *psutil.Process(pid).children()):
        try:
            found[one.pid] = one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return found


def crowd(output: Path, arguments: Sequence[object]) -> subprocess.Popen[bytes]:
    """Start a process of clients; what it did goes to a file."""
    command = [sys.executable, fixtures.crowd.__file__, *map(str, arguments)]
    with output.open("wb") as file:
        return subprocess.Popen(command, env={**os.environ, "CROWD_TOKEN": TOKEN}, stdout=file)


def crowds(tmp_path: Path, put_into, processes: int, clients: int, seconds: float) -> None:
    with larvik_server(tmp_path, token=TOKEN) as server:
        with connect(server.url, TOKEN) as connection:
            source = source_of(*put_into(connection, pixels_of_all()))
        outputs = [tmp_path / f"crowd-{number}" for number in range(processes)]
        began = time.monotonic()
        arguments = (source.array_id, json.dumps(source.chunks))
        started = [
            crowd(output, (server.url, "CROWD_TOKEN", seconds, clients, 1000 * number, *arguments))
            for number, output in enumerate(outputs)
        ]
        samples: list[tuple[float, dict[int, int]]] = []
        while any(one.poll() is None for one in started) and time.monotonic() - began < seconds + 100:
            samples.append((time.monotonic() - began, memory(server.pid)))
            time.sleep(0.25)
        assert [one.wait(30) for one in started] == [0] * processes
        results = [json.loads(output.read_text()) for output in outputs]
        died = "data_process.died" in server.log
    tiles = np.array([took for result in results for took in result["tiles"]]) * 1000
    print({kind: sum(result["done"].get(kind, 0) for result in results) for kind in results[0]["done"]})
    print(f"tiles: {tiles.size}, p50 {np.median(tiles):.1f} ms, p99 {np.percentile(tiles, 99):.1f} ms")
    assert [error for result in results for error in result["errors"]] == []
    assert not died
    assert tiles.size > 10 * processes * clients
    for pid in samples[-1][1]:
        early = max(found[pid] for at, found in samples if at <= seconds / 3 and pid in found)
        late = max(found[pid] for at, found in samples if at > seconds * 2 / 3 and pid in found)
        print(f"process {pid}: {early >> 20} MiB, then {late >> 20} MiB")
        assert late - early <= GROWTH


def test_many_clients_at_once_meet_no_error_and_no_wrong_pixel(tmp_path, put_into):
    crowds(tmp_path, put_into, processes=2, clients=16, seconds=20)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_64_clients_for_5_minutes_meet_no_error_and_no_wrong_pixel(tmp_path, put_into):
    crowds(tmp_path, put_into, processes=4, clients=16, seconds=300)
