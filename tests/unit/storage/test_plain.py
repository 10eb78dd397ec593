"""Plain groups: what NGFF has no place for, readable by xarray, and what xarray wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from larvik.errors import InvalidArgumentError, NotFoundError
from larvik.storage import GroupMetadata, open_reader, open_store, read_group, read_spec, update_metadata
from larvik.testing.arrays import make_spec, random_array, write_array

LOCATION = "arrays/01/a.ome.zarr"


@pytest.fixture
def group(store):
    """Write an array with the dims p, y, x, c and give pixels, spec and folder."""
    array = random_array((3, 20, 30, 2), "float32")
    spec = make_spec(
        array.shape, "pyxc", "float32", coordinates={"p": ("A1", "µ2", "")}, channel_names=["DAPI", "GFP"],
        origin=[0.0, 5.0, 0.0, 0.0],
    )  # fmt: skip
    write_array(store, LOCATION, array, spec, metadata=GroupMetadata(name="wells", ome_xml="<OME/>"))
    return array, spec, Path(store.root) / LOCATION


def test_xarray_opens_it_with_coordinates_and_without_a_warning(group):
    array, _, folder = group
    with xr.open_zarr(folder, chunks=None) as dataset:
        assert dataset["data"].dims == ("p", "y", "x", "c")
        assert np.array_equal(dataset["data"].values, array)
        assert list(dataset["c"].values) == ["DAPI", "GFP"]
        assert list(dataset["p"].values) == ["A1", "µ2", ""]
        assert dataset["y"].values[:2].tolist() == [5.0, 5.25]
        assert dataset["y"].attrs["units"] == "micrometer"
        assert dataset.sel(p="µ2", c="GFP", y=6.0, method=None)["data"].shape == (30,)


def test_its_spec_and_name_come_back(store, group):
    _, spec, _ = group
    assert read_spec(store, LOCATION) == spec
    assert read_group(store, LOCATION).name == "wells"
    update_metadata(store, LOCATION, GroupMetadata(name="plates", revision=2))
    assert read_group(store, LOCATION).name == "plates"
    assert read_spec(store, LOCATION) == spec


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_xarray_wrote_is_read(tmp_path, zarr_format):
    data = random_array((4, 5, 6), "uint16")
    array = xr.DataArray(
        data,
        dims=("t", "y", "x"),
        coords={
            "t": pd.date_range("2026-01-01", periods=4, freq="500ms"),
            "y": ("y", np.arange(5) * 2.0, {"units": "nm"}),
            "x": np.array([0.0, 1.0, 4.0, 9.0, 16.0, 25.0]),
        },
        name="signal",
    )
    array.to_zarr(tmp_path / "group", zarr_format=zarr_format, consolidated=False)
    store = open_store(str(tmp_path))
    spec = read_spec(store, "group")
    assert spec.format == "zarr"
    assert spec.dims == ("t", "y", "x")
    assert [axis.unit for axis in spec.axes] == ["second", "micrometer", "pixel"]
    assert spec.levels[0].spacing[:2] == pytest.approx((0.5, 0.002))
    assert spec.levels[0].origin[0] == 0.0
    assert spec.coordinates == {"x": (0.0, 1.0, 4.0, 9.0, 16.0, 25.0)}
    pixels = open_reader(store, "group", spec.levels[0], "uint16").read((slice(None),) * 3)
    assert np.array_equal(pixels, data)


def test_labels_of_channels_and_positions_are_read(tmp_path):
    array = xr.DataArray(
        np.zeros((2, 3)),
        dims=("c", "well"),
        coords={"c": ["DAPI", "GFP"], "well": ["A1", "A2", "B1"]},
        name="v",
    )
    array.to_zarr(tmp_path / "group", zarr_format=2, consolidated=False)
    spec = read_spec(open_store(str(tmp_path)), "group")
    assert spec.channel_names == ("DAPI", "GFP")
    assert spec.coordinates == {"well": ("A1", "A2", "B1")}


def test_several_variables_have_to_be_told_apart(tmp_path):
    dataset = xr.Dataset({"a": ("x", [1.0, 2.0]), "b": ("x", [3, 4])})
    dataset.to_zarr(tmp_path / "group", zarr_format=3, consolidated=False)
    store = open_store(str(tmp_path))
    with pytest.raises(InvalidArgumentError, match="a, b") as caught:
        read_spec(store, "group")
    assert caught.value.reason == "VARIABLE_AMBIGUOUS"
    assert read_spec(store, "group", variable="b").dtype == "int64"
    with pytest.raises(NotFoundError, match="'nothing'"):
        read_spec(store, "group", variable="nothing")


def test_a_group_without_arrays_has_none(tmp_path):
    xr.Dataset().to_zarr(tmp_path / "group", zarr_format=3, consolidated=False)
    with pytest.raises(NotFoundError) as caught:
        read_spec(open_store(str(tmp_path)), "group")
    assert caught.value.reason == "ARRAY_NOT_FOUND"
