"""Limits under load: refusals with a hint, fair shares, stalled callers cut, processes that hang replaced."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from fixtures.tiles import source_of
from larvik.array.expression import Source
from larvik.array.options import set_options
from larvik.errors import LarvikError, UnavailableError
from larvik.proto.v1 import flight_pb2
from larvik.testing.server import LarvikServer, larvik_server
from larvik.wire.expressions import encode_expressions
from larvik_client.remote import RemoteConnection, connect

TOKEN = "a-preset-token-of-the-test"
#: Small limits, so that tests meet them soon.
SMALL = {
    "LARVIK_LIMITS__STREAMS": "4",
    "LARVIK_LIMITS__STREAMS_PER_SUBJECT": "2",
    "LARVIK_LIMITS__STALL_S": "3",
    "LARVIK_LIMITS__HANG_S": "2",
}


@pytest.fixture(autouse=True)
def _by_streams() -> Iterator[None]:
    with set_options(encoding="dense"):
        yield


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LarvikServer]:
    with larvik_server(tmp_path_factory.mktemp("small"), token=TOKEN, environment=SMALL) as running:
        yield running


@pytest.fixture(scope="module")
def owner(small_server: LarvikServer) -> Iterator[RemoteConnection]:
    with connect(small_server.url, TOKEN) as opened:
        yield opened


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000, (48, 1024, 1024), dtype="uint16")


@pytest.fixture(scope="module")
def source(owner: RemoteConnection, put_into, pixels: np.ndarray) -> Source:
    return source_of(*put_into(owner, pixels))


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until something holds, asking again and again."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} did not happen within {seconds} s"
        threading.Event().wait(0.02)


def data_processes(pid: int) -> list[psutil.Process]:
    """Return the data processes, the oldest first: the one for bulk data."""
    found = [
        one for one in psutil.Process(pid).children() if "larvik_server.flight" in " ".join(one.cmdline())
    ]
    return sorted(found, key=psutil.Process.create_time)


def reading(source: Source) -> flight_pb2.FlightCommand:
    command = flight_pb2.FlightCommand()
    command.array_read.expression.CopyFrom(encode_expressions([source]))
    return command


class Stream:
    """One DoGet of a client of its own, read only as far as the test wants."""

    def __init__(self, server: LarvikServer, source: Source) -> None:
        self.client = flight.FlightClient(server.flight_url)
        headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
        options = flight.FlightCallOptions(timeout=300, headers=headers)
        descriptor = flight.FlightDescriptor.for_command(reading(source).SerializeToString())
        info = self.client.get_flight_info(descriptor, options)
        self.reader = self.client.do_get(info.endpoints[0].ticket, options)

    def take(self) -> int:
        return self.reader.read_chunk().data.nbytes

    def close(self) -> None:
        with suppress(pa.ArrowException):
            self.reader.cancel()
        self.client.close()


def ends_early(stream: Stream) -> bool:
    """Whether a stream breaks off, rather than to end."""
    try:
        while True:
            stream.take()
    except StopIteration:
        return False
    except (pa.ArrowException, OSError):
        return True


def opened(server: LarvikServer, source: Source) -> Stream:
    """Return an open stream, once there is a place for it."""
    give_up = time.monotonic() + 20
    while True:
        try:
            return Stream(server, source)
        except flight.FlightServerError:
            assert time.monotonic() < give_up


def test_too_many_streams_are_refused_until_one_ends_and_clients_wait_for_that(
    small_server, owner, source, pixels
):
    held = [opened(small_server, source) for _ in range(2)]
    for stream in held:
        stream.take()
    with connect(small_server.url, TOKEN, timeout_s=1) as impatient:
        with pytest.raises(LarvikError) as caught:
            impatient.arrays.evaluator.reader(source).read((slice(0, 1), slice(0, 99), slice(0, 99)))
        assert caught.value.reason == "STREAMS_EXHAUSTED"
        assert float(caught.value.metadata["retry_after_s"]) > 0
    for stream in held:
        stream.take()  # taken in time, it is not stalled
    done = []

    def read() -> None:
        with set_options(encoding="dense"):  # a thread has options of its own
            done.append(owner.arrays.evaluator.reader(source).read((slice(0, 1),) * 3))

    patient = threading.Thread(target=read)
    patient.start()
    patient.join(0.5)
    assert patient.is_alive()
    held[0].close()
    patient.join(20)
    assert not patient.is_alive()
    assert np.array_equal(done[0], pixels[:1, :1, :1])
    held[1].close()


def test_a_stalled_reader_is_cut_and_costs_little_memory(small_server, source, pixels):
    bulk = data_processes(small_server.pid)[0]
    with connect(small_server.url, TOKEN) as connection:  # warm: what any read costs once is not counted
        connection.arrays.evaluator.reader(source).read((slice(0, 48), slice(0, 1024), slice(0, 1024)))
    before, cuts = bulk.memory_info().rss, small_server.log.count("flight.cut")
    stalled = opened(small_server, source)
    began = time.monotonic()
    stalled.take()
    highest = 0

    def is_cut() -> bool:
        nonlocal highest
        highest = max(highest, bulk.memory_info().rss)
        return small_server.log.count("flight.cut") > cuts

    wait_for(is_cut, "the end of the stalled stream", 15)
    assert time.monotonic() - began >= 3
    assert highest - before <= 16 << 20
    assert ends_early(stalled)
    stalled.close()
    assert '"reason": "STREAM_STALLED"' in small_server.log
    with connect(small_server.url, TOKEN) as connection:
        reader = connection.arrays.evaluator.reader(source)
        assert np.array_equal(reader.read((slice(3, 4), slice(0, 99), slice(0, 99))), pixels[3:4, :99, :99])


def test_a_reader_that_takes_its_time_within_the_limit_is_not_cut(small_server, source, pixels):
    stream = opened(small_server, source)
    received = 0
    for _ in range(4):
        received += stream.take()
        threading.Event().wait(0.8)
    with suppress(StopIteration):
        while True:
            received += stream.take()
    stream.close()
    assert received >= pixels.nbytes


def test_a_cancelled_read_gives_its_place_back_at_once(small_server, source):
    took = []
    for _ in range(5):
        held = [opened(small_server, source) for _ in range(2)]
        for stream in held:
            stream.take()
        held[0].reader.cancel()
        began = time.monotonic()
        another = opened(small_server, source)
        took.append(time.monotonic() - began)
        for stream in (*held, another):
            stream.close()
    assert min(took) < 0.25


@pytest.mark.parametrize("lane", [0, 1])
def test_a_data_process_that_hangs_is_replaced(small_server, owner, source, pixels, lane):
    wait_for(lambda: len(data_processes(small_server.pid)) == 2, "two data processes")
    wait_for(lambda: bool(owner._tile_lanes()), "a process for tiles")
    hanging = data_processes(small_server.pid)[lane]
    hanging.suspend()
    wait_for(lambda: not hanging.is_running() or hanging.status() == psutil.STATUS_ZOMBIE, "its end", 15)
    assert '"event": "data_process.hangs"' in small_server.log
    with set_options(encoding="tiles" if lane else "dense"):
        reader = owner.arrays.evaluator.reader(source)
        selection = (slice(2, 3), slice(0, 99), slice(0, 99))
        assert np.array_equal(reader.read(selection), pixels[selection])


def test_a_busy_data_process_is_not_taken_for_one_that_hangs(small_server, source):
    before = small_server.log.count("data_process.hangs")
    alive = {one.pid for one in data_processes(small_server.pid)}
    with connect(small_server.url, TOKEN) as connection:
        reader = connection.arrays.evaluator.reader(source)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            reader.read((slice(0, 48), slice(0, 1024), slice(0, 1024)))
    assert small_server.log.count("data_process.hangs") == before
    assert alive <= {one.pid for one in data_processes(small_server.pid)}


KILLED = """
import sys, time
import numpy as np
from larvik.array.options import set_options
from larvik.array.expression import Source
from larvik.proto.v1 import flight_pb2
from larvik.wire.expressions import encode_expressions
from larvik_client.remote import connect

kind, url, token, array_id = sys.argv[1:]
source = Source(array_id, 1, 0, (48, 1024, 1024), "uint16", eval(sys.stdin.readline()))
connection = connect(url, token)

def ready():
    print("ready", flush=True)
    time.sleep(600)

if kind in ("dense", "chunks", "table"):
    command = flight_pb2.FlightCommand()
    if kind == "table":
        command.table_read.query.model = "Representation"
    else:
        command.array_read.expression.CopyFrom(encode_expressions([source]))
        command.array_read.accept_encodings.append(getattr(flight_pb2, "ENCODING_" + kind.upper()))
        command.array_read.codecs.extend(["blosc", "zstd", "gzip", "none", "zarr"])
    stream = connection._flight.batches(command)
    next(stream)
    ready()
elif kind == "tiles":
    set_options(encoding="tiles")
    connection.arrays.evaluator.reader(source).read((slice(0, 1), slice(0, 99), slice(0, 99)))
    ready()
else:
    from larvik.array.spec import ArraySpec, Level, default_axis
    from larvik.ids import new_id
    shape = (64, 1024, 1024)
    level = Level("0", shape, shape, shape, (1.0,) * 3, (0.0,) * 3)
    spec = ArraySpec(tuple(map(default_axis, "zyx")), "uint16", (level,))
    session = connection.arrays.begin("Representation", {"id": new_id(), "name": "cut"}, spec, {})
    shards = session.spec.levels[0].shards
    def blocks():
        yield (0, 0, 0), np.ones(shards, "uint16")
        yield (shards[0], 0, 0), np.ones(shards, "uint16")
        ready()
    connection.arrays.put_many(session, blocks())
"""


@pytest.mark.parametrize("kind", ["dense", "chunks", "table", "tiles", "upload"])
def test_a_client_killed_in_mid_stream_leaves_nothing_open(small_server, owner, source, pixels, kind):
    clients = []
    for _ in range(2):  # as many as there are places
        command = [sys.executable, "-c", KILLED, kind, small_server.url, TOKEN, source.array_id]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        client.stdin.write(f"{source.chunks}\n")
        client.stdin.flush()
        clients.append(client)
    for client in clients:
        assert client.stdout.readline() == "ready\n"
    for client in clients:
        client.kill()
        client.communicate()
    with connect(small_server.url, TOKEN, timeout_s=15) as connection:
        reader = connection.arrays.evaluator.reader(source)
        selection = (slice(3, 5), slice(0, 99), slice(0, 99))
        assert np.array_equal(reader.read(selection), pixels[selection])


def test_tile_channels_are_bounded(tmp_path, put_into):
    few = {"LARVIK_LIMITS__TILE_CHANNELS_PER_SUBJECT": "1"}
    with (
        larvik_server(tmp_path, token=TOKEN, environment=few) as server,
        connect(server.url, TOKEN) as first,
        connect(server.url, TOKEN, timeout_s=2) as second,
        set_options(encoding="tiles"),
    ):
        data = np.arange(90_000, dtype="uint16").reshape(1, 300, 300)
        source = source_of(*put_into(first, data))
        wait_for(lambda: bool(first._tile_lanes()), "a process for tiles")
        wait_for(lambda: bool(second._tile_lanes()), "a process for tiles")
        selection = (slice(0, 1), slice(0, 99), slice(0, 99))
        assert np.array_equal(first.arrays.evaluator.reader(source).read(selection), data[selection])
        with pytest.raises(LarvikError) as caught:
            second.arrays.evaluator.reader(source).read(selection)
        assert caught.value.reason == "STREAMS_EXHAUSTED"
        first.close()
        with connect(server.url, TOKEN) as third:  # waits for the place as long as it takes
            wait_for(lambda: bool(third._tile_lanes()), "a process for tiles")
            assert np.array_equal(third.arrays.evaluator.reader(source).read(selection), data[selection])


def test_memory_in_flight_is_bounded_but_never_refuses_a_lone_caller(tmp_path, put_into):
    little = {
        "LARVIK_LIMITS__HELD_BYTES": str(2 << 20),
        "LARVIK_LIMITS__HELD_BYTES_PER_SUBJECT": str(1 << 20),
    }
    with (
        larvik_server(tmp_path, token=TOKEN, environment=little) as server,
        connect(server.url, TOKEN) as connection,
    ):
        data = np.random.default_rng(1).integers(0, 60_000, (16, 1024, 1024), dtype="uint16")
        source = source_of(*put_into(connection, data))
        whole = (slice(0, 16), slice(0, 1024), slice(0, 1024))
        held = Stream(server, source)
        held.take()
        with pytest.raises(flight.FlightServerError, match="bytes in flight"):
            Stream(server, source)
        held.close()
        assert np.array_equal(connection.arrays.evaluator.reader(source).read(whole), data)


def test_an_unreachable_server_is_said_so(tmp_path):
    server = larvik_server(tmp_path, token=TOKEN)
    with connect(server.url, TOKEN, timeout_s=3) as connection:
        server.stop()
        missing = Source("01a20000-0000-7000-8000-000000000000", 1, 0, (4, 4), "uint8", (4, 4))
        with set_options(encoding="tiles"), pytest.raises(UnavailableError):
            connection.arrays.evaluator.reader(missing).read((slice(0, 1), slice(0, 1)))
