from __future__ import annotations

from pathlib import Path

import pytest

from larvik.errors import CallCancelledError
from larvik.services.digests import file_digest


def test_equal_content_has_one_digest_whatever_its_name(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_bytes(b"pixels" * 1000)
    assert file_digest(tmp_path / "a.tif") == file_digest(tmp_path / "b.tif")
    assert file_digest(tmp_path / "a.tif")[1] == 6000


def test_one_changed_byte_changes_the_digest_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "c").write_bytes(bytes(100))
    before = file_digest(tmp_path)
    (tmp_path / "0" / "c").write_bytes(bytes(99) + b"\1")
    assert file_digest(tmp_path)[0] != before[0]
    assert file_digest(tmp_path)[1] == before[1] == 100


def test_moving_a_chunk_changes_the_digest_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    before = file_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert file_digest(tmp_path) != before


def test_a_digest_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(CallCancelledError):
        file_digest(tmp_path / "a", cancelled=lambda: True)
