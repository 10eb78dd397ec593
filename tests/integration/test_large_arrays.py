"""Arrays larger than memory: opened at once, reduced and streamed to disk in a share of their size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

import larvik
from larvik.array.spec import ArraySpec, Level, default_axis
from larvik.connection import connect
from larvik.ids import new_id
from larvik.testing.server import LarvikServer, larvik_server

PLANE = (2048, 2048)
#: What memory may grow by, over what a process has after its first small read.
GROWTH_BYTES = 320 << 20
MOST_BYTES = 1 << 30

CLIENT = """
import json, sys, time
import numpy as np
import larvik
from larvik import Representation

def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

url, token, array_id, target = sys.argv[1:]
connection = larvik.connect(url, token)
row = Representation.objects.get(id=array_id)
row.array.isel(z=0, y=slice(0, 64), x=slice(0, 64)).max().compute()
began = time.monotonic()
array = Representation.objects.get(id=array_id).array
opened_s = time.monotonic() - began
before = peak()
with larvik.set_options(evaluate="server"):
    highest = array.max("z").compute()
    mean = float(array.mean().compute())
reduced = peak()
with larvik.set_options(evaluate="client"):
    local = array.max("z").compute()
assert np.array_equal(local, highest)
computed = peak()
sums = 0
with larvik.set_options(evaluate="client"), open(target, "wb") as file:
    for where, block in array.larvik.blocks():
        sums += int(block.sum(dtype="int64"))
        file.write(block[..., ::64, ::64].tobytes())
print(json.dumps({
    "opened_s": opened_s, "before": before, "reduced": reduced, "computed": computed, "streamed": peak(),
    "highest": [int(highest.min()), int(highest.max())], "mean": mean, "sum": sums,
}))
"""


@dataclass(frozen=True)
class Large:
    """A stored array whose plane z is filled with ``z % 1000``, and the server that serves it."""

    server: LarvikServer
    id: str
    planes: int


def write(folder: Path, planes: int) -> str:
    """Store an array shard by shard, without ever holding more than one."""
    shape = (1, 1, planes, *PLANE)
    ones, zeros = (1.0,) * 5, (0.0,) * 5
    spec = ArraySpec(
        tuple(default_axis(dim) for dim in "tczyx"), "uint16", (Level("0", shape, shape, shape, ones, zeros),)
    )
    with connect(folder) as connection:
        session = connection.arrays.begin("Representation", {"id": new_id(), "name": "large"}, spec, {})
        shards = session.spec.levels[0].shards

        def blocks() -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
            for z in range(0, planes, shards[2]):
                for y in range(0, PLANE[0], shards[3]):
                    for x in range(0, PLANE[1], shards[4]):
                        size = (1, 1, min(shards[2], planes - z), min(shards[3], PLANE[0] - y),
                                min(shards[4], PLANE[1] - x))  # fmt: skip
                        block = np.empty(size, "uint16")
                        block[...] = (np.arange(z, z + size[2]) % 1000).reshape(1, 1, -1, 1, 1)
                        yield (0, 0, z, y, x), block

        connection.arrays.put_many(session, blocks())
        return str(connection.arrays.commit(session).values["id"])


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process, or one of its children, ever had."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    children = [int(task) for task in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return max([own, *map(peak_bytes, children)])


def reads_in_bounded_memory(large: Large, tmp_path: Path) -> None:
    target = tmp_path / "streamed"
    command = [sys.executable, "-c", CLIENT, large.server.url, large.server.token, large.id, str(target)]
    before = peak_bytes(large.server.pid)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    values = np.arange(large.planes) % 1000
    assert found["highest"] == [values.max(), values.max()]
    assert found["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert found["sum"] == int(values.sum()) * PLANE[0] * PLANE[1]
    assert target.stat().st_size == large.planes * 2 * (PLANE[0] // 64) * (PLANE[1] // 64)
    assert found["opened_s"] < 0.3
    after = peak_bytes(large.server.pid)
    assert after < MOST_BYTES
    assert after - before < GROWTH_BYTES
    assert found["reduced"] - found["before"] < GROWTH_BYTES / 4
    assert found["streamed"] < MOST_BYTES
    assert found["streamed"] - found["before"] < GROWTH_BYTES


@pytest.fixture
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Large]:
    array_id = write(tmp_path / "data", request.param)
    with larvik_server(tmp_path / "data") as server:
        yield Large(server, array_id, request.param)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is measured by /proc")
@pytest.mark.parametrize("large", [160], indirect=True, ids=["1.25 GiB"])
def test_an_array_is_reduced_and_streamed_in_a_quarter_of_its_size(large: Large, tmp_path: Path) -> None:
    reads_in_bounded_memory(large, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("large", [2400], indirect=True, ids=["20 GB"])
def test_20_gb_are_reduced_and_streamed_in_less_than_1_gib(large: Large, tmp_path: Path) -> None:
    reads_in_bounded_memory(large, tmp_path)


def test_a_server_with_a_cluster_sends_it_what_is_large(scheduler: str, tmp_path: Path) -> None:
    def opened_stores() -> int:  # by the worker that runs this
        from larvik.services import cluster

        return len(cluster._stores)

    planes = 160
    array_id = write(tmp_path / "data", planes)
    with (
        Client(scheduler, set_as_default=False) as workers,
        larvik_server(tmp_path / "data", environment={"LARVIK_DASK": scheduler}) as server,
        connect(server.url, server.token) as connection,
    ):
        assert not any(workers.run(opened_stores).values())
        array = larvik.Representation.objects.using(connection).get(id=array_id).array
        with larvik.set_options(evaluate="server"):
            small = array.isel(z=slice(0, 3)).max("z").compute()
            assert not any(workers.run(opened_stores).values())
            highest = array.max("z").compute()
        assert any(workers.run(opened_stores).values())
    np.testing.assert_array_equal(small, np.full(small.shape, 2))
    np.testing.assert_array_equal(highest, np.full(highest.shape, planes - 1))
