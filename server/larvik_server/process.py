"""The data process: spawned before anything heavy is imported, fed by pipe, started again when it dies."""

from __future__ import annotations

import json
import logging
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
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
#: What a data process is asked now and then; it answers a line once its own listener has answered it.
PING = "ping\n"


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
    """Keeps one data process running: started again when it dies, and ended and started again when it hangs.

    Parameters
    ----------
    process : subprocess.Popen or None
        From `spawn`, not configured yet; None for `start_later`.
    config : FlightConfig
        What it is told.
    changed : callable
        Told whether it serves, whenever that may have changed; called from a thread.
    """

    def __init__(
        self,
        process: subprocess.Popen[str] | None,
        config: FlightConfig,
        changed: Callable[[bool], object],
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
        """Process id of the present child; 0 before the first."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Configure the child that was given, and wait until it listens.

        Raises
        ------
        PreconditionError
            What kept it from serving, such as ``PORT_IN_USE``.
        UnavailableError
            ``DATA_PROCESS_FAILED``, when it ended or said nothing.
        """
        assert self._process is not None
        self._configure(self._process)
        self._keep(is_running=True)

    def start_later(self) -> None:
        """Start a child without waiting for it; it is tried until one serves."""
        self._keep(is_running=False)

    def stop(self) -> None:
        """Let it drain, and end it when it takes too long; idempotent."""
        with self._spawning:  # a child that is started just now is told to go as well
            self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(self._config.grace_s + 5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._thread is not None:
            self._thread.join()
        self._close_pipes()

    def _keep(self, *, is_running: bool) -> None:
        name = f"data-process-{self._config.lane}"
        self._thread = threading.Thread(target=self._supervise, args=(is_running,), name=name, daemon=True)
        self._thread.start()

    def _configure(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(READY_S, process.kill)
        timer.start()
        try:
            process.stdin.write(self._config.to_json() + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        answer = json.loads(line) if line else {}
        if "port" in answer:
            self.port = int(answer["port"])
            self._config = replace(self._config, port=self.port)  # the next one takes the same
        elif "error" in answer:
            raise PreconditionError(answer["error"], reason=answer["reason"])
        else:
            raise UnavailableError(
                "The data process ended before it could serve; what it printed says why.",
                reason="DATA_PROCESS_FAILED",
            )

    def _supervise(self, is_running: bool) -> None:
        """Wait for the child to go, and start another on the same port, until `stop`."""
        pause, began = FIRST_PAUSE_S, time.monotonic()
        while True:
            if is_running:
                self._watch()
                if self._stopping.is_set():
                    return
                self._changed(False)
                lived = time.monotonic() - began
                pause = FIRST_PAUSE_S if lived > STABLE_S else min(2 * pause, LONGEST_PAUSE_S)
                if self._stopping.wait(pause):
                    return
            began = time.monotonic()
            is_running = self._start_another()
            if not is_running:
                self._changed(False)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                if self._stopping.wait(pause):
                    return

    def _watch(self) -> None:
        """Return when the child is dead; one that does not answer for `hang_s` is killed."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN | select.POLLHUP)
        hang_s, is_asked = self._config.hang_s, False
        while True:
            if poll.poll(1000 * (hang_s if is_asked else hang_s / 4)):
                if not process.stdout.readline():
                    break
                is_asked = False
            elif is_asked:
                log.error("data_process.hangs", extra={"pid": process.pid, "lane": self._config.lane})
                process.kill()
                break
            else:
                is_asked = True
                with suppress(OSError):  # it is dying: its output ends in a moment
                    process.stdin.write(PING)
                    process.stdin.flush()
        process.wait()
        if not self._stopping.is_set():
            fields = {"pid": process.pid, "exit_code": process.returncode, "lane": self._config.lane}
            log.error("data_process.died", extra=fields)

    def _start_another(self) -> bool:
        """Start a child, unless `stop` was called, and tell whether it serves."""
        child = None
        try:
            with self._spawning:
                if self._stopping.is_set():
                    return False
                self._close_pipes()
                child = self._process = spawn()
            self._configure(child)
        except (PreconditionError, UnavailableError) as error:
            self._failed(error.reason, error.message)
            if child is not None:
                child.kill()
                child.wait()
            return False
        except OSError as error:  # the system has no room for a process now
            self._failed("DATA_PROCESS_FAILED", str(error))
            return False
        log.info("data_process.started", extra={"pid": child.pid, "lane": self._config.lane})
        self._changed(True)
        return True

    def _failed(self, reason: str, message: str) -> None:
        if not self._stopping.is_set():
            fields = {"reason": reason, "message_": message, "lane": self._config.lane}
            log.error("data_process.failed", extra=fields)

    def _close_pipes(self) -> None:
        if self._process is not None:
            _close(self._process.stdin)
            _close(self._process.stdout)
