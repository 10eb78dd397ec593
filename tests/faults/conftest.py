"""What the fault tests share: an image to import, and the judge of what a crash left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from larvik.query.query import Query, Record
from larvik.services.bundle import ServiceConfig, Services, open_services


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4000, (2, 2, 2, 1100, 600), dtype=np.uint16)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("images") / "cells.ome.tiff"
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "TCZYX"})
    return path


@pytest.fixture
def check_and_repair(pixels: np.ndarray) -> Callable[[Path], int]:
    """Give a function that judges a data folder after a crash, and frees what the crash left."""
    return lambda data: _check_and_repair(data, pixels)


def _images(services: Services) -> list[Record]:
    return list(services.catalog.page(services.identity.local(), Query("Representation"), size=1000).records)


def _check_stored(services: Services, visible: list[Record]) -> None:
    """Check that the store holds the bytes of what is visible, and no others."""
    found: Counter[str] = Counter()
    for key, size in services.store.list("arrays"):
        found["/".join(key.split("/")[:3])] += size
    assert found.keys() == {record.values["location"] for record in visible}
    for record in visible:
        if record.values["revision"] == 1:  # an edit changes the size of the group's copy of the metadata
            assert found[str(record.values["location"])] == record.values["stored_bytes"]
    tables = services.catalog.page(services.identity.local(), Query("Table"), size=1000).records
    kept = {str(record.values["location"]): record.values["stored_bytes"] for record in tables}
    assert dict(services.store.list("tables")) == kept


def _check_and_repair(data: Path, pixels: np.ndarray) -> int:
    """Check what is visible, let doctor free the rest, check that it did; return the number of images."""
    with open_services(ServiceConfig(data)) as services:
        visible = _images(services)
        for record in visible:
            stored = services.arrays.stored(record)
            reader = services.arrays.reader(stored, 0)
            np.testing.assert_array_equal(reader.read(tuple(slice(0, n) for n in pixels.shape)), pixels)
            coarse = services.arrays.reader(stored, len(stored.spec.levels) - 1)
            coarse.read(tuple(slice(0, n) for n in coarse.shape))
        assert all(finding.is_fixed for finding in services.doctor.examine(fix=True))
        assert list(services.doctor.examine()) == []
        _check_stored(services, visible)
        assert services.locks.sessions() == []
        if not visible:
            me = services.identity.local()
            for model in ("Experiment", "Sample", "File", "Series", "Channel"):
                assert services.catalog.count(me, Query(model)) == 0, model
    return len(visible)
