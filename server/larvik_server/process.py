"""The data process: spawned before anything heavy is imported, fed by pipe, started again when it dies."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from larvik.errors import PreconditionError, UnavailableError

if TYPE_CHECKING:
    from larvik_server.flight.config import FlightConfig

log = logging.getLogger(__name__)

#: How long a data process gets to answer, and the pauses between attempts to start it again, in seconds.
READY_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
#: A process that lived this long starts without a pause when it dies.
STABLE_S = 30.0


def spawn() -> subprocess.Popen[str]:
    """Start a fresh interpreter that imports the Flight server and waits for its configuration.

    Notes
    -----
    Never a fork: neither pyarrow nor gRPC survives one with threads. The child ends when this process does.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "larvik_server.flight"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A group of its own: SIGINT of the terminal is for the parent alone.
        process_group=0,
    )


def end(child: subprocess.Popen[str], patience_s: float = 5.0) -> None:
    """End a child that may still wait for its configuration: the end of its input tells it to go."""
    _close(child.stdin)
    child.terminate()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    _close(child.stdout)


def _close(pipe: IO[str] | None) -> None:
    if pipe is not None:
        with suppress(OSError):  # what was not read yet cannot be flushed to a child that is dead
            pipe.close()


class DataProcess:
    """Keeps one data process running.

    Parameters
    ----------
    process : subprocess.Popen
        From `spawn`; not configured yet.
    config : FlightConfig
        What it is told.
    changed : callable
        Told whether it serves, whenever that changes; called from a thread.
    """

    def __init__(
        self, process: subprocess.Popen[str], config: FlightConfig, changed: Callable[[bool], object]
    ) -> None:
        self._process = process
        self._config = config
        self._changed = changed
        self._stopping = threading.Event()
        self._spawning = threading.Lock()
        self._thread: threading.Thread | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        """Process id of the present child."""
        return self._process.pid

    def start(self) -> None:
        """Configure the child and wait until it listens.

        Raises
        ------
        PreconditionError
            What kept it from serving, such as ``PORT_IN_USE``.
        UnavailableError
            ``DATA_PROCESS_FAILED``, when it ended or said nothing.
        """
        self.port = self._configure()
        self._thread = threading.Thread(target=self._supervise, name="data-process", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let it drain, and end it when it takes too long; idempotent."""
        with self._spawning:  # a child that is started just now is told to go as well
            self._stopping.set()
        self._process.terminate()
        try:
            self._process.wait(self._config.grace_s + 5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._thread is not None:
            self._thread.join()
        _close(self._process.stdin)
        _close(self._process.stdout)

    def _configure(self) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(READY_S, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(self._config.to_json() + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        answer = json.loads(line) if line else {}
        if "port" in answer:
            return int(answer["port"])
        if "error" in answer:
            raise PreconditionError(answer["error"], reason=answer["reason"])
        raise UnavailableError(
            "The data process ended before it could serve; what it printed says why.",
            reason="DATA_PROCESS_FAILED",
        )

    def _supervise(self) -> None:
        """Wait for the child to die, and start another on the same port, until `stop`."""
        from dataclasses import replace

        self._config = replace(self._config, port=self.port)
        pause, began = FIRST_PAUSE_S, time.monotonic()
        while True:
            self._process.wait()
            if self._stopping.is_set():
                return
            log.error(
                "data_process.died", extra={"pid": self._process.pid, "exit_code": self._process.returncode}
            )
            self._changed(False)
            pause = FIRST_PAUSE_S if time.monotonic() - began > STABLE_S else min(2 * pause, LONGEST_PAUSE_S)
            if self._stopping.wait(pause):
                return
            began = time.monotonic()
            self._restart()

    def _restart(self) -> None:
        """Start another child, unless `stop` was called; one that does not come to serve is ended."""
        try:
            with self._spawning:
                if self._stopping.is_set():
                    return
                _close(self._process.stdin)
                _close(self._process.stdout)
                self._process = spawn()
            self._configure()
        except (PreconditionError, UnavailableError) as error:
            log.error("data_process.failed", extra={"reason": error.reason, "message_": error.message})
            self._process.kill()
        except OSError as error:  # the system has no room for a process now
            log.error("data_process.failed", extra={"reason": "DATA_PROCESS_FAILED", "message_": str(error)})
        else:
            log.info("data_process.restarted", extra={"pid": self._process.pid})
            self._changed(True)
