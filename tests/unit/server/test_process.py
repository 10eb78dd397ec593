"""The data process as a child: it goes when it is told to, whatever it was doing."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from larvik.errors import PreconditionError
from larvik.services.bundle import ServiceConfig, open_services
from larvik_server import process
from larvik_server.flight.config import FlightConfig
from larvik_server.flight.limits import StreamLimits


def catches_sigterm(pid: int) -> bool:
    """Whether a process has a handler of its own for SIGTERM, by the mask that the kernel shows."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def listening_child() -> subprocess.Popen[str]:
    """A child that has come as far as to wait for its configuration."""
    child = process.spawn()
    deadline = time.monotonic() + 60
    while not catches_sigterm(child.pid):
        assert time.monotonic() < deadline
    return child


def test_a_child_that_waits_for_its_configuration_ends_by_itself() -> None:
    child = listening_child()
    process.end(child, patience_s=30)
    # The signal may come when the end of the input has made it leave already.
    assert child.returncode in (0, -signal.SIGTERM)


def test_a_child_that_does_not_listen_is_killed() -> None:
    child = listening_child()
    child.send_signal(signal.SIGSTOP)
    process.end(child, patience_s=0.1)
    assert child.returncode == -signal.SIGKILL


@pytest.fixture
def config(tmp_path: Path) -> FlightConfig:
    """Of a data process over an empty folder."""
    services = ServiceConfig(tmp_path / "data")
    open_services(services).close()
    limits = StreamLimits(4, 4, 4, 4, 1 << 30, 1 << 30, 60.0, 600.0)
    return FlightConfig(
        services=services,
        host="127.0.0.1",
        port=0,
        tls_cert=None,
        tls_key=None,
        ticket_secret=b"secret",
        ticket_seconds=60,
        lane="bulk",
        limits=limits,
        listed=100,
        descriptors=False,
        addresses=False,
        grace_s=1.0,
        hang_s=20.0,
        log_format="json",
        log_level="error",
    )


def test_a_data_process_is_started_again_until_one_serves(
    config: FlightConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: queue.Queue[bool] = queue.Queue()
    data = process.DataProcess(process.spawn(), config, told.put)
    data.start()
    try:
        with monkeypatch.context() as broken:
            broken.setenv("PYTHONHOME", str(tmp_path))  # no interpreter starts with that
            os.kill(data.pid, signal.SIGKILL)
            assert [told.get(timeout=60), told.get(timeout=60)] == [False, False]
        while not told.get(timeout=60):
            pass
    finally:
        data.stop()


def test_what_a_package_prints_is_no_answer(
    config: FlightConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talkative.py").write_text("print('hello')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    talking = replace(config, services=replace(config.services, models=("talkative",)))
    data = process.DataProcess(process.spawn(), talking, lambda _: None)
    with pytest.raises(PreconditionError) as caught:
        data.start()
    data.stop()
    assert caught.value.reason == "SCHEMA_OUTDATED"  # what follows the import of the package


#: Set while a new child is held back: the moment at which `stop` used to miss it.
HOLD, HELD = threading.Event(), threading.Event()


def _hold_back(event: str, _: object) -> None:
    if event == "subprocess.Popen" and HOLD.is_set():
        HELD.set()
        time.sleep(0.5)


def test_a_child_that_is_started_while_all_ends_ends_too(config: FlightConfig) -> None:
    sys.addaudithook(_hold_back)
    data = process.DataProcess(process.spawn(), config, lambda _: None)
    data.start()
    HOLD.set()
    try:
        os.kill(data.pid, signal.SIGKILL)
        assert HELD.wait(60)
        stopping = threading.Thread(target=data.stop, daemon=True)
        stopping.start()
        stopping.join(30)
        assert not stopping.is_alive()
    finally:
        HOLD.clear()
