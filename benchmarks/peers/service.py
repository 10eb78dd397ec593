"""A server process of a peer: started in a scratch folder, waited for, stopped with all that it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

#: How long a server gets to become ready and to stop, in seconds.
READY_S, STOP_S = 60.0, 10.0


class Service:
    """A running server. A context manager.

    Parameters
    ----------
    command : callable
        Gives the command for a scratch folder and a port.
    environment : mapping, optional
        More variables.

    Attributes
    ----------
    port : int
        Where it listens on the loopback.
    """

    def __init__(
        self, command: Callable[[Path, int], Sequence[str]], environment: Mapping[str, str] | None = None
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="larvik-peer-", ignore_cleanup_errors=True)
        folder = Path(self._scratch.name)
        self.port = free_port()
        self._log = folder / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command(folder, self.port),
                cwd=folder,
                env={**os.environ, "HOME": str(folder), **(environment or {})},
                stdout=log,
                stderr=log,
                start_new_session=True,  # what it starts must not outlive it
            )
        try:
            self.wait_until(self._listens)
        except RuntimeError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def where(self, name: str, port: int | None = None) -> dict[str, Any]:
        """Return what a reader of the array called `name` is given; `port` stands for the server's own."""
        return {"url": f"http://127.0.0.1:{port or self.port}", "name": name}

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Return once it is ready.

        Raises
        ------
        RuntimeError
            When it ended, or took too long; with the end of its log.
        """
        deadline = time.monotonic() + READY_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError, ValueError):
                if is_ready():
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self._process.args!r} did not become ready: {self._log.read_text()[-2000:]}")

    def close(self) -> None:
        """Stop it, and what it started; idempotent."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port), 1).close()
        return True


def free_port() -> int:
    """Return a port of the loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
