from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from larvik.errors import AlreadyExistsError, LarvikError, PermissionDeniedError
from larvik.ids import new_id
from larvik.query.query import Query, Trash
from larvik.services.backup import restore_backup
from larvik.services.bundle import ServiceConfig, Services, open_services
from larvik.services.principal import READ, Principal
from larvik.storage.ngff import read_group


@pytest.fixture
def filled(services: Services, me: Principal, maker, pixels, small) -> Services:
    experiment, sample = new_id(), new_id()
    services.catalog.create(me, "Experiment", [{"id": experiment, "name": "Study"}])
    services.catalog.create(me, "Sample", [{"id": sample, "name": "Slide", "experiment_id": experiment}])
    begun = maker.begin(
        pixels, {"Channel": [{"index": 0, "name": "µ"}]}, sample_id=sample, attributes={"a": [1]}
    )
    maker.write(begun, pixels)
    parent = services.uploads.commit(me, begun.id)
    child = maker.store(pixels[:1], name="child", parent_id=parent.values["id"], type="first")
    # A parent that is younger than its child: references cannot be stored in the order of ids.
    younger = maker.store(pixels, name="younger")
    services.catalog.update(
        me, "Representation", str(child.values["id"]), {"parent_id": younger.values["id"]}
    )
    trashed = maker.store(small, name="trashed")
    services.catalog.delete(me, "Representation", str(trashed.values["id"]))
    services.tables.write(me, {"name": "cells"}, pa.table({"a": [1, 2]}))
    services.catalog.create(
        me,
        "ROI",
        [
            {
                "vertices": np.arange(4.0).tobytes(),
                "representation_id": younger.values["id"],
                "kind": "rectangle",
            }
        ],
    )
    open_session = maker.begin(small)
    maker.write(open_session, small)
    return services


def everything(services: Services) -> dict[str, list]:
    me = services.identity.local()
    return {
        spec.name: list(services.catalog.page(me, Query(spec.name, trash=Trash.INCLUDE), size=500).records)
        if spec.field("deleted_at")
        else list(services.catalog.page(me, Query(spec.name), size=500).records)
        for spec in services.registry
    }


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_a_restored_larvik_is_the_same(filled, me, pixels, tmp_path, name) -> None:
    filled.copier.drain()
    report = filled.backups.create(me, tmp_path / name)
    assert (report.arrays, report.missing) == (5, ())
    config = ServiceConfig(tmp_path / "restored")
    restored = restore_backup(config, tmp_path / name)
    assert (restored.rows, restored.arrays, restored.size_bytes) == (report.rows, 5, report.size_bytes)
    with open_services(config) as other:
        assert everything(other) == everything(filled)
        assert list(other.doctor.examine()) == []
        record = next(r for r in everything(other)["Representation"] if r.values["name"] == "younger")
        reader = other.arrays.reader(other.arrays.stored(record), 0)
        np.testing.assert_array_equal(reader.read(tuple(slice(0, size) for size in pixels.shape)), pixels)
        assert other.identity.local() == me


def test_a_group_that_was_edited_during_the_backup_follows_the_database_again(filled, me, tmp_path) -> None:
    filled.copier.drain()
    filled.backups.create(me, tmp_path / "backup")
    row = everything(filled)["Representation"][0].values
    key = tmp_path / "backup" / "store" / str(row["location"]) / "zarr.json"
    document = json.loads(key.read_text())
    document["attributes"]["larvik"].update(revision=9, name="ahead")
    key.write_text(json.dumps(document))
    config = ServiceConfig(tmp_path / "restored")
    restore_backup(config, tmp_path / "backup")
    with open_services(config) as other:
        assert [finding.subject for finding in other.doctor.examine(fix=True)] == [row["id"]]
        assert read_group(other.store, str(row["location"])).name == row["name"]


def test_missing_bytes_are_reported_and_hold_up_nothing(filled, me, tmp_path) -> None:
    location = str(everything(filled)["Table"][0].values["location"])
    filled.store.delete(location)
    report = filled.backups.create(me, tmp_path / "backup")
    assert report.missing == (location,)
    assert restore_backup(ServiceConfig(tmp_path / "restored"), tmp_path / "backup").rows == report.rows


def test_only_administrators_make_backups(filled, me, tmp_path) -> None:
    reader = Principal(me.subject_id, "r", "user", frozenset({READ}))
    with pytest.raises(PermissionDeniedError):
        filled.backups.create(reader, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_an_existing_target_is_refused(filled, me, tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(AlreadyExistsError):
        filled.backups.create(me, tmp_path / "full")
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_a_failed_backup_leaves_nothing(filled, me, tmp_path) -> None:
    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for name in ("backup", "backup.tar"):
        with pytest.raises(KeyboardInterrupt):
            filled.backups.create(me, tmp_path / name, progress=fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_larvik_that_holds_rows_is_not_restored_into(filled, me, tmp_path) -> None:
    filled.backups.create(me, tmp_path / "backup")
    config = ServiceConfig(tmp_path / "other")
    with open_services(config) as other:
        other.identity.local()
    with pytest.raises(LarvikError) as caught:
        restore_backup(config, tmp_path / "backup")
    assert caught.value.reason == "DATABASE_NOT_EMPTY"


def test_an_open_folder_is_not_restored_into(filled, me, tmp_path) -> None:
    filled.backups.create(me, tmp_path / "backup")
    config = ServiceConfig(tmp_path / "other")
    with open_services(config), pytest.raises(LarvikError) as caught:
        restore_backup(config, tmp_path / "backup")
    assert caught.value.reason == "FOLDER_IN_USE"


def damaged(kind: str, folder: Path) -> Path:
    if kind == "missing":
        return folder / "none"
    if kind == "no manifest":
        (folder / "manifest.json").unlink()
    elif kind == "no rows":
        (folder / "rows" / "sample.parquet").unlink()
    elif kind == "cut rows":
        (folder / "rows" / "sample.parquet").write_bytes(b"PAR1")
    elif kind == "no tar":
        other = folder.with_suffix(".tar")
        other.write_bytes(b"\0" * 100 + b"x" * 5000)
        return other
    elif kind == "hostile tar":
        other = folder.with_suffix(".tar")
        with tarfile.open(other, "w") as tar:
            tar.add(folder / "manifest.json", "store/../../../escaped")
        return other
    elif kind == "fewer rows":
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["rows"]["sample"] += 1
        (folder / "manifest.json").write_text(json.dumps(manifest))
    elif kind == "another file":
        (folder / "store" / "registered-roots.json").write_text('["/"]')
    elif kind == "sparse tar":
        other = folder.with_suffix(".tar")
        with tarfile.open(other, "w", format=tarfile.PAX_FORMAT) as tar:
            member = tarfile.TarInfo("rows/sample.parquet")
            member.size = 512
            member.pax_headers = {"GNU.sparse.size": str(1 << 50), "GNU.sparse.map": "0,512"}
            tar.addfile(member, io.BytesIO(bytes(512)))
        return other
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        "missing", "no manifest", "no rows", "cut rows", "no tar", "hostile tar", "fewer rows",
        "another file", "sparse tar",
    ],
)  # fmt: skip
def test_damaged_backups_are_refused(filled, me, tmp_path, kind) -> None:
    filled.backups.create(me, tmp_path / "backup")
    source = damaged(kind, tmp_path / "backup")
    config = ServiceConfig(tmp_path / "deep" / "restored")
    with pytest.raises(LarvikError) as caught:
        restore_backup(config, source)
    assert caught.value.reason in ("BACKUP_INVALID", "BACKUP_NOT_FOUND", "KEY_INVALID")
    assert not list(tmp_path.rglob("escaped"))
    with open_services(config) as restored:
        assert restored.catalog.count(me, Query("Sample")) == 0


def test_usage_counts_arrays_and_tables_by_experiment(filled, me) -> None:
    found = {(item.model, item.experiment): (item.count, item.size_bytes) for item in filled.usage(me)}
    rows = everything(filled)["Representation"]
    ours = [row for row in rows if row.values["scope_id"] is not None]
    assert found["Representation", "Study"] == (
        len(ours),
        sum(int(str(r.values["stored_bytes"])) for r in ours),
    )
    assert found["Representation", None][0] == len(rows) - len(ours)
    assert found["Table", None][0] == 1


def test_a_backup_on_a_full_disk_leaves_nothing(filled, me, tmp_path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from larvik.errors import ResourceExhaustedError
from larvik.services.archive import ArchiveWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with ArchiveWriter(Path(sys.argv[1])) as archive:
        archive.add("store/arrays/one", bytes(100_000))
except ResourceExhaustedError as error:
    print(error.reason)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "backup.tar")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "STORE_FULL\n"
    assert not list(tmp_path.glob("backup*"))
