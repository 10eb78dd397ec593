"""Processor time and memory of processes that are being measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil


def tree(pid: int) -> Iterator[psutil.Process]:
    """Yield a process and what it started."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)


def cpu_seconds(pid: int | None) -> float:
    """Return the processor time that a tree of processes has used, in seconds; 0.0 for None."""
    total = 0.0
    for process in tree(pid) if pid is not None else ():
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def anonymous_mib(pid: int) -> float:
    """Return the memory of a tree of processes that is no file's, in MiB: mapped shards are not counted."""
    return sum(_status_kib(process.pid, "RssAnon") for process in tree(pid)) / 1024


def peak_mib(pid: int) -> float:
    """Return the sum of the peaks of a tree of processes since `reset_peak`, in MiB."""
    return sum(_status_kib(process.pid, "VmHWM") for process in tree(pid)) / 1024


def reset_peak(pid: int) -> None:
    """Let the peaks of a tree of processes begin anew."""
    for process in tree(pid):
        with suppress(OSError), open(f"/proc/{process.pid}/clear_refs", "w") as file:
            file.write("5")


def _status_kib(pid: int, name: str) -> int:
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0
