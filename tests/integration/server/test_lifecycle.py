"""The server starts fast, keeps its data process alive, drains, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import grpc
import numpy as np
import psutil
import pyarrow.flight as flight
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from larvik.array.expression import Source
from larvik.errors import LarvikError, UnauthenticatedError, UnavailableError
from larvik.proto.v1 import flight_pb2
from larvik.query.query import Query
from larvik.services.bundle import ServiceConfig, open_services
from larvik.testing.server import larvik_server
from larvik.wire.expressions import encode_expressions
from larvik_client.pushdown import fetch
from larvik_client.remote import connect

TOKEN = "a-preset-token-of-the-test"


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until something holds, asking again and again."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} did not happen within {seconds} s"
        threading.Event().wait(0.02)


def data_process(pid: int) -> psutil.Process:
    """Return the data process for bulk data, which is there before the one for tiles."""
    found = [
        one for one in psutil.Process(pid).children() if "larvik_server.flight" in " ".join(one.cmdline())
    ]
    return min(found, key=psutil.Process.create_time)


def whole(array_id: str, spec) -> Source:
    level = spec.levels[0]
    return Source(array_id, 1, 0, level.shape, spec.dtype, level.chunks)


def answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except LarvikError:
        return False
    return True


def busy_s(pid: int) -> float:
    """Return the seconds of processor time that the busier of the server's two processes took."""
    times = [one.cpu_times() for one in (psutil.Process(pid), data_process(pid))]
    return max(time.user + time.system for time in times)


def test_serve_is_ready_within_a_second(tmp_path):
    # Other tests share the cores, so what counts is the processor time of the longer of two parallel paths;
    # `make bench` holds the time on the clock.
    times = []
    for _ in range(5):
        start = time.perf_counter()
        with larvik_server(tmp_path, token=TOKEN) as server:
            times.append(min(time.perf_counter() - start, busy_s(server.pid)))
        if times[-1] <= 1.0:
            return
    pytest.fail(f"the fastest of {len(times)} starts took {min(times):.2f} s")


def test_the_first_start_makes_keys_and_shows_them_once(tmp_path):
    with larvik_server(tmp_path) as first:
        token = first.token
        assert first.reader_token
        with connect(first.url, token) as connection:
            assert connection.scopes == {"read", "write", "admin"}
        with connect(first.url, first.reader_token) as connection:
            assert connection.scopes == {"read"}
        assert token not in first.log
    with larvik_server(tmp_path) as second:
        assert second.token == second.reader_token == ""
        assert not re.search("lvk_", "".join(second.output) + second.log)
        with connect(second.url, token) as connection:
            assert connection.catalog.count(Query("Sample")) == 0


def test_a_preset_token_is_the_administrators(tmp_path):
    with larvik_server(tmp_path, token=TOKEN) as server:
        assert TOKEN not in "".join(server.output) + server.log
        with connect(server.url, TOKEN) as connection:
            assert "admin" in connection.scopes


def test_a_weak_preset_token_is_refused(tmp_path):
    with pytest.raises(UnavailableError, match="TOKEN_WEAK"):
        larvik_server(tmp_path, token="short")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--host", "0.0.0.0"), "TLS_REQUIRED"),
        (("--port", "70000"), "SETTING_INVALID"),
        (("--tls-cert", "x"), "TLS_REQUIRED"),
    ],
)
def test_a_setting_that_is_refused_ends_the_server_with_one_line(tmp_path, arguments, reason):
    with pytest.raises(UnavailableError) as caught:
        larvik_server(tmp_path, arguments=arguments)
    assert reason in caught.value.message
    assert "Traceback" not in caught.value.message


@pytest.mark.parametrize("option", ["--port", "--flight-port"])
def test_a_port_that_is_taken_is_named(tmp_path, option, server):
    url = server.url if option == "--port" else server.flight_url
    with pytest.raises(UnavailableError) as caught:
        larvik_server(tmp_path, arguments=(option, url.rpartition(":")[2]))
    assert "PORT_IN_USE" in caught.value.message
    assert option in caught.value.message
    assert "Traceback" not in caught.value.message


def test_sigterm_lets_a_running_stream_finish_and_exits_with_0(tmp_path, put_into):
    with larvik_server(tmp_path, token=TOKEN) as server:
        pixels = np.random.default_rng(0).integers(0, 60_000, (24, 1024, 1024), dtype="uint16")
        with connect(server.url, TOKEN) as connection:
            array_id, spec = put_into(connection, pixels)
            command = flight_pb2.FlightCommand()
            command.array_read.expression.CopyFrom(encode_expressions([whole(array_id, spec)]))
            stream = connection._flight.batches(command)
            received = next(stream).column("data").storage.values.nbytes
            stopped = threading.Thread(target=server.stop)
            stopped.start()
            wait_for(
                lambda: not answers(lambda: connection.catalog.count(Query("Sample"))), "the end of new calls"
            )
            received += sum(batch.column("data").storage.values.nbytes for batch in stream)
            assert received == pixels.nbytes
        stopped.join()
        assert server.stop() == 0


def test_who_watches_its_health_does_not_hold_up_the_end(tmp_path):
    with (
        larvik_server(tmp_path, token=TOKEN) as server,
        grpc.insecure_channel(server.url.partition("://")[2]) as channel,
    ):
        watch = HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), metadata=(("authorization", f"Bearer {TOKEN}"),)
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        start = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - start < 10
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_every_call_of_flight_has_its_line(server, stored):
    headers = [(b"authorization", f"Bearer {server.token}".encode()), (b"x-request-id", b"one-line-each")]
    options = flight.FlightCallOptions(headers=headers)
    path = flight.FlightDescriptor.for_path("arrays", stored.array_id)
    with flight.FlightClient(server.flight_url) as client:
        assert list(client.list_flights(b"arrays", options))
        ticket = client.get_flight_info(path, options).endpoints[0].ticket
        client.get_schema(path, options)
        client.do_get(ticket, options).read_all()
        list(client.do_action(flight.Action("larvik.v1.health", b""), options))
        client.list_actions(options)
    wanted = ["LIST_FLIGHTS", "GET_FLIGHT_INFO", "GET_SCHEMA", "DO_GET", "DO_ACTION", "LIST_ACTIONS"]

    def methods() -> list[str]:
        return [json.loads(line)["method"] for line in server.log.splitlines() if "one-line-each" in line]

    wait_for(lambda: len(methods()) >= len(wanted), "a line for each call")
    assert methods() == wanted


def test_the_data_process_starts_again_when_it_dies(tmp_path, put_into):
    with larvik_server(tmp_path, token=TOKEN) as server, connect(server.url, TOKEN) as connection:
        pixels = np.arange(10_000, dtype="uint16").reshape(100, 100)
        source = whole(*put_into(connection, pixels))
        before = data_process(server.pid)
        before.send_signal(signal.SIGKILL)
        before.wait(10)
        wait_for(lambda: answers(lambda: connection.arrays.evaluator.evaluate([source])), "a restart")
        assert (connection.arrays.evaluator.evaluate([source])[0] == pixels).all()
        assert data_process(server.pid).pid != before.pid
        assert "data_process.died" in server.log


def test_a_killed_server_takes_its_data_process_with_it(tmp_path):
    server = larvik_server(tmp_path, token=TOKEN)
    child = data_process(server.pid)
    server.kill()
    child.wait(30)


def test_a_revoked_key_is_refused_by_both_listeners_within_5_seconds(tmp_path):
    with larvik_server(tmp_path, token=TOKEN) as server:
        config = ServiceConfig(tmp_path)
        with open_services(config, lock=False, create=False) as services:
            subject = services.identity.subject("guest", "service")
            issued = services.identity.issue(subject, "guest", ["read"], lifetime=timedelta(days=1))
            with connect(server.url, issued.token) as connection:
                query = Query("Sample")
                calls = [
                    lambda: connection.catalog.count(query),
                    lambda: connection.catalog.table(query).read_all(),
                ]
                assert all(answers(call) for call in calls)
                services.identity.revoke(issued.key_id)
                revoked = time.monotonic()
                for call in calls:
                    wait_for(lambda call=call: not answers(call), "the refusal", 6.0)
                assert time.monotonic() - revoked <= 5.5
                for call in calls:
                    with pytest.raises(UnauthenticatedError):
                        call()


def test_too_many_streams_are_refused_with_a_hint(tmp_path, put_into):
    with (
        larvik_server(
            tmp_path,
            token=TOKEN,
            environment={"LARVIK_LIMITS__STREAMS": "2", "LARVIK_LIMITS__STREAMS_PER_SUBJECT": "2"},
        ) as server,
        connect(server.url, TOKEN) as connection,
    ):
        pixels = np.random.default_rng(0).integers(0, 60_000, (24, 1024, 1024), dtype="uint16")
        source = whole(*put_into(connection, pixels))
        command = flight_pb2.FlightCommand()
        command.array_read.expression.CopyFrom(encode_expressions([source]))
        held = [connection._flight.batches(command) for _ in range(2)]
        for stream in held:
            next(stream)
        with (
            connect(server.url, TOKEN, timeout_s=1) as impatient,
            pytest.raises(LarvikError) as caught,
        ):
            fetch(impatient._flight, source)
        assert caught.value.reason == "STREAMS_EXHAUSTED"
        assert float(caught.value.metadata["retry_after_s"]) > 0
        for stream in held:
            stream.close()
        wait_for(lambda: answers(lambda: fetch(connection._flight, source)), "a free place")


FORK = """
import os, sys
from larvik_client.remote import connect
from larvik.errors import PreconditionError
from larvik.query.query import Query

connection = connect(sys.argv[1], os.environ["TOKEN"])
query = Query("Sample")
first = connection.catalog.count(query)

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

def rows():
    assert connection.catalog.count(query) == first

def table():
    assert connection.catalog.table(query).read_all().num_rows == first

def refused():
    try:
        table()
    except PreconditionError as error:
        assert error.reason == "PROCESS_FORKED"
    else:
        raise AssertionError("the child read")

in_child(rows)
in_child(table)
rows()
table()
in_child(rows)
in_child(refused)
rows()
table()
"""


def test_a_connection_works_on_both_sides_of_a_fork_or_says_why_not(server):
    environment = {**os.environ, "TOKEN": server.token}
    command = [sys.executable, "-c", FORK, server.url]
    done = subprocess.run(command, timeout=120, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_health_is_told_to_who_has_a_key(tmp_path):
    with larvik_server(tmp_path, token=TOKEN) as server:
        command = [sys.executable, "-c", "from larvik.cli import main; main()", "health", "--url", server.url]
        environment = {**os.environ, "LARVIK_TOKEN": TOKEN}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout.strip()) == (0, "SERVING")
        environment["LARVIK_TOKEN"] = "another-token-of-nobody"
        refused = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert refused.returncode == 4
        assert "TOKEN_INVALID" in refused.stderr


def test_flight_locations_are_this_server(server, stored):
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {server.token}".encode())])
    with flight.FlightClient(server.flight_url) as client:
        info = client.get_flight_info(flight.FlightDescriptor.for_path("arrays", stored.array_id), options)
    assert all(not endpoint.locations for endpoint in info.endpoints)
