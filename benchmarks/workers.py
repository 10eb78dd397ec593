"""Client processes, from the side of the benchmark that asks them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from worker import UnavailableError

PROGRAM = Path(__file__).parent / "worker.py"


class Worker:
    """One client process. A context manager; `close` ends it.

    Parameters
    ----------
    system : str
        Module of ``peers`` that it reads through.
    python : str
        Interpreter: that of the peers' own environment for those that live there.
    """

    def __init__(self, system: str, python: str = sys.executable) -> None:
        self.system = system
        self._process = subprocess.Popen(
            [python, str(PROGRAM), system], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, do: str, **request: Any) -> None:
        """Ask for something without waiting for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Return the next answer.

        Raises
        ------
        UnavailableError
            When the system has not got what was asked for.
        RuntimeError
            When it failed, or gave wrong pixels.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"failed": "the process ended"}
        if "unavailable" in answer:
            raise UnavailableError(answer["unavailable"])
        if "failed" in answer:
            raise RuntimeError(f"{self.system}: {answer['failed']}")
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Ask, wait, return the answer."""
        self.send(do, **request)
        return self.receive()

    def close(self) -> None:
        """End the process; idempotent."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def together(workers: Sequence[Worker], requests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Let several processes work at once; return the time from first start to last end, and the sums."""
    for worker, request in zip(workers, requests, strict=True):
        worker.send(**request)
    answers = [worker.receive() for worker in workers]
    seconds = max(one["ended"] for one in answers) - min(one["began"] for one in answers)
    sums = {name: sum(one[name] for one in answers) for name in ("cpu_s", "bytes", "peak_mib")}
    return {"seconds": seconds, **sums}
