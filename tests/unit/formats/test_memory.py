from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from larvik.array.spec import DTYPES
from larvik.errors import InvalidArgumentError
from larvik.formats.memory import from_memory

WHOLE = (slice(None),) * 3


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(DTYPES), st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_every_region_of_every_dtype_is_what_numpy_slices(
    dtype: str, shape: list[int], data: st.DataObject
) -> None:
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    bounds = [sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in shape]
    selection = tuple(slice(*bound) for bound in bounds)
    for array in (pixels, da.from_array(pixels, chunks=2), xr.DataArray(pixels)):
        found = from_memory(array).read(selection)
        assert found.dtype == pixels.dtype
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, pixels[selection])


def test_plain_arrays_take_the_last_of_t_c_z_y_x() -> None:
    source = from_memory(np.zeros((2, 3, 4)))
    assert source.dims == ("z", "y", "x")
    assert [axis.unit for axis in source.info.axes] == ["pixel"] * 3
    assert from_memory([[1, 2]], dims=("phase", "x")).dims == ("phase", "x")


def test_coordinates_become_spacing_origin_and_times() -> None:
    image = xr.DataArray(
        np.zeros((3, 2, 4, 5), "uint8"),
        dims=("t", "c", "y", "x"),
        coords={
            "t": ("t", [0.0, 1.0, 5.0], {"units": "second"}),
            "c": ["DAPI", "GFP"],
            "y": ("y", np.arange(4) * 500.0, {"units": "nm"}),
            "x": ("x", 3 + np.arange(5) * 0.25, {"units": "micrometer"}),
        },
        name="cells",
    )
    source = from_memory(image)
    info = source.info
    assert info.name == "cells"
    assert info.coordinates == {"t": (0.0, 1.0, 5.0)}
    assert info.spacing == (1.0, 1.0, 0.5, 0.25)
    assert info.origin == (0.0, 0.0, 0.0, 3.0)
    assert [axis.unit for axis in info.axes] == ["second", None, "micrometer", "micrometer"]
    assert info.channel_names == ("DAPI", "GFP")
    assert [row["name"] for row in source.biometa.channels] == ["DAPI", "GFP"]
    assert source.spec.format == "ome-zarr"


def test_dates_become_seconds_from_the_first() -> None:
    times = pd.date_range("2024-01-01", periods=3, freq="30s")
    info = from_memory(xr.DataArray(np.zeros((3, 2, 2)), dims=("t", "y", "x"), coords={"t": times})).info
    assert info.spacing[0] == 30.0
    assert info.axes[0].unit == "second"


def test_labels_of_other_dims_are_kept() -> None:
    image = xr.DataArray(np.zeros((2, 2, 2)), dims=("sample", "y", "x"), coords={"sample": ["a", "b"]})
    source = from_memory(image)
    assert source.info.coordinates == {"sample": ("a", "b")}
    assert source.spec.format == "zarr"


def test_booleans_are_masks_and_lazy_arrays_keep_their_chunks() -> None:
    assert from_memory(np.zeros((2, 2), bool)).info.kind == "mask"
    assert from_memory(np.zeros((2, 2)), kind="label").info.kind == "label"
    assert from_memory(da.zeros((4, 8, 8), chunks=(1, 4, 8))).chunks == (1, 4, 8)


def test_a_lazy_array_is_read_by_region_alone() -> None:
    touched = []

    def block(block_info: Any = None) -> np.ndarray:
        touched.append(block_info[None]["chunk-location"])
        return np.ones((1, 8, 8))

    lazy = da.map_blocks(block, dtype="float64", chunks=((1,) * 4, (8,), (8,)), meta=np.empty((0, 0, 0)))
    from_memory(lazy).read((slice(2, 3), slice(0, 8), slice(0, 8)))
    assert touched == [(2, 0, 0)]


@pytest.mark.parametrize(
    ("array", "reason", "field"),
    [
        (np.zeros((2, 2), "complex64"), "DTYPE_UNSUPPORTED", "dtype"),
        (np.array([["a"]]), "DTYPE_UNSUPPORTED", "dtype"),
        (np.zeros((0, 2)), "SHAPE_INVALID", "shape"),
        (np.float64(1.0), "SHAPE_INVALID", "shape"),
        (np.zeros((1,) * 6), "AXES_MISMATCH", "dims"),
        (
            xr.DataArray(np.zeros((3, 2)), dims=("y", "x"), coords={"y": [0.0, 1.0, 5.0]}),
            "COORDINATES_INVALID",
            "y",
        ),
        (
            xr.DataArray(np.zeros((3, 2)), dims=("y", "x"), coords={"y": [2.0, 1.0, 0.0]}),
            "COORDINATES_INVALID",
            "y",
        ),
        (
            xr.DataArray(np.zeros((2, 2)), dims=("y", "x"), coords={"x": ["a", "b"]}),
            "COORDINATES_INVALID",
            "x",
        ),
        (
            xr.DataArray(np.zeros((2, 2)), dims=("t", "x"), coords={"t": [0.0, np.nan]}),
            "COORDINATES_INVALID",
            "t",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(array: Any, reason: str, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        from_memory(array)
    assert (caught.value.reason, caught.value.metadata["field"]) == (reason, field)
