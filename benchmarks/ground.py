"""What a run measures on: true pixels, the images made of them, and servers, each made when first needed."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from grids import GRIDS, QUICK_SHAPE, SHAPE, Grid
from peers import hsds_server, nginx, tiled_server, xpublish_server
from peers.environment import PYTHON
from pixels import Stored, store, write_plain, write_truth
from workers import Worker

TOKEN = "a-token-of-the-benchmark"
#: 16 clients read at once, some of them more than one stream.
ENVIRONMENT = {"LARVIK_LIMITS__STREAMS_PER_SUBJECT": "64"}


class Ground:
    """The folder and the servers of one run; `close` removes them."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.shape = QUICK_SHAPE if quick else SHAPE
        self.rounds = 1 if quick else 7
        self.folder = Path(tempfile.mkdtemp(prefix="larvik-bench-")).resolve()
        self.served = self.folder / "served"
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._larvik: Any = None

    @cached_property
    def truth(self) -> str:
        """Path of the true pixels."""
        path = self.folder / "truth.npy"
        write_truth(path, self.shape)
        return str(path)

    @cached_property
    def stored(self) -> dict[str, Stored]:
        """The images in Larvik's folder, by grid."""
        return store(self.served, Path(self.truth), [one.name for one in GRIDS])

    @cached_property
    def plain(self) -> Path:
        """Folder of the images as plain Zarr, for peers that do not know shards."""
        folder = self.folder / "plain"
        folder.mkdir()
        for one in GRIDS:
            if one.cname == "lz4":
                write_plain(folder / f"{plain_name(one)}.zarr", Path(self.truth), one)
        return folder

    def larvik(self, *arguments: str, **environment: str) -> Any:
        """Return the running Larvik server, started with these arguments and variables when none runs."""
        if self._larvik is None:
            from larvik.testing.server import larvik_server

            assert self.stored
            variables = {**ENVIRONMENT, **environment}
            self._larvik = larvik_server(self.served, token=TOKEN, arguments=arguments, environment=variables)
            self._stack.callback(self.stop_larvik)
        return self._larvik

    def stop_larvik(self) -> None:
        """Stop the Larvik server: the next one begins with empty caches."""
        running, self._larvik = self._larvik, None
        if running is not None:
            running.stop()

    @cached_property
    def nginx(self) -> nginx.Server:
        """Nginx serving Larvik's folder."""
        assert self.stored
        self.folder.chmod(0o755)
        return self._stack.enter_context(nginx.Server(self.served))

    @cached_property
    def tiled(self) -> tiled_server.Server:
        """Tiled serving the plain images."""
        return self._stack.enter_context(tiled_server.Server(self.plain))

    @cached_property
    def xpublish(self) -> xpublish_server.Server:
        """Xpublish serving the plain images."""
        return self._stack.enter_context(xpublish_server.Server(self.plain))

    @cached_property
    def hsds(self) -> hsds_server.Server:
        """HSDS, filled with the images."""
        server = self._stack.enter_context(hsds_server.Server(self.folder))
        with Worker("hsds_server", str(PYTHON)) as worker:
            for path in sorted(self.plain.glob("*.zarr")):
                worker.ask("open", where=server.where(path.stem))
                worker.ask("call", name="fill", path=str(path))
        return server

    def link_to(self, *ports: int) -> Any:
        """Return a shaped link to ports of this machine: 50 ms for the way there and back, 100 Mbit/s."""
        from link import Link

        return Link(50, 100, ports)

    def larvik_where(self, name: str, encoding: str) -> dict[str, Any]:
        """Return what a reader through Larvik is given."""
        url = self.larvik().url
        return {"url": url, "token": TOKEN, "source": self.stored[name].source, "encoding": encoding}

    def flight_where(self, name: str, encoding: str) -> dict[str, Any]:
        """Return what a stock Flight client is given."""
        url, source = self.larvik().flight_url, self.stored[name].source
        return {"flight_url": url, "token": TOKEN, "source": source, "encoding": encoding}

    def nginx_where(self, name: str, port: int | None = None) -> dict[str, Any]:
        """Return what TensorStore is given to read from nginx."""
        path = Path(self.stored[name].path).relative_to(self.served)
        return {"url": f"http://127.0.0.1:{port or self.nginx.port}/{path}"}

    def close(self) -> None:
        """Stop everything, remove the folder; idempotent."""
        self._stack.close()


@cache
def ground(quick: bool) -> Ground:
    """Return the ground of this run; it goes with the process."""
    made = Ground(quick)
    atexit.register(made.close)
    return made


def plain_name(one: Grid) -> str:
    """Return how peers call the plain image of a grid."""
    return one.name.replace(" ", "-")


def port_of(url: str) -> int:
    """Return the port of an address."""
    port = urlsplit(url).port
    assert port is not None
    return port


def finished(
    server: Any, method: str, after: int, count: int = 1, within_s: float = 5
) -> list[dict[str, Any]]:
    """Return what the server logged of calls that ended since its log was `after` characters long.

    The line of a stream follows its last batch, so this waits for `count` of them.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = [json.loads(text) for text in server.log[after:].splitlines() if f'"{method}"' in text]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """Return what each call gives in each round, after one to warm up; the order turns with the rounds."""
    results: dict[str, list[Any]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            result = calls[name]()
            if number:
                results[name].append(result)
    return results
