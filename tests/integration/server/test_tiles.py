"""The tile channel: right pixels, errors as answers; what a client sends ends its own channel at most."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from fixtures.tiles import box, pixels_of, raw_channel, source_of
from larvik.array.expression import Constant, Expression, Source
from larvik.array.options import set_options
from larvik.array.record import record
from larvik.errors import DeadlineError, LarvikError, UnauthenticatedError
from larvik.proto.v1 import flight_pb2
from larvik.services.bundle import ServiceConfig, open_services
from larvik.testing.server import LarvikServer, larvik_server
from larvik.wire.expressions import encode_expressions
from larvik_client.remote import RemoteConnection, connect

TOKEN = "a-preset-token-of-the-test"
Box = tuple[slice, ...]


@pytest.fixture(autouse=True)
def _by_tiles() -> Iterator[None]:
    with set_options(encoding="tiles"):
        yield


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until something holds, asking again and again."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} did not happen within {seconds} s"
        threading.Event().wait(0.02)


def random_box(rng: np.random.Generator, shape: tuple[int, ...], most: int = 200) -> Box:
    start = [int(rng.integers(size)) for size in shape]
    stop = [a + 1 + int(rng.integers(min(size - a, most))) for a, size in zip(start, shape, strict=True)]
    return tuple(map(slice, start, stop))


def tile_process(pid: int) -> psutil.Process:
    """Return the process for tiles: the data process that was started last."""
    wait_for(lambda: len(data_processes(pid)) == 2, "two data processes")
    return max(data_processes(pid), key=psutil.Process.create_time)


def data_processes(pid: int) -> list[psutil.Process]:
    return [
        one for one in psutil.Process(pid).children() if "larvik_server.flight" in " ".join(one.cmdline())
    ]


def tile_url(connection: RemoteConnection) -> str:
    """Wait until the process for tiles serves, and return its address."""
    found: list[str] = []

    def is_told() -> bool:
        found[:] = [lane._url() for lane in connection._tile_lanes()]
        return bool(found)

    wait_for(is_told, "a process for tiles")
    return found[0]


@dataclass(frozen=True)
class Own:
    """A server whose processes a test may kill, and an array there."""

    server: LarvikServer
    connection: RemoteConnection
    source: Source
    pixels: np.ndarray


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, put_into) -> Iterator[Own]:
    with (
        larvik_server(tmp_path_factory.mktemp("own"), token=TOKEN) as server,
        connect(server.url, TOKEN) as connection,
    ):
        pixels = np.arange(90_000, dtype="uint16").reshape(1, 300, 300)
        source = source_of(*put_into(connection, pixels))
        tile_url(connection)
        yield Own(server, connection, source, pixels)


#: A tile of that array.
TILE = (slice(0, 1), slice(5, 200), slice(0, 99))


@dataclass(frozen=True)
class Large:
    """An array of which a reduction takes a while."""

    source: Source
    pixels: np.ndarray

    @property
    def slow(self) -> Expression:
        """An expression of which every tile reads all."""
        return record("std", [self.source], {"axes": (0,), "keepdims": False, "ddof": 0.0})


@pytest.fixture(scope="module")
def large(connection: RemoteConnection, put) -> Large:
    pixels = np.random.default_rng(3).integers(0, 60_000, (16, 1024, 1024), dtype="uint16")
    return Large(source_of(*put(pixels, "large")), pixels)


def test_every_tile_of_a_level_has_its_pixels(connection, stored):
    reader = connection.arrays.evaluator.reader(source_of(stored.array_id, stored.spec))
    rng = np.random.default_rng(0)
    for _ in range(60):
        selection = random_box(rng, stored.pixels.shape)
        got = reader.read(selection)
        assert got.dtype == stored.pixels.dtype
        assert got.flags.aligned
        assert got.flags.writeable
        assert np.array_equal(got, stored.pixels[selection])
    assert connection._flight.small._exchange is not None


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "int64", "float16", "float64"])
def test_tiles_keep_the_dtype(connection, put, dtype):
    pixels = (np.random.default_rng(1).integers(0, 2, (3, 40, 50)) * 3.5).astype(dtype)
    reader = connection.arrays.evaluator.reader(source_of(*put(pixels)))
    out = np.zeros((2, 60, 60), dtype)[:, 10:40, 10:60]  # of other strides
    got = reader.read((slice(1, 3), slice(5, 35), slice(0, 50)), out)
    assert got.dtype == dtype
    assert np.array_equal(out, pixels[1:3, 5:35])


def test_a_scroll_through_planes_has_their_pixels(connection, large):
    reader = connection.arrays.evaluator.reader(large.source)
    for plane in (*range(16), *reversed(range(16))):
        selection = (slice(plane, plane + 1), slice(100, 612), slice(200, 712))
        assert np.array_equal(reader.read(selection), large.pixels[selection])


def test_what_the_server_computes_travels_as_a_tile(connection, stored):
    source = source_of(stored.array_id, stored.spec)
    highest = record("max", [source], {"axes": (2,), "keepdims": False})
    twice = record("multiply", [highest, Constant(2)], {})
    with set_options(evaluate="server"):
        (got,) = connection.arrays.evaluator.evaluate([twice])
    assert np.array_equal(got, stored.pixels.max(2) * 2)


def test_a_large_read_is_no_tile(connection, large):
    with set_options(encoding="auto"):
        reader = connection.arrays.evaluator.reader(large.source)
        assert np.array_equal(reader.read((slice(0, 16), slice(0, 1024), slice(0, 1024))), large.pixels)
    small = connection._flight.small
    assert small.read(large.source) is None


def test_stored_chunks_travel_as_they_are(connection, server, large):
    with open_services(ServiceConfig(server.folder), lock=False, create=False) as services:
        reader = services.arrays.source_reader(services.identity.local(), large.source)
        expected = reader.stored_chunk((3, 1, 0))
        document = reader.metadata.document
    with raw_channel(server.flight_url, server.token) as channel:
        opened = channel.ask(open=flight_pb2.TileOpen(expression=encode_expressions([large.source])))
        assert json.loads(opened.reply.document) == document
        ask = flight_pb2.TileRead(
            handle=opened.reply.handle, start=[3, 1, 0], encoding=flight_pb2.ENCODING_CHUNKS
        )
        assert channel.ask(read=ask).data == expected


def refusals(source: Source, handle: int) -> list[tuple[dict[str, object], str]]:
    """Return requests that are refused, and why."""
    inside = box(tuple(slice(0, 1) for _ in source.shape))
    rank = len(source.shape)

    def read(**changes: object) -> dict[str, object]:
        return {"read": flight_pb2.TileRead(**{"handle": handle, **inside, **changes})}

    missing = Source("01a20000-0000-7000-8000-000000000000", 1, 0, (4,), "uint8", (4,))
    two = encode_expressions([source, source])
    return [
        (read(handle=10**6), "TILE_HANDLE_UNKNOWN"),
        (read(start=[0] * (rank - 1)), "TILE_INVALID"),
        (read(size=[1] * (rank + 1)), "TILE_INVALID"),
        (read(size=[0] * rank), "SELECTION_OUT_OF_BOUNDS"),
        (read(start=list(source.shape)), "SELECTION_OUT_OF_BOUNDS"),
        (read(start=[2**64 - 1] * rank), "SELECTION_OUT_OF_BOUNDS"),
        (read(encoding=flight_pb2.ENCODING_STORE), "TILE_INVALID"),
        (read(encoding=77), "TILE_INVALID"),
        (read(encoding=flight_pb2.ENCODING_CHUNKS), "TILE_INVALID"),
        (read(encoding=flight_pb2.ENCODING_CHUNKS, start=[10**9] * rank, size=[]), "SELECTION_OUT_OF_BOUNDS"),
        ({}, "MESSAGE_MALFORMED"),
        ({"open": flight_pb2.TileOpen()}, "EXPRESSION_INVALID"),
        ({"open": flight_pb2.TileOpen(expression=two)}, "EXPRESSION_INVALID"),
        ({"open": flight_pb2.TileOpen(expression=encode_expressions([missing]))}, "ARRAY_NOT_FOUND"),
    ]


def test_a_request_that_fails_is_answered_and_the_channel_goes_on(server, stored):
    source = source_of(stored.array_id, stored.spec)
    with raw_channel(server.flight_url, server.token) as channel:
        handle = channel.open(source)
        for kind, reason in refusals(source, handle):
            number = channel.send(**kind)
            answer = channel.receive()
            assert (answer.reply.id, answer.reason) == (number, reason), kind
            assert answer.data is None
            assert answer.error.message
        for number in (channel.last, 0, 1):
            channel.send_bytes(flight_pb2.TileRequest(id=number, cancel={}).SerializeToString())
            assert channel.receive().reason == "TILE_INVALID"
        for data in (b"\xff\xff\xff", b"x" * (2 << 20)):
            channel.send_bytes(data)
            assert channel.receive().reason == "MESSAGE_MALFORMED"
        selection = tuple(slice(0, min(size, 9)) for size in source.shape)
        answer = channel.ask(read=flight_pb2.TileRead(handle=handle, **box(selection)))
        expected = stored.pixels[selection]
        assert np.array_equal(pixels_of(answer, expected.shape, expected.dtype), expected)


def test_a_tile_of_more_than_16_mib_is_refused(server, large):
    with raw_channel(server.flight_url, server.token) as channel:
        handle = channel.open(large.source)
        most = channel.ask(read=flight_pb2.TileRead(handle=handle, start=[0, 0, 0], size=[8, 1024, 1024]))
        assert len(most.data) == 16 << 20
        more = channel.ask(read=flight_pb2.TileRead(handle=handle, start=[0, 0, 0], size=[9, 1024, 1024]))
        assert more.reason == "TILE_INVALID"


def test_reads_may_follow_an_open_before_its_answer(server, stored):
    source = source_of(stored.array_id, stored.spec)
    selection = tuple(slice(0, min(size, 5)) for size in source.shape)
    with raw_channel(server.flight_url, server.token) as channel:
        handle = channel.send(open=flight_pb2.TileOpen(expression=encode_expressions([source])))
        channel.send(read=flight_pb2.TileRead(handle=handle, **box(selection)))
        assert channel.receive().reply.handle == handle
        expected = stored.pixels[selection]
        assert np.array_equal(pixels_of(channel.receive(), expected.shape, expected.dtype), expected)


def test_later_requests_of_a_group_replace_those_that_wait(server, large):
    with raw_channel(server.flight_url, server.token) as channel:
        handle = channel.open(large.slow)
        sent = [
            channel.send(read=flight_pb2.TileRead(handle=handle, start=[0, 0], size=[1024, 1024], group=7))
            for _ in range(12)
        ]
        answers = {answer.reply.id: answer for answer in (channel.receive() for _ in sent)}
        assert set(answers) == set(sent)
        assert answers[sent[-1]].error is None
        replaced = [answer for answer in answers.values() if answer.error is not None]
        assert len(replaced) >= 6
        assert {answer.reason for answer in replaced} == {"CALL_CANCELLED"}


def test_at_most_16_requests_wait(server, large):
    with raw_channel(server.flight_url, server.token) as channel:
        handle = channel.open(large.slow)
        sent = [
            channel.send(read=flight_pb2.TileRead(handle=handle, start=[0, 0], size=[1024, 1024]))
            for _ in range(40)
        ]
        answers = [channel.receive() for _ in sent]
        refused = [answer for answer in answers if answer.error is not None]
        assert 1 <= len(refused) <= 24
        assert {answer.reason for answer in refused} == {"TILES_EXHAUSTED"}
        assert all(float(answer.error.metadata["retry_after_s"]) > 0 for answer in refused)


def test_cancelled_requests_are_dropped_and_work_is_given_up(server, large):
    with raw_channel(server.flight_url, server.token) as channel:
        handle = channel.open(large.slow)
        ask = flight_pb2.TileRead(handle=handle, start=[0, 0], size=[1024, 1024])
        sent = [channel.send(read=ask) for _ in range(10)]
        channel.send(cancel=flight_pb2.TileCancel(ids=sent))
        answers = [channel.receive() for _ in sent]
        assert sum(answer.reason == "CALL_CANCELLED" for answer in answers) >= 8
        assert channel.ask(read=ask).error is None


def test_the_handle_that_was_not_used_for_longest_is_closed(server, stored):
    source = source_of(stored.array_id, stored.spec)
    ask = {"start": [0] * len(source.shape), "size": [1] * len(source.shape)}
    with raw_channel(server.flight_url, server.token) as channel:
        handles = [channel.open(source) for _ in range(257)]
        assert channel.ask(read=flight_pb2.TileRead(handle=handles[0], **ask)).reason == "TILE_HANDLE_UNKNOWN"
        assert channel.ask(read=flight_pb2.TileRead(handle=handles[1], **ask)).error is None


def test_a_client_opens_again_what_the_server_closed(connection, stored):
    source = source_of(stored.array_id, stored.spec)
    small = connection._flight.small
    small.read(source, tuple(slice(0, 1) for _ in source.shape))
    exchange = small._exchange[1]
    for opening in exchange._opened.values():
        opening.id = 10**9
    selection = tuple(slice(0, min(size, 4)) for size in source.shape)
    assert np.array_equal(small.read(source, selection), stored.pixels[selection])


def test_any_flipped_bit_is_answered_or_ends_only_its_channel(server, connection, stored):
    source = source_of(stored.array_id, stored.spec)
    rng = random.Random(5)
    selection = tuple(slice(0, min(size, 3)) for size in source.shape)
    for attempt in range(40):
        with raw_channel(server.flight_url, server.token) as channel:
            handle = channel.open(source)
            requests = [
                flight_pb2.TileRequest(id=10, read=flight_pb2.TileRead(handle=handle, **box(selection))),
                flight_pb2.TileRequest(
                    id=10, open=flight_pb2.TileOpen(expression=encode_expressions([source]))
                ),
            ]
            data = bytearray(requests[attempt % 2].SerializeToString())
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            channel.send_bytes(bytes(data))
            # A large id of its own still comes after whatever id the flipped message had.
            channel.send(2**64 - 1, read=flight_pb2.TileRead(handle=handle, **box(selection)))
            give_up = time.monotonic() + 20
            while channel.receive().reply.id not in (2**64 - 1, 0):
                assert time.monotonic() < give_up
    reader = connection.arrays.evaluator.reader(source)
    assert np.array_equal(reader.read(selection), stored.pixels[selection])


@pytest.mark.parametrize("kind", ["batch", "nothing", "command", "early"])
def test_a_stream_that_is_no_tile_channel_ends_alone(server, connection, stored, kind):
    command = b"" if kind == "command" else None
    with raw_channel(server.flight_url, server.token, command) as channel:
        if kind == "batch":
            schema = pa.schema([("x", pa.int64())])
            channel.writer.begin(schema)
            channel.writer.write_batch(pa.record_batch([pa.array([1])], schema=schema))
            assert channel.receive().reason == "MESSAGE_MALFORMED"
        elif kind == "nothing":
            channel.writer.done_writing()
            with pytest.raises(StopIteration):
                channel.reader.read_chunk()
        elif kind == "command":
            with pytest.raises(flight.FlightServerError, match="tile_channel"):
                channel.reader.read_chunk()
    source = source_of(stored.array_id, stored.spec)
    selection = tuple(slice(0, min(size, 2)) for size in source.shape)
    reader = connection.arrays.evaluator.reader(source)
    assert np.array_equal(reader.read(selection), stored.pixels[selection])


def test_many_threads_share_one_channel(connection, large):
    reader = connection.arrays.evaluator.reader(large.source)

    def read_some(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(25):
            selection = random_box(rng, large.source.shape, 150)
            selection = (slice(selection[0].start, selection[0].start + 1), *selection[1:])
            assert np.array_equal(reader.read(selection), large.pixels[selection])

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(read_some, range(24)))


def test_an_error_is_the_one_of_its_caller_alone(connection, large, stored):
    good = connection.arrays.evaluator.reader(large.source)
    bad = Source("01a20000-0000-7000-8000-000000000000", 1, 0, (4, 4), "uint8", (4, 4))
    small = connection._flight.small

    def fails() -> None:
        for _ in range(20):
            with pytest.raises(LarvikError, match="There is no array"):
                small.read(bad)

    def reads() -> None:
        for _ in range(20):
            assert np.array_equal(
                good.read((slice(0, 1), slice(0, 9), slice(0, 9))), large.pixels[:1, :9, :9]
            )

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for work in (fails, reads) * 4]:
            done.result()


def test_the_end_of_a_channel_has_one_line_with_counts(server, stored):
    source = source_of(stored.array_id, stored.spec)
    ask = {"start": [0] * len(source.shape), "size": [1] * len(source.shape)}
    with raw_channel(server.flight_url, server.token) as channel:
        handle = channel.open(source)
        for _ in range(3):
            channel.ask(read=flight_pb2.TileRead(handle=handle, **ask))
        channel.ask(read=flight_pb2.TileRead(handle=10**6, **ask))

    def lines() -> list[dict[str, object]]:
        every = [json.loads(line) for line in server.log.splitlines() if "DO_EXCHANGE" in line]
        return [line for line in every if (line.get("tiles"), line.get("failed")) == (3, 1)]

    wait_for(lambda: len(lines()) == 1, "the line of the channel")


def test_a_killed_process_for_tiles_is_replaced_and_its_clients_go_on(own):
    reader = own.connection.arrays.evaluator.reader(own.source)
    assert np.array_equal(reader.read(TILE), own.pixels[TILE])
    for _ in range(2):
        killed = tile_process(own.server.pid)
        killed.send_signal(signal.SIGKILL)
        for _ in range(20):
            assert np.array_equal(reader.read(TILE), own.pixels[TILE])
        wait_for(lambda killed=killed: not killed.is_running(), "the end of the killed process")
    assert tile_process(own.server.pid).pid != killed.pid


def test_a_channel_that_broke_while_nobody_read_is_replaced(own):
    with connect(own.server.url, TOKEN) as connection:
        tile_url(connection)
        reader = connection.arrays.evaluator.reader(own.source)
        assert np.array_equal(reader.read(TILE), own.pixels[TILE])
        killed = tile_process(own.server.pid)
        killed.send_signal(signal.SIGKILL)
        wait_for(lambda: not killed.is_running(), "the end of the killed process")
        exchange = connection._flight.small._exchange[1]
        wait_for(lambda: _refuses_writes(exchange), "the end of the channel")
        assert np.array_equal(reader.read(TILE), own.pixels[TILE])


def _refuses_writes(exchange):
    """Tell whether the client's library has noticed that the channel is gone."""
    try:
        exchange._writer.write_metadata(b"")
    except (pa.ArrowException, OSError):
        return True
    return False


def test_a_call_waits_no_longer_than_its_deadline(own):
    with connect(own.server.url, TOKEN, timeout_s=2) as connection:
        tile_url(connection)
        reader = connection.arrays.evaluator.reader(own.source)
        assert np.array_equal(reader.read(TILE), own.pixels[TILE])
        process = tile_process(own.server.pid)
        process.suspend()
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            reader.read(TILE)
        assert time.monotonic() - began < 6
        process.resume()
        assert np.array_equal(reader.read(TILE), own.pixels[TILE])


def test_a_channel_that_was_idle_keeps_deadlines_too(own, monkeypatch):
    monkeypatch.setattr("larvik_client.tiles.LOOK_S", 0.02)
    with connect(own.server.url, TOKEN, timeout_s=2) as connection:
        tile_url(connection)
        reader = connection.arrays.evaluator.reader(own.source)
        assert np.array_equal(reader.read(TILE), own.pixels[TILE])
        wait_for(lambda: connection._flight.small._looker is None, "the end of looking at deadlines")
        process = tile_process(own.server.pid)
        process.suspend()
        try:
            with pytest.raises(DeadlineError):
                reader.read(TILE)
        finally:
            process.resume()


def test_a_revoked_key_is_refused_on_an_open_channel_within_5_seconds(own):
    with open_services(ServiceConfig(own.server.folder), lock=False, create=False) as services:
        subject = services.identity.subject("guest", "service")
        issued = services.identity.issue(subject, "guest", ["read"], lifetime=timedelta(days=1))
        with raw_channel(tile_url(own.connection), issued.token) as channel:
            ask = flight_pb2.TileRead(handle=channel.open(own.source), **box(TILE))
            assert channel.ask(read=ask).error is None
            services.identity.revoke(issued.key_id)
            revoked = time.monotonic()
            wait_for(lambda: channel.ask(read=ask).error is not None, "the refusal", 6)
            assert time.monotonic() - revoked <= 5.5
            with pytest.raises(UnauthenticatedError):
                raise channel.ask(read=ask).error


def test_a_deleted_array_is_refused_on_an_open_channel(own, put_into):
    source = source_of(*put_into(own.connection, own.pixels))
    with raw_channel(tile_url(own.connection), TOKEN) as channel:
        ask = flight_pb2.TileRead(handle=channel.open(source), **box(TILE))
        assert channel.ask(read=ask).error is None
        own.connection.catalog.delete("Representation", source.array_id)
        wait_for(lambda: channel.ask(read=ask).reason == "ARRAY_NOT_FOUND", "the refusal", 8)


def test_without_a_process_for_tiles_the_one_for_bulk_data_takes_them_and_ends_in_time(tmp_path, put_into):
    off = {"LARVIK_TILE_PROCESSES": "0"}
    with (
        larvik_server(tmp_path, token=TOKEN, environment=off) as server,
        connect(server.url, TOKEN) as connection,
    ):
        pixels = np.arange(90_000, dtype="uint16").reshape(1, 300, 300)
        reader = connection.arrays.evaluator.reader(source_of(*put_into(connection, pixels)))
        assert np.array_equal(reader.read(TILE), pixels[TILE])
        assert connection._flight.small._exchange is not None
        assert len(data_processes(server.pid)) == 1
        began = time.monotonic()  # an open channel does not hold it up
        assert server.stop() == 0
        assert time.monotonic() - began < 10


FORK = """
import os, sys
import numpy as np
from larvik.array.options import set_options
from larvik.array.expression import Source
from larvik.errors import PreconditionError
from larvik_client.remote import connect

set_options(encoding="tiles")
url, array_id = sys.argv[1:]
connection = connect(url, os.environ["TOKEN"])
source = Source(array_id, 1, 0, (1, 2, 5, 130, 170), "uint16", eval(os.environ["CHUNKS"]))

def read():
    selection = tuple(slice(0, 1) for _ in source.shape)
    return connection.arrays.evaluator.reader(source).read(selection)

def in_child(call):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return
    try:
        call()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)

def refused():
    try:
        read()
    except PreconditionError as error:
        assert error.reason == "PROCESS_FORKED"
    else:
        raise AssertionError("the child read")

in_child(read)
first = read()
in_child(refused)
assert (read() == first).all()
"""


def test_tiles_are_read_on_both_sides_of_a_fork_or_refused(server: LarvikServer, stored):
    chunks = repr(stored.spec.levels[0].chunks)
    environment = {**os.environ, "TOKEN": server.token, "CHUNKS": chunks}
    command = [sys.executable, "-c", FORK, server.url, stored.array_id]
    done = subprocess.run(command, timeout=120, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
