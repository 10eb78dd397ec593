"""A real server for tests, demonstrations and notebooks: a process of its own on free ports."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from larvik.errors import UnavailableError

#: How long a server gets to become ready and to stop, in seconds.
READY_S = 60.0
STOP_S = 60.0

_READY = re.compile(r"larvik: ready at (\S+) \(Flight: (\S+?)\)")
_KEY = re.compile(r"larvik: new key '(\w+)' .*: (lvk_\w+)")


class LarvikServer:
    """A running server. A context manager; `stop` ends it.

    Attributes
    ----------
    url : str
        For `larvik.connect`.
    flight_url : str
        For Flight clients.
    token, reader_token : str
        Of the administrator, and of a key that may only read; the latter is empty when the token was preset
        or the folder was served before.
    pid : int
        Of the process that was started.
    folder : Path
        The data folder.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[str], token: str, log: Path) -> None:
        self.folder = folder
        self.token = token
        self.reader_token = ""
        self.url = ""
        self.flight_url = ""
        self.output: list[str] = []
        self._process = process
        self._log = log
        self._ready = threading.Event()
        atexit.register(process.kill)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(READY_S) or not self.url:
            self.kill()
            raise UnavailableError(
                f"The server did not become ready:\n{''.join(self.output)}{self.log[-4000:]}",
                reason="SERVER_UNREACHABLE",
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server logged so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        """Ask the server to drain, wait until it has, and return its exit code; idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join()
        self._close()
        return self._process.returncode

    def kill(self) -> None:
        """End the server as a crash would."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _close(self) -> None:
        atexit.unregister(self._process.kill)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        """Take in what the server prints; it would block on a full pipe."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line)
            key, ready = _KEY.match(line), _READY.match(line)
            if key and key[1] == "admin":
                self.token = self.token or key[2]
            elif key:
                self.reader_token = key[2]
            elif ready:
                self.url, self.flight_url = ready[1], ready[2]
                self._ready.set()
        self._ready.set()


def larvik_server(
    folder: str | os.PathLike[str] | None = None,
    *,
    database_url: str | None = None,
    store_url: str | None = None,
    store_options: Mapping[str, Any] | None = None,
    token: str | None = None,
    arguments: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> LarvikServer:
    """Start a server and return when it is ready.

    Parameters
    ----------
    folder : path, optional
        Data folder; a temporary one without it.
    database_url, store_url : str, optional
        PostgreSQL and S3, instead of SQLite and the folder.
    store_options : mapping, optional
        ``key``, ``secret``, ``endpoint_url``, ...; as for `larvik.storage.base.open_store`.
    token : str, optional
        Presets the administrator's key. A folder that was served before needs it, since keys are shown only
        once.
    arguments : tuple of str
        More arguments of ``larvik serve``.
    environment : mapping, optional
        More variables.

    Returns
    -------
    LarvikServer
        A context manager that is entered with the server running.

    Raises
    ------
    UnavailableError
        ``SERVER_UNREACHABLE``, with what the server printed, when it does not become ready.
    """
    place = Path(folder if folder is not None else tempfile.mkdtemp(prefix="larvik-")).resolve()
    place.mkdir(parents=True, exist_ok=True)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("LARVIK_")}
    variables.update(_settings(database_url, store_url, store_options or {}, token))
    variables.update(environment or {})
    start = "from larvik.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        start,
        "serve",
        "--data",
        str(place),
        "--port",
        "0",
        "--flight-port",
        "0",
        "--tile-port",
        "0",
    ]
    log = place / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            env=variables,
            # Away from settings files of the folder that the tests run in.
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    return LarvikServer(place, process, token or "", log)


def _settings(
    database_url: str | None, store_url: str | None, store_options: Mapping[str, Any], token: str | None
) -> dict[str, str]:
    given = {"LARVIK_DATABASE_URL": database_url, "LARVIK_STORE_URL": store_url, "LARVIK_TOKEN": token}
    given |= {
        f"LARVIK_STORE__{name.upper()}": str(value)
        for name, value in store_options.items()
        if value is not None
    }
    return {name: value for name, value in given.items() if value}
