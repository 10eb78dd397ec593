"""The systems that read the same pixels, by the names that the figures call them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from grids import grid
from ground import Ground, plain_name
from peers import hsds_server, nginx, tiled_server, xpublish_server
from peers.environment import PYTHON
from processes import cpu_seconds, peak_mib, reset_peak
from worker import UnavailableError
from workers import Worker

DEFAULT, TUNED = "zarr-python, default", "zarr-python, tuned"
TENSORSTORE, ENGINE, NGINX = "tensorstore", "Larvik's engine, no server", "nginx + tensorstore"
CHUNKS, DENSE, STORE, AUTO, TILES = (
    f"Larvik, {name}" for name in ("chunks", "dense", "store", "auto", "tiles")
)
TILED, HSDS, XPUBLISH = "Tiled", "HSDS", "xpublish"
#: Those that take seconds for what others take milliseconds for: they read a part of the array.
SLOW = (TILED, HSDS, XPUBLISH)


@dataclass(frozen=True, slots=True)
class System:
    """One way to read.

    Attributes
    ----------
    label : str
        Name in the figures.
    module : str
        Of ``peers``.
    where : callable
        Gives what the reader of a grid is told; starts the server that it needs.
    pid : callable
        Gives the process of the server; None where there is none.
    missing : callable
        Tells why it cannot run here.
    python : str
        Interpreter of its clients.
    """

    label: str
    module: str
    where: Callable[[str], dict[str, Any]]
    pid: Callable[[], int | None] = lambda: None
    missing: Callable[[], str | None] = lambda: None
    python: str = sys.executable


def systems(ground: Ground) -> dict[str, System]:
    """Return every system, by label."""
    cores = len(os.sched_getaffinity(0))

    def path(name: str) -> dict[str, Any]:
        return {"path": ground.stored[name].path}

    found = [
        System(DEFAULT, "zarr_files", path),
        System(TUNED, "zarr_files", lambda name: {**path(name), "concurrency": cores}),
        System(TENSORSTORE, "tensorstore_files", path),
        System(ENGINE, "engine", lambda name: {**path(name), "source": ground.stored[name].source}),
        System(NGINX, "tensorstore_files", ground.nginx_where, lambda: ground.nginx.pid, nginx.missing),
        *(_larvik(ground, label) for label in (AUTO, CHUNKS, DENSE, STORE, TILES)),
    ]
    for label, module, server in (
        (TILED, tiled_server, lambda: ground.tiled),
        (HSDS, hsds_server, lambda: ground.hsds),
        (XPUBLISH, xpublish_server, lambda: ground.xpublish),
    ):
        found.append(_plain(label, module, server))
    return {one.label: one for one in found}


def _larvik(ground: Ground, label: str) -> System:
    encoding = label.split(", ")[1]
    return System(
        label, "larvik", lambda name: ground.larvik_where(name, encoding), lambda: int(ground.larvik().pid)
    )


def _plain(label: str, module: Any, server: Callable[[], Any]) -> System:
    """Return a peer that serves plain Zarr, and lives in an environment of its own."""

    def where(name: str) -> dict[str, Any]:
        if grid(name).cname != "lz4":
            raise UnavailableError(f"{label} is measured on lz4 alone")
        return dict(server().where(plain_name(grid(name))))

    return System(
        label, module.__name__.split(".")[-1], where, lambda: int(server().pid), module.missing, str(PYTHON)
    )


class Crew:
    """Client processes of several systems on one image. A context manager.

    Attributes
    ----------
    workers : dict of str to Worker
        Those that could be opened, by label.
    absent : dict of str to str
        Why the others could not.
    """

    def __init__(self, ground: Ground, name: str, labels: Iterable[str]) -> None:
        self.systems = systems(ground)
        self.workers: dict[str, Worker] = {}
        self.absent: dict[str, str] = {}
        for label in labels:
            self._open(self.systems[label], name, ground.truth)

    def ask(self, label: str, do: str, **request: Any) -> dict[str, Any]:
        """Ask one client, and add what it cost its server: processor time, and the peak of its memory."""
        pid = self.systems[label].pid()
        if pid is not None:
            reset_peak(pid)
        before = cpu_seconds(pid)
        answer = self.workers[label].ask(do, **request)
        cost = {"server_cpu_s": cpu_seconds(pid) - before}
        return {**answer, **cost, "server_mib": peak_mib(pid) if pid is not None else 0.0}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def _open(self, system: System, name: str, truth: str) -> None:
        why = system.missing()
        worker = None
        try:
            if why is None:
                where = system.where(name)
                worker = Worker(system.module, system.python)
                worker.ask("open", where=where, truth=truth)
        except UnavailableError as error:
            why = str(error)
        if why is None and worker is not None:
            self.workers[system.label] = worker
        else:
            self.absent[system.label] = str(why)
            if worker is not None:
                worker.close()
