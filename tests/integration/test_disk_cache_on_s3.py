"""The cache of stored bytes as a server has it: what was read once is not asked of the bucket again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

import larvik
from fixtures.http_proxy import SpoilingProxy
from larvik.importing import import_file
from larvik.query.query import Query
from larvik.services.arrays import StoredArray
from larvik.services.bundle import ServiceConfig, Services, cached_store, open_services
from larvik.storage import open_store
from larvik.storage.disk_cache import CachedStore

PIXELS = np.random.default_rng(6).integers(0, 4000, (1, 2, 4, 600, 600), dtype=np.uint16)


@pytest.fixture
def proxy(s3_server) -> Iterator[SpoilingProxy]:
    with SpoilingProxy(s3_server.endpoint_url) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, s3_url, proxy: SpoilingProxy) -> ServiceConfig:
    """Give the configuration of a node whose bucket has one image."""
    image = tmp_path / "cells.ome.tiff"
    tifffile.imwrite(image, PIXELS, photometric="minisblack", metadata={"axes": "TCZYX"})
    options = {**s3_url.options, "endpoint_url": proxy.url}
    with larvik.connect(tmp_path / "node", store_url=s3_url.url, store_options=options):
        import_file(image)
    return ServiceConfig(
        tmp_path / "node", store_url=s3_url.url, store_options=options, disk_cache_bytes=64 << 20
    )


def stored(services: Services) -> StoredArray:
    (row,) = services.catalog.page(services.identity.local(), Query("Representation"), size=1).records
    return services.arrays.stored(row)


def read(services: Services) -> np.ndarray:
    return services.arrays.reader(stored(services), 0).read((slice(None),) * 5)


def chunk_requests(proxy: SpoilingProxy) -> int:
    return sum("/c/" in request for request in proxy.requests)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_another_process_finds_what_one_has_read(config, proxy):
    for first in (True, False):
        proxy.requests.clear()
        with open_services(config) as services:
            assert np.array_equal(read(services), PIXELS)
        assert (chunk_requests(proxy) > 0) is first
        assert any("zarr.json" in request for request in proxy.requests), "documents are never kept"
    assert size_of(config.data / "cache") > 0


def test_it_stays_within_its_bytes(config, proxy, tmp_path):
    small = replace(config, disk_cache_bytes=4 << 20, disk_cache=str(tmp_path / "elsewhere"))
    for _ in range(3):
        with open_services(small) as services:
            assert np.array_equal(read(services), PIXELS)
        assert 0 < size_of(tmp_path / "elsewhere") <= 4 << 20
    assert not (config.data / "cache").exists()


def test_there_is_none_without_bytes_and_none_for_a_folder(config, tmp_path):
    bucket = open_store(config.store_url, **config.store_options)
    assert cached_store(bucket, replace(config, disk_cache_bytes=0)) is bucket
    assert isinstance(cached_store(bucket, config), CachedStore)
    folder = open_store(str(tmp_path / "folder"), create=True)
    assert cached_store(folder, config) is folder


def test_addresses_are_still_signed(config):
    with open_services(config) as services:
        assert services.arrays.objects(stored(services), 0).are_addressable


def test_registered_sources_are_not_kept(config, monkeypatch):
    # Importing reads as the person who imports, with the credentials of the environment.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", config.store_options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", config.store_options["secret"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", config.store_options["endpoint_url"])
    with open_services(config) as services:
        group = f"{config.store_url}/{stored(services).location}"
    roots = (config.store_url,)
    options = {"store_url": config.store_url, "store_options": config.store_options}
    with larvik.connect(config.data, import_roots=roots, **options):
        (registered,) = import_file(group, in_place=True)
    with open_services(replace(config, import_roots=roots)) as services:
        record = services.arrays.record(services.identity.local(), registered.id)
        array = services.arrays.stored(record)
        assert array.is_registered
        pixels = services.arrays.reader(array, 0).read((slice(None),) * len(array.spec.axes))
        assert np.array_equal(pixels.reshape(PIXELS.shape), PIXELS)
    assert not (config.data / "cache").exists()
