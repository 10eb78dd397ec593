"""A folder of one's own for every test, as the default connection."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import larvik
from larvik.connection import Connection


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with larvik.connect(tmp_path / "data") as opened:
        yield opened
