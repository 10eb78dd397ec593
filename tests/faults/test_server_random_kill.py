"""A server killed at any moment keeps what it acknowledged, and shows nothing that is not whole."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

import larvik
from larvik import ROI, Representation, Sample, Table
from larvik.connection import Connection
from larvik.errors import UnavailableError
from larvik.testing.server import LarvikServer, larvik_server

Check = Callable[[Path], int]

TOKEN = "token-of-the-kill-tests"
FRAME = pd.DataFrame({"cell": np.arange(5000), "area": np.arange(5000) / 7})
#: Regions that one call stores; they are there all together, or none of them.
BATCH = 40


class Ledger:
    """What a client was told is stored, and the one thing that it asked for and heard nothing of."""

    def __init__(self, image: Path, pixels: np.ndarray, seed: int) -> None:
        self._image = image
        self._pixels = pixels
        self._random = random.Random(seed)
        self._count = 0
        self.images: dict[str, str] = {}  # id -> name
        self.tables: set[str] = set()  # names
        self.batches: dict[str, int] = {}  # label -> regions
        self._asked: tuple[str, str, object] | None = None

    def work(self, connection: Connection) -> None:
        """Import, upload and edit until the server is gone."""
        with pytest.raises(UnavailableError):
            self._go_on(connection)

    def _go_on(self, connection: Connection) -> None:
        steps = (self._import, self._upload, self._rename, self._add_table, self._add_regions, self._remove)
        while True:
            (step,) = self._random.choices(steps, weights=(2, 2, 4, 2, 4, 2))
            if not self.images:
                step = self._import  # the others stand on an image
            step(connection)

    def check(self, connection: Connection) -> None:
        """Check that a server shows what it acknowledged, and of what was asked last all or nothing."""
        kind, key, value = self._asked or ("", "", None)
        self._asked = None
        shown = {row.id: row for row in Representation.objects.using(connection)}
        found = {id: row.name for id, row in shown.items()}
        unheard = found.keys() - self.images.keys()
        assert len(unheard) <= (kind == "image"), "an image that nobody stored is shown"
        for id in unheard:
            np.testing.assert_array_equal(shown[id].array.values, self._pixels)
        expected = self.images | {id: found[id] for id in unheard}
        if kind == "rename" and found.get(key) == value:
            expected[key] = str(value)
        assert found == expected
        tables = {row.name: row for row in Table.objects.using(connection)}
        assert self.tables <= tables.keys() <= self.tables | ({key} if kind == "table" else set())
        for table in tables.values():
            pd.testing.assert_frame_equal(table.frame(), FRAME)
        labels = ROI.objects.using(connection).values_list("label", flat=True)
        batches = {label: labels.count(label) for label in set(labels)}
        stored = dict(self.batches)
        if kind == "regions" and batches.get(key, 0) == value:
            stored[key] = batches.get(key, 0)
        assert batches == {label: count for label, count in stored.items() if count}
        self.images, self.tables, self.batches = found, set(tables), batches

    def _next(self, kind: str) -> str:
        self._count += 1
        return f"{kind} {self._count}"

    def _import(self, connection: Connection) -> None:
        self._asked = ("image", "", None)
        (row,) = larvik.import_file(
            self._image, sample="Slide", experiment="Study", again=True, connection=connection
        )
        self.images[row.id] = row.name

    def _upload(self, connection: Connection) -> None:
        name = self._next("upload")
        sample = Sample.objects.using(connection).get(name="Slide")
        self._asked = ("image", "", None)
        row = Representation.objects.using(connection).from_xarray(self._pixels, name=name, sample=sample)
        self.images[row.id] = name

    def _rename(self, connection: Connection) -> None:
        id, name = self._random.choice(sorted(self.images)), self._next("renamed")
        row = Representation.objects.using(connection).get(id=id)
        row.name = name
        self._asked = ("rename", id, name)
        row.save()
        self.images[id] = name

    def _add_table(self, connection: Connection) -> None:
        name = self._next("table")
        self._asked = ("table", name, None)
        Table.objects.using(connection).from_frame(FRAME, name=name)
        self.tables.add(name)

    def _add_regions(self, connection: Connection) -> None:
        label, image = self._next("batch"), self._random.choice(sorted(self.images))
        vertices = np.zeros((1, 2)).tobytes()
        self._asked = ("regions", label, BATCH)
        ROI.objects.using(connection).bulk_create(
            ROI(representation_id=image, kind="point", label=label, vertices=vertices) for _ in range(BATCH)
        )
        self.batches[label] = BATCH

    def _remove(self, connection: Connection) -> None:
        there = sorted(label for label, count in self.batches.items() if count)
        if there:
            label = self._random.choice(there)
            self._asked = ("regions", label, 0)
            ROI.objects.using(connection).filter(label=label).delete()
            self.batches[label] = 0


def kill_all(server: LarvikServer) -> None:
    """End the gRPC process and its data processes as a crash of them all would."""
    parent = psutil.Process(server.pid)
    everybody = [parent, *parent.children(recursive=True)]
    for process in everybody:
        process.kill()
    server.kill()
    deadline = time.monotonic() + 30
    while not all(_is_dead(process) for process in everybody):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_dead(process: psutil.Process) -> bool:
    """Tell whether a process ended; whether its entry was taken away is up to its new parent."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def served(data: Path, ledger: Ledger) -> Iterator[tuple[LarvikServer, Connection]]:
    """Start a server, and check that it shows what those before it acknowledged."""
    with larvik_server(data, token=TOKEN) as server, larvik.connect(server.url, token=TOKEN) as connection:
        ledger.check(connection)
        yield server, connection


def kill_at(data: Path, ledger: Ledger, delay_s: float) -> None:
    """Let a server work, and kill it `delay_s` later."""
    with served(data, ledger) as (server, connection):
        timer = threading.Timer(delay_s, kill_all, [server])
        timer.start()
        try:
            ledger.work(connection)
        finally:
            timer.join()


def kills(seeds: range) -> Iterator[tuple[int, float]]:
    """Yield seeds and the moments that they give, in seconds after the first call; the same in every run."""
    yield from ((seed, random.Random(seed).uniform(0, 0.8)) for seed in seeds)


@contextmanager
def told(seeds: range, seed: int, delay_s: float) -> Iterator[None]:
    """Say in a failure which moment it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(
            f"Killed {delay_s:.4f} s after the first call: seed {seed}, on the folder of seeds"
            f" {seeds.start}...{seed}."
        )
        raise


def run(data: Path, image: Path, pixels: np.ndarray, check_and_repair: Check, seeds: range) -> None:
    """Kill the servers of one folder at the moments of `seeds`; half of them start on what a crash left."""
    ledger = Ledger(image, pixels, seeds.start)
    seed, delay_s = seeds.start, 0.0
    for seed, delay_s in kills(seeds):
        with told(seeds, seed, delay_s):
            kill_at(data, ledger, delay_s)
            if seed % 2:
                assert check_and_repair(data) - len(ledger.images) in (0, 1)
    with told(seeds, seed, delay_s), served(data, ledger):
        pass
    assert check_and_repair(data) == len(ledger.images)


def test_killed_at_ten_random_moments(
    tmp_path: Path, image: Path, pixels: np.ndarray, check_and_repair: Check
) -> None:
    run(tmp_path / "data", image, pixels, check_and_repair, range(10))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "first", range(0, 300, 20)
)  # a fresh folder now and then: checking reads every image
def test_killed_at_three_hundred_random_moments(
    tmp_path: Path, image: Path, pixels: np.ndarray, check_and_repair: Check, first: int
) -> None:
    run(tmp_path / "data", image, pixels, check_and_repair, range(first, first + 20))
