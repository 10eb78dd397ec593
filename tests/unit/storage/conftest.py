"""The store that the tests of storage begin with."""

from __future__ import annotations

import pytest

from larvik.storage import open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"), create=True)
