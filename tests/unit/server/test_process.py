"""The data process as a child: it goes when it is told to, whatever it was doing."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from larvik_server import process


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
    assert child.returncode == 0


def test_a_child_that_does_not_listen_is_killed() -> None:
    child = listening_child()
    child.send_signal(signal.SIGSTOP)
    process.end(child, patience_s=0.1)
    assert child.returncode == -signal.SIGKILL
