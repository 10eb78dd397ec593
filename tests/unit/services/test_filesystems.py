from __future__ import annotations

from pathlib import Path

import pytest

from larvik.errors import PreconditionError
from larvik.services.filesystems import filesystem_type, refuse_network


def mounts(tmp_path: Path, *lines: str) -> str:
    file = tmp_path / "mounts"
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


def test_a_network_filesystem_is_refused_for_the_database(tmp_path: Path) -> None:
    table = mounts(tmp_path, "/dev/vda / ext4 rw 0 0", f"server:/export {tmp_path} nfs4 rw 0 0")
    with pytest.raises(PreconditionError, match="nfs4") as caught:
        refuse_network(tmp_path / "data", mounts=table)
    assert caught.value.reason == "DATA_ON_NETWORK"


def test_a_local_disk_below_a_network_mount_is_taken(tmp_path: Path) -> None:
    table = mounts(tmp_path, f"server:/x {tmp_path.parent} nfs rw 0 0", f"/dev/vdb {tmp_path} xfs rw 0 0")
    refuse_network(tmp_path / "data", mounts=table)


def test_a_later_mount_covers_an_earlier_one(tmp_path: Path) -> None:
    table = mounts(tmp_path, f"/dev/vdb {tmp_path} xfs rw 0 0", f"host:/x {tmp_path} nfs rw 0 0")
    assert filesystem_type(tmp_path, mounts=table) == "nfs"


def test_names_that_only_begin_alike_are_other_folders(tmp_path: Path) -> None:
    table = mounts(tmp_path, "/dev/vda / ext4 rw 0 0", f"host:/x {tmp_path}/da nfs rw 0 0")
    assert filesystem_type(tmp_path / "data", mounts=table) == "ext4"


def test_spaces_in_mount_points_are_understood(tmp_path: Path) -> None:
    folder = tmp_path / "lab data"
    point = str(folder).replace(" ", "\\040")
    table = mounts(tmp_path, "/dev/vda / ext4 rw 0 0", f"h:/x {point} cifs rw 0 0")
    assert filesystem_type(folder, mounts=table) == "cifs"


def test_a_system_without_a_table_of_mounts_is_trusted(tmp_path: Path) -> None:
    refuse_network(tmp_path, mounts=str(tmp_path / "missing"))
