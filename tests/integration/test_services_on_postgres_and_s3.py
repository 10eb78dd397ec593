"""The services on the other pair: rows in PostgreSQL, bytes in an S3 store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tifffile

import larvik
from larvik import Representation, Sample, Table
from larvik.embedded import EmbeddedConnection
from larvik.errors import LarvikError, NotFoundError
from larvik.importing import import_file, import_files
from larvik.query.query import Query
from larvik.services.backup import restore_backup
from larvik.services.bundle import ServiceConfig, open_services
from larvik.services.doctor import Trouble
from larvik.storage.ngff import read_group

NOW = timedelta(0)


@pytest.fixture
def config(tmp_path: Path, postgres_url: str, s3_url) -> ServiceConfig:
    return ServiceConfig(tmp_path / "node", postgres_url, s3_url.url, s3_url.options)


@pytest.fixture
def connection(config: ServiceConfig) -> Iterator[EmbeddedConnection]:
    options = {"database_url": config.database_url, "store_url": config.store_url}
    with larvik.connect(config.data, store_options=config.store_options, **options) as opened:
        assert isinstance(opened, EmbeddedConnection)
        yield opened


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 4000, (2, 2, 2, 1100, 600), dtype=np.uint16)


@pytest.fixture
def image(tmp_path: Path, stack: np.ndarray) -> Path:
    path = tmp_path / "cells.ome.tiff"
    metadata = {"axes": "TCZYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=metadata)
    return path


def test_an_import_arrives_whole_and_is_found_again(connection, image, stack, tmp_path) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + bytes(20))
    result = import_files([image, tmp_path / "broken.tif"], sample="Slide", experiment="Study")
    (rep,) = result.representations
    assert [failure.reason for failure in result.failures]
    np.testing.assert_array_equal(rep.array.values, stack)
    np.testing.assert_array_equal(rep.array.sel(t=0, c="GFP").max("z").values, stack[0, 1].max(axis=0))
    assert import_file(image) == [rep]
    assert Sample.objects.get(representations__series__file__name="cells.ome.tiff").name == "Slide"
    assert list(connection.services.doctor.examine(idle=NOW, grace=NOW)) == []


def test_two_replicas_work_on_one_session(connection, config, stack) -> None:
    from larvik.storage.regions import regions

    with EmbeddedConnection(
        config.data.with_name("other"),
        database_url=config.database_url,
        store_url=config.store_url,
        store_options=config.store_options,
    ) as other:
        first, second = connection.arrays, other.arrays
        rep = Representation(name="shared")
        values = {"id": rep.id, "name": "shared"}
        spec = Representation.objects.from_xarray(stack, name="model of it").spec
        upload = first.begin("Representation", values, larvik.array.spec.ArraySpec.from_dict(spec), {})
        assert second.begin("Representation", values, upload.spec, {}) == upload
        level = upload.spec.levels[0]
        for number, region in enumerate(regions(level.shape, level.shards)):
            arrays = (first, second)[number % 2]
            arrays.put(upload, tuple(part.start for part in region), stack[region])
        second.commit(upload)
        np.testing.assert_array_equal(Representation.objects.get(id=rep.id).array.values, stack)
        with pytest.raises(NotFoundError):
            first.put(upload, (0, 0, 0, 0, 0), stack[:1, :1])


def test_edits_reach_the_group(connection, image) -> None:
    (rep,) = import_file(image)
    rep.name = "renamed"
    rep.save()
    connection.services.copier.drain()
    assert read_group(connection.services.store, rep.location).name == "renamed"


def test_doctor_frees_what_was_left(connection, stack) -> None:
    services = connection.services
    rep = Representation.objects.from_xarray(stack, name="kept")
    upload = connection.arrays.begin("Representation", {"name": "left"}, services.arrays.stored(
        services.arrays.record(services.identity.local(), rep.id)).spec, {})  # fmt: skip
    level = upload.spec.levels[0]
    connection.arrays.put(upload, (0,) * 5, stack[tuple(slice(0, n) for n in level.shards)])
    services.store.write("arrays/zz/nothing.ome.zarr/zarr.json", b"{}")
    assert Trouble.IDLE_UPLOAD not in {one.trouble for one in services.doctor.examine(idle=NOW, grace=NOW)}
    with open_services(services.config) as other:  # our own sessions are not left behind; those of others are
        found = {finding.trouble for finding in other.doctor.examine(fix=True, idle=NOW, grace=NOW)}
    assert found == {Trouble.IDLE_UPLOAD, Trouble.ORPHAN_ARRAY}
    assert list(services.doctor.examine(idle=NOW, grace=NOW)) == []
    assert sum(size for _, size in services.store.list("arrays")) == rep.stored_bytes
    assert services.uploads.idle(datetime.now(UTC)) == []


def test_a_backup_moves_to_a_folder_and_back(
    connection, config, image, stack, tmp_path, postgres_server, s3_server
) -> None:
    import_file(image, sample="Slide", experiment="Study")
    Table.objects.from_frame(pa.table({"a": [1, 2]}), name="cells")
    me = connection.services.identity.local()
    report = connection.services.backups.create(me, tmp_path / "backup.tar")
    local = ServiceConfig(tmp_path / "local")
    assert restore_backup(local, tmp_path / "backup.tar").rows == report.rows
    with open_services(local) as services:
        moved = services.catalog.page(me, Query("Representation")).records
        assert moved == connection.services.catalog.page(me, Query("Representation")).records
        reader = services.arrays.reader(services.arrays.stored(moved[0]), 0)
        np.testing.assert_array_equal(reader.read(tuple(slice(0, n) for n in stack.shape)), stack)
        services.backups.create(me, tmp_path / "back")
    url = postgres_server.create_database()
    try:
        target = ServiceConfig(tmp_path / "node2", url, f"{config.store_url}/second", config.store_options)
        assert restore_backup(target, tmp_path / "back").rows == report.rows
        with open_services(target) as services:
            assert services.catalog.page(me, Query("Representation")).records == moved
            assert list(services.doctor.examine()) == []
    finally:
        postgres_server.drop_database(url)


def test_a_vanished_bucket_is_named(tmp_path, postgres_url, s3_bucket, image) -> None:
    with larvik.connect(
        tmp_path / "node",
        database_url=postgres_url,
        store_url=s3_bucket.url + "-gone",
        store_options=s3_bucket.options,
    ) as connection:
        result = import_files([image], sample="Slide")
        (failure,) = result.failures
        assert failure.reason == "STORE_UNREACHABLE"
        assert Representation.objects.count() == Sample.objects.count() == 0
        with pytest.raises(LarvikError) as caught:
            connection.services.store.read("x")
        assert caught.value.reason in ("STORE_UNREACHABLE", "OBJECT_MISSING")
