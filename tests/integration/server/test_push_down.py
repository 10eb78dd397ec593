"""Push-down as its users meet it: interrupted, cancelled, several results at once, in blocks, planned."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import larvik
from larvik import Representation
from larvik.errors import CallCancelledError
from larvik.testing.server import LarvikServer
from larvik_client.link import Link
from larvik_client.remote import RemoteConnection

PIXELS = np.random.default_rng(5).integers(0, 4000, (1, 1, 48, 512, 512)).astype("uint16")

INTERRUPTED = """
import os, signal, sys, threading, time
import larvik
connection = larvik.connect(sys.argv[1], sys.argv[2])
array = larvik.Representation.objects.get(id=sys.argv[3]).array
array.isel(z=0, y=0, x=0).compute()
slow = array.astype("float64")
for _ in range(60):
    slow = slow ** 0.3  # no square root: those are fast
heavy = slow.std()
sent_at = []

def interrupt():
    # Not before the result is waited for: an interrupt within an import may be swallowed by Python itself.
    while not any(thread.name.startswith("larvik-fetch") for thread in threading.enumerate()):
        time.sleep(0.01)
    time.sleep(0.5)
    sent_at.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    with larvik.set_options(evaluate="server"):
        heavy.compute()
    print("finished")
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - sent_at[0])
with larvik.set_options(evaluate="server"):
    print(int(array.max().compute()))
"""


@pytest.fixture(scope="module")
def row(connection: RemoteConnection) -> Representation:
    array = xr.DataArray(PIXELS, dims=list("tczyx"))
    return Representation.objects.using(connection).from_xarray(array, name="stack")


def test_an_interrupt_stops_the_server_and_leaves_the_connection_usable(
    server: LarvikServer, row: Representation, tmp_path: Path
) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    command = [sys.executable, str(script), server.url, server.token, row.id]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    first, second = found.stdout.splitlines()
    word, seconds = first.split()
    assert word == "interrupted", found.stderr
    assert float(seconds) < 1.5
    assert int(second) == PIXELS.max()
    deadline = time.monotonic() + 10
    while "CANCELLED" not in server.log:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_push_down_is_cancelled_when_its_caller_says_so(
    connection: RemoteConnection, row: Representation
) -> None:
    slow = row.array.astype("float64")
    for _ in range(60):
        slow = slow**0.3  # no square root: those are fast
    node = slow.std().data.expression
    asked = time.monotonic()
    with larvik.set_options(evaluate="server"), pytest.raises(CallCancelledError):
        connection.arrays.evaluator.evaluate([node], cancelled=lambda: time.monotonic() > asked + 0.3)
    assert time.monotonic() - asked < 3
    with larvik.set_options(evaluate="server"):
        assert row.array.max().compute() == PIXELS.max()


def test_several_results_of_one_compute_come_together(row: Representation) -> None:
    a = row.array
    wanted = xr.Dataset({"high": a.max("z"), "low": a.min("z"), "mean": a.mean("z"), "again": a.max("z")})
    for place in ("server", "client"):
        with larvik.set_options(evaluate=place):
            found = wanted.compute()
        np.testing.assert_array_equal(found["high"], PIXELS.max(2))
        np.testing.assert_array_equal(found["low"], PIXELS.min(2))
        np.testing.assert_array_equal(found["mean"], PIXELS.mean(2))
        np.testing.assert_array_equal(found["again"], PIXELS.max(2))


@pytest.mark.parametrize("place", ["server", "client", "dask", "auto"])
@pytest.mark.parametrize("name", ["stored", "arithmetic", "projection", "single"])
def test_blocks_cover_the_value_once(row: Representation, place: str, name: str) -> None:
    lazy, expected = {
        "stored": (row.array, PIXELS),
        "arithmetic": (row.array * 2 + 1, PIXELS * 2 + 1),
        "projection": (row.array.max("z"), PIXELS.max(2)),
        "single": (row.array.sum(), PIXELS.sum()),
    }[name]
    out, seen = np.zeros(lazy.shape, lazy.dtype), np.zeros(lazy.shape, int)
    with larvik.set_options(evaluate=place):
        for where, block in lazy.larvik.blocks(1 << 20):
            out[where] = block
            seen[where] += 1
    np.testing.assert_array_equal(out, expected)
    assert (seen == 1).all()


def test_blocks_that_are_given_up_leave_the_connection_usable(row: Representation) -> None:
    for place in ("server", "client"):
        with larvik.set_options(evaluate=place):
            blocks = row.array.larvik.blocks(1 << 20)
            next(blocks)
            blocks.close()
            assert row.array.isel(z=0).max().compute() == PIXELS[0, 0, 0].max()


def test_a_connection_learns_its_link_and_the_plan_tells_how_long_it_takes(
    connection: RemoteConnection, row: Representation
) -> None:
    with larvik.set_options(evaluate="client", encoding="chunks"):
        row.array.compute()
    with larvik.set_options(evaluate="server"):
        row.array.max("z").compute()
    link: Any = connection._flight.link
    assert isinstance(link, Link)
    assert link.bandwidth > 1e6
    assert 0 < link.latency_s < 5
    assert link.server_rate > 1e5
    plan = row.array.max("z").larvik.explain()
    assert set(plan.seconds) == {"client", "server"}
    assert all(seconds > 0 for seconds in plan.seconds.values())
