"""Processes that read SQLite through ADBC: started when first needed, kept for the next table."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from larvik.errors import LarvikError, ResourceExhaustedError, UnavailableError

_SCRIPT = str(Path(__file__).with_name("sqlite_reader.py"))
#: Processes that wait for the next table; more are started when more are read at once.
_MAX_IDLE = 2
#: What a pipe holds; Linux lets anybody have so much.
_PIPE_BYTES = 2**20


class ReaderProcesses:
    """The reading processes of one database in this process."""

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def stream(
        self, path: str, sql: str, parameters: Sequence[object], batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield what `sql` gives on the database file `path`, as the driver typed it.

        A stream that is not read to its end ends its process.

        Raises
        ------
        UnavailableError
            ``DATABASE_UNREACHABLE``, when the process cannot start, or dies.
        """
        process = self._take()
        finished = False
        try:
            _send(process, {"path": path, "sql": sql, "parameters": [_value(p) for p in parameters],
                            "batch_rows": batch_rows})  # fmt: skip
            _check(_line(process))
            assert process.stdout is not None
            with pa.ipc.open_stream(process.stdout) as batches:
                yield from batches
            _check(_line(process))
            finished = True
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, LarvikError):
                raise
            raise _broken() from error
        finally:
            self._give_back(process) if finished else _end(process)

    def close(self) -> None:
        """End the waiting processes; idempotent."""
        if os.getpid() == self._pid:
            with self._lock:
                idle, self._idle = self._idle, []
            for process in idle:
                _end(process)

    def _take(self) -> subprocess.Popen[bytes]:
        if os.getpid() != self._pid:  # what a parent started belongs to the parent
            self._idle, self._lock, self._pid = [], threading.Lock(), os.getpid()
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.poll() is None:
                    return process
                _end(process)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", _SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pipesize=_PIPE_BYTES,
                start_new_session=True,  # Ctrl-C at the terminal is for the parent
            )
            _send(process, {"sys_path": sys.path})
        except OSError as error:
            raise _broken() from error
        return process

    def _give_back(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE and self._pid == os.getpid():
                self._idle.append(process)
                return
        _end(process)


def _send(process: subprocess.Popen[bytes], value: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value).encode() + b"\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise _broken()
    answer: dict[str, Any] = json.loads(line)
    return answer


def _check(answer: dict[str, Any]) -> None:
    if "error" not in answer:
        return
    if "memory" in answer["error"] or "overflow" in answer["error"] or answer.get("kind") == "MemoryError":
        raise ResourceExhaustedError("The rows are too large for one batch.", reason="MEMORY_EXHAUSTED")
    raise UnavailableError(
        "The database could not be read as a table. Try again.", reason="DATABASE_UNREACHABLE"
    )


def _broken() -> UnavailableError:
    return UnavailableError(
        "The process that reads the database broke off. Try again.", reason="DATABASE_UNREACHABLE"
    )


def _value(value: object) -> object:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that only reads: nothing is lost."""
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.wait()
