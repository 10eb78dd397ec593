"""Lazy arrays handed to libraries that take arrays of others."""

from __future__ import annotations

import numpy as np
import pytest

import larvik
from larvik import Representation


@pytest.fixture
def image(tmp_path):
    with larvik.connect(tmp_path / "data"):
        pixels = np.random.default_rng(1).integers(0, 4000, (3, 60, 70), dtype="uint16")
        yield Representation.objects.from_xarray(pixels, name="cells").array, pixels


def test_dlpack_gives_the_values(image) -> None:
    array, pixels = image
    np.testing.assert_array_equal(np.from_dlpack(array.data), pixels)
    np.testing.assert_array_equal(np.from_dlpack((array.max("z") > 2000).data), pixels.max(axis=0) > 2000)
    np.testing.assert_array_equal(np.from_dlpack(array.T.data, device="cpu", copy=True), pixels.T)
    assert array.data.__dlpack_device__() == (1, 0)


def test_what_dask_computes_is_given_too(image) -> None:
    array, pixels = image
    found = np.from_dlpack(array.astype("float64").cumsum("y").data)
    np.testing.assert_array_equal(found, pixels.astype("float64").cumsum(axis=1))


def test_values_that_are_not_there_yet_cannot_be_shared_without_a_copy(image) -> None:
    array, _ = image
    with pytest.raises(BufferError, match="without a copy"):
        np.from_dlpack(array.data, copy=False)
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(array.data, copy=False)


def test_other_devices_are_refused(image) -> None:
    array, _ = image
    with pytest.raises((BufferError, ValueError)):
        array.data.__dlpack__(dl_device=(2, 0))
