"""A killed importer leaves nothing visible that is not whole, and nothing that doctor cannot free."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from larvik import faults

Check = Callable[[Path], int]

#: Imports one file again and again, until it is killed.
IMPORTER = """
import sys
import larvik
from larvik.importing import import_file
connection = larvik.connect(sys.argv[1])
connection.catalog
print("connected", flush=True)
for number in range(int(sys.argv[3])):
    import_file(sys.argv[2], sample="Slide", experiment="Study", again=True)
    print("imported", flush=True)
"""


def importer(data: Path, image: Path, *, fault: str = "", times: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", IMPORTER, str(data), str(image), str(times)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LARVIK_FAULT": fault},
    )


@pytest.mark.parametrize("point", faults.POINTS)
def test_killed_at_a_named_point(tmp_path: Path, image: Path, check_and_repair: Check, point: str) -> None:
    process = importer(tmp_path / "data", image, fault=point)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert output == "connected\n"
    whole = check_and_repair(tmp_path / "data")
    assert whole == (1 if point == "uploads.row.committed" else 0)


@pytest.mark.parametrize("point", ["storage.shard.written:2", "uploads.finished"])
def test_the_import_succeeds_after_the_crash(
    tmp_path: Path, image: Path, check_and_repair: Check, point: str
) -> None:
    importer(tmp_path / "data", image, fault=point).communicate(timeout=120)
    process = importer(tmp_path / "data", image)
    output, _ = process.communicate(timeout=120)
    assert output == "connected\nimported\n"
    assert check_and_repair(tmp_path / "data") == 1


def kills(count: int) -> Iterator[float]:
    """Yield moments in seconds after the first import, the same in every run."""
    yield from (random.Random(number).uniform(0, 0.8) for number in range(count))


def kill_at(data: Path, image: Path, check_and_repair: Check, delay_s: float, known: int) -> int:
    """Kill an importer; return how many whole images there are, of which it acknowledged all but one."""
    with importer(data, image, times=1000) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        try:
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            process.kill()
        acknowledged = known + process.stdout.read().count("imported")
    whole = check_and_repair(data)
    assert acknowledged <= whole <= acknowledged + 1
    return whole


def test_killed_at_ten_random_moments(tmp_path: Path, image: Path, check_and_repair: Check) -> None:
    known = 0
    for delay_s in kills(10):
        known = kill_at(tmp_path / "data", image, check_and_repair, delay_s, known)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_three_hundred_random_moments(tmp_path: Path, image: Path, check_and_repair: Check) -> None:
    known = 0
    for number, delay_s in enumerate(kills(300)):
        known = 0 if number % 20 == 0 else known  # a fresh folder now and then: checking reads every image
        known = kill_at(tmp_path / f"data{number // 20}", image, check_and_repair, delay_s, known)
