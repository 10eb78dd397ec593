"""The benchmarks run: each subject, on data that only shows that it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "run.py"
#: Those of pixels; the others take a database of their own, or minutes.
SUBJECTS = ("limits", "reads", "crops", "streams", "pushdown", "clients", "writes", "shaped")


@pytest.mark.timeout(600)
def test_every_subject_about_pixels_runs_and_finds_the_true_ones() -> None:
    command = [sys.executable, str(PROGRAM), *SUBJECTS, "--quick", "--no-peers"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    measured = [
        line for line in run.stdout.splitlines() if line.startswith("  ") and "not measured" not in line
    ]
    for part in ("raw TCP, one stream", "thick lz4: Larvik, dense, full read", "cold crop, p50, Larvik, auto",
                 "dense: first data", "pushed down / fetched", "2 clients", "upload, Larvik, dense",
                 "shaped link: read, Larvik, dense"):  # fmt: skip
        assert any(part in line for line in measured), f"{part!r} is missing in\n{run.stdout}"


def test_a_subject_that_is_unknown_is_named() -> None:
    run = subprocess.run([sys.executable, str(PROGRAM), "reeds"], capture_output=True, text=True, check=False)

    assert run.returncode == 2
    assert "reeds" in run.stderr
