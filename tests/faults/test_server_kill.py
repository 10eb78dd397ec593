"""A killed server leaves nothing visible that is not whole, and a new one goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import larvik
from larvik import faults
from larvik.errors import LarvikError, PreconditionError
from larvik.testing.server import larvik_server

Check = Callable[[Path], int]


def after_exit(check: Check, data: Path) -> int:
    """Judge the folder once the last process of the killed server let go of it."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return check(data)
        except PreconditionError as error:
            if error.reason != "FOLDER_SERVED" or time.monotonic() > deadline:
                raise


@pytest.mark.parametrize("point", faults.POINTS)
def test_a_server_killed_at_a_named_point_shows_no_half_array(
    tmp_path: Path, image: Path, check_and_repair: Check, point: str
) -> None:
    expected = 1 if point == "uploads.row.committed" else 0
    with larvik_server(tmp_path / "data", environment={"LARVIK_FAULT": point}) as server:
        with larvik.connect(server.url, token=server.token) as opened:
            try:
                larvik.import_file(image, sample="Slide", experiment="Study", connection=opened)
                # A data process dies at each of its shards, and is started again: the client goes on.
                assert point in ("storage.shard.written", "uploads.block.written")
                expected = 1
            except LarvikError as error:
                reason = error.reason
            else:
                reason = "SERVER_UNREACHABLE"
        server.kill()
    assert reason == "SERVER_UNREACHABLE"
    assert after_exit(check_and_repair, tmp_path / "data") == expected


def test_a_new_server_takes_the_same_import(tmp_path: Path, image: Path, check_and_repair: Check) -> None:
    with larvik_server(tmp_path / "data", environment={"LARVIK_FAULT": "uploads.finished"}) as server:
        token = server.token
        with larvik.connect(server.url, token=token) as connection, pytest.raises(LarvikError):
            larvik.import_file(image, sample="Slide", experiment="Study", connection=connection)
        server.kill()
    after_exit(check_and_repair, tmp_path / "data")
    with larvik_server(tmp_path / "data") as server, larvik.connect(server.url, token=token) as connection:
        made = larvik.import_file(image, sample="Slide", experiment="Study", connection=connection)
        assert len(made) == 1
    assert after_exit(check_and_repair, tmp_path / "data") == 1
