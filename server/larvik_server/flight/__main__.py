"""A data process: ``python -m larvik_server.flight``, started and fed by `larvik_server.process`.

It imports everything first, then reads its `FlightConfig` as one line from standard input, answers with one
line on standard output (``{"port": ...}`` or ``{"error": ...}``), and serves until it is told to stop or the
input ends, which it does when the parent is gone. What anything else prints goes to standard error: nobody
reads the pipe after that line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pyarrow as pa

from larvik.errors import LarvikError, PreconditionError
from larvik.services.bundle import Services, open_services
from larvik_server.access import RevokedKeys
from larvik_server.flight.choice import Encodings
from larvik_server.flight.config import FlightConfig
from larvik_server.flight.descriptors import DescriptorServer
from larvik_server.flight.gate import Gate, hide_tracebacks
from larvik_server.flight.memory import keep_freed_memory
from larvik_server.flight.probe import Probe
from larvik_server.flight.server import FlightServer
from larvik_server.flight.streams import Streams
from larvik_server.flight.tickets import Tickets

#: How long the listener gets to close once nothing runs, in seconds.
SHUTDOWN_S = 0.25


def main() -> int:
    """Serve; return the exit code."""
    keep_freed_memory()
    hide_tracebacks()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    stop = threading.Event()
    # The terminal sends SIGINT to parent and child alike; the parent decides when this process stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    line = sys.stdin.readline()
    if not line:
        return 0  # the parent gave up before it began
    try:
        config = FlightConfig.from_json(line)
        return _serve(config, stop, answers)
    except LarvikError as error:
        _answer(answers, {"error": error.message, "reason": error.reason})
        return 1


def _serve(config: FlightConfig, stop: threading.Event, answers: IO[str]) -> int:
    with open_services(config.services, lock=False, create=False) as services:
        revoked = RevokedKeys(services.identity.revoked_keys)
        gate = Gate(services.identity, revoked)
        streams = Streams(config.limits, revoked)
        tickets = Tickets(config.ticket_secret, config.ticket_seconds)
        descriptors = _descriptors(config, services, revoked, tickets)
        encodings = Encodings(descriptors.name if descriptors is not None else "", config.addresses)
        server = _listen(config, lambda: FlightServer(
            config.location, services, gate, tickets, streams, config.listed, _tls(config), encodings
        ))  # fmt: skip
        _answer(answers, {"port": server.port})
        from larvik_server import logs

        logs.configure(config.log_format, config.log_level)
        probe = Probe(config, server.port, gate.probe)
        threading.Thread(target=_heed_parent, args=(stop, probe, answers), daemon=True).start()
        stop.wait()
        gate.is_draining = True
        if descriptors is not None:
            descriptors.stop()
        _drain(server, streams, config.grace_s)
        streams.stop()
        revoked.stop()
    return 0


def _listen(config: FlightConfig, make: Callable[[], FlightServer]) -> FlightServer:
    try:
        return make()
    except (pa.ArrowException, OSError) as error:
        raise PreconditionError(
            f"The Flight port {config.port} of {config.host} cannot be taken: another program may listen"
            " there. Choose another with --flight-port.",
            reason="PORT_IN_USE",
            field="flight_port",
        ) from error


def _descriptors(
    config: FlightConfig, services: Services, revoked: RevokedKeys, tickets: Tickets
) -> DescriptorServer | None:
    """Return the socket that hands out stored objects, where there may be one."""
    if not config.descriptors or not DescriptorServer.is_possible():
        return None
    return DescriptorServer(services.identity, revoked, tickets, services.arrays)


def _tls(config: FlightConfig) -> tuple[bytes, bytes] | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    return Path(config.tls_cert).read_bytes(), Path(config.tls_key).read_bytes()


def _heed_parent(stop: threading.Event, probe: Probe, answers: IO[str]) -> None:
    """Answer each line of the parent once the listener has answered; stop when the parent is gone."""
    while sys.stdin.readline():
        if probe.is_answered():
            _answer(answers, {"alive": True})
    stop.set()


def _drain(server: FlightServer, streams: Streams, grace_s: float) -> None:
    """Let running streams finish for a while, then end the process, with those that do not.

    Tile channels without a request end with it: they would stay open as long as their clients.
    """
    closing = threading.Thread(target=server.shutdown, daemon=True)
    closing.start()
    give_up = time.monotonic() + grace_s
    while closing.is_alive() and time.monotonic() < give_up and not streams.is_idle:
        closing.join(0.05)
    closing.join(SHUTDOWN_S)
    if closing.is_alive():
        sys.stderr.flush()
        os._exit(0)


def _answer(answers: IO[str], message: dict[str, object]) -> None:
    print(json.dumps(message), file=answers, flush=True)


if __name__ == "__main__":
    sys.exit(main())
