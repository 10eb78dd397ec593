"""How much of a large image a picture reads: a screen's worth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import larvik
from larvik import Representation
from larvik.embedded import EmbeddedConnection
from larvik.testing.stores import CountingStore

SIDE = 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one image of 32 MiB of noise, which compresses little."""
    folder = tmp_path_factory.mktemp("large") / "data"
    noise = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE), dtype=np.uint16)
    with larvik.connect(folder):
        Representation.objects.from_xarray(xr.DataArray(noise, dims=("y", "x")), name="large")
    return folder


@pytest.fixture
def counted(folder: Path) -> Iterator[tuple[Representation, CountingStore]]:
    with larvik.connect(folder) as connection:
        assert isinstance(connection, EmbeddedConnection)
        store = CountingStore(connection.services.store)
        connection.services.store = store
        yield Representation.objects.get(name="large"), store


def test_a_picture_of_a_large_image_reads_a_screen_of_it(
    counted: tuple[Representation, CountingStore],
) -> None:
    row, store = counted
    figure = row.viewer.show()
    assert max(figure.axes[0].images[0].get_array().shape) == 1024
    assert 1 << 20 < store.bytes_read < 3 << 20


def test_a_card_of_a_large_image_reads_no_more(counted: tuple[Representation, CountingStore]) -> None:
    row, store = counted
    row._repr_html_()
    assert 0 < store.bytes_read < 3 << 20


def test_a_crop_is_shown_in_its_own_pixels(counted: tuple[Representation, CountingStore]) -> None:
    row, store = counted
    figure = row.array.isel(y=slice(0, 300), x=slice(0, 400)).viewer.show()
    assert figure.axes[0].images[0].get_array().shape == (300, 400, 3)
    assert store.bytes_read < 2 << 20
