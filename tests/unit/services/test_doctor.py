from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from larvik.ids import new_id
from larvik.services.bundle import Services, open_services
from larvik.services.doctor import Finding, Trouble
from larvik.services.import_options import ImportOptions
from larvik.services.tables import table_location
from larvik.storage.ngff import read_group

from .conftest import Maker

NOW = timedelta(0)


def examine(services: Services, *, fix: bool = False) -> list[Finding]:
    return list(services.doctor.examine(fix=fix, idle=NOW, grace=NOW))


def troubles(services: Services) -> list[Trouble]:
    return [finding.trouble for finding in examine(services)]


def fixed(services: Services) -> None:
    before = examine(services)
    after = examine(services, fix=True)
    assert [finding.subject for finding in after] == [finding.subject for finding in before]
    assert all(finding.is_fixed for finding in after)
    assert not any(finding.is_fixed for finding in before)
    assert examine(services) == []


def test_a_healthy_larvik_has_no_findings(services, me, maker, small) -> None:
    maker.store(small)
    services.tables.write(me, {"name": "cells"}, pa.table({"a": [1]}))
    assert examine(services) == []
    assert list(services.doctor.examine()) == []


@pytest.fixture
def left(services) -> Iterator[Maker]:
    """Makes what another process leaves behind, which has ended by the time the block does."""
    with open_services(services.config) as other:
        yield Maker(other, other.identity.local())


def test_left_uploads_are_dropped_with_their_bytes(services, left, pixels) -> None:
    begun = left.begin(pixels)
    left.write(begun, pixels, leave_out=1)
    left.services.uploads.close()  # its process ended
    (finding,) = examine(services)
    assert (finding.trouble, finding.subject) == (Trouble.IDLE_UPLOAD, begun.id)
    assert finding.size_bytes == sum(size for _, size in services.store.list("arrays")) > 0
    fixed(services)
    assert list(services.store.list("arrays")) == []


def test_uploads_that_are_young_or_worked_on_stay(services, left, small) -> None:
    begun = left.begin(small)
    left.write(begun, small)
    assert list(services.doctor.examine(fix=True)) == []
    with services.locks.shared(begun.id):
        examine(services, fix=True)
    services.uploads.commit(left.principal, begun.id)


@pytest.mark.parametrize("options", [{}, {"idle": NOW, "grace": NOW}])
def test_uploads_of_this_process_stay(services, maker, pixels, options) -> None:
    begun = maker.begin(pixels)
    maker.write(begun, pixels, leave_out=1)
    services.store.write(f"arrays/{begun.id[-2:]}/{begun.id}.ome.zarr/0/c/0.abc.partial", b"half")
    assert list(services.doctor.examine(fix=True, **options)) == []
    assert any(key.endswith(".partial") for key, _ in services.store.list("arrays"))
    maker.write(begun, pixels)
    services.uploads.commit(maker.principal, begun.id)


def test_uploads_that_this_process_forgot_a_day_ago_are_dropped(services, maker, small) -> None:
    begun = maker.begin(small)
    with services.database.write() as connection:
        long_ago = datetime.now(UTC) - timedelta(days=1, minutes=1)
        connection.execute(services.database.tables.upload.update().values(touched_at=long_ago))
    (finding,) = services.doctor.examine(fix=True)
    assert (finding.subject, finding.is_fixed) == (begun.id, True)


def test_bytes_without_a_row_are_deleted(services, maker, small) -> None:
    record = maker.store(small)
    orphan = new_id()
    for key, _ in list(services.store.list(record.values["location"])):
        other = key.replace(record.values["id"], orphan)
        services.store.write(other, services.store.read(key))
    services.store.write("arrays/zz/not-an-id.ome.zarr/zarr.json", b"{}")
    services.store.write(table_location(new_id()), b"rows")
    assert sorted(troubles(services)) == [Trouble.ORPHAN_ARRAY, Trouble.ORPHAN_ARRAY, Trouble.ORPHAN_TABLE]
    with open_services(services.config):  # somebody else, who may be writing them
        assert list(services.doctor.examine(fix=True)) == []
    fixed(services)
    assert read_group(services.store, record.values["location"]).array_id == record.values["id"]


def test_arrays_in_the_trash_keep_their_bytes(services, me, maker, small) -> None:
    record = maker.store(small)
    services.catalog.delete(me, "Representation", record.values["id"])
    services.copier.drain()
    assert examine(services, fix=True) == []
    assert services.store.size(f"{record.values['location']}/zarr.json")


def test_partial_files_are_deleted(services, maker, small) -> None:
    location = maker.store(small).values["location"]
    services.store.write(f"{location}/0/c/0/0/0/0.abc.partial", b"half")
    services.store.write("tables/ab/x.parquet.abc.partial", b"half")
    assert troubles(services) == [Trouble.PARTIAL_FILE] * 2
    fixed(services)


def test_rows_without_bytes_are_reported_and_never_deleted(services, me, maker, small) -> None:
    record = maker.store(small)
    table = services.tables.write(me, {"name": "cells"}, pa.table({"a": [1]}))
    services.store.delete_prefix(record.values["location"])
    services.store.delete(table.values["location"])
    findings = examine(services, fix=True)
    assert {(finding.trouble, finding.subject) for finding in findings} == {
        (Trouble.MISSING_BYTES, record.values["id"]),
        (Trouble.MISSING_BYTES, table.values["id"]),
    }
    assert not any(finding.is_fixed for finding in findings)
    assert services.arrays.record(me, record.values["id"])


@pytest.mark.parametrize("marked", [True, False])
def test_stale_copies_of_the_metadata_are_rewritten(services, me, maker, small, marked) -> None:
    record = maker.store(small)
    location = record.values["location"]
    if marked:
        services.catalog.update(me, "Representation", record.values["id"], {"name": "after"})
    else:  # somebody else's program changed the group
        document = json.loads(services.store.read(f"{location}/zarr.json"))
        document["attributes"]["larvik"].update(revision=0, name="hacked")
        services.store.write(f"{location}/zarr.json", json.dumps(document).encode())
    assert troubles(services) == [Trouble.STALE_METADATA]
    fixed(services)
    assert read_group(services.store, location).name == ("after" if marked else "image")


def test_a_registered_source_that_changed_or_went_is_reported(services, me, maker, small, tmp_path) -> None:
    record = maker.store(small)
    source = tmp_path / "source" / "image.ome.zarr"
    shutil.copytree(services.config.data / record.values["location"], source)
    (row,) = services.imports.import_path(me, str(source), ImportOptions(in_place=True), anywhere=True)
    assert examine(services) == []
    chunk = next(path for path in sorted(source.rglob("c/**/*")) if path.is_file())
    chunk.write_bytes(chunk.read_bytes() + b"x")
    for damage in (lambda: None, lambda: shutil.rmtree(source)):
        damage()
        (finding,) = examine(services, fix=True)
        assert (finding.trouble, finding.subject) == (Trouble.MISSING_SOURCE, row.values["id"])
        assert not finding.is_fixed


def test_dead_locks_are_removed(services) -> None:
    with services.locks.exclusive(new_id()), services.locks.exclusive("not-an-id"):
        assert examine(services, fix=True) == []
    assert troubles(services) == [Trouble.DEAD_LOCK] * 2
    fixed(services)
    assert services.locks.sessions() == []


def test_alone_everything_unfinished_is_left_behind(services, small) -> None:
    with open_services(services.config) as other:
        left = Maker(other, other.identity.local())
        left.write(left.begin(small), small)
    services.store.write(table_location(new_id()), b"rows")
    assert {finding.trouble for finding in services.doctor.examine(fix=True)} == {
        Trouble.IDLE_UPLOAD,
        Trouble.ORPHAN_TABLE,
    }
    with open_services(services.config):  # the folder is shared again
        assert list(services.doctor.examine()) == []
