"""biometa follows the pixels: through selection, reduction, arithmetic, computing and pickling."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import larvik
from larvik import Representation
from larvik.errors import MetadataError
from larvik.testing.images import cells, ome_xml, write_ome_tiff

SIZES = {"t": 3, "c": 3, "z": 4, "y": 20, "x": 30}
NAMES = ["DAPI", "GFP", "mCherry"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    folder = tmp_path_factory.mktemp("biometa")
    with larvik.connect(folder / "lab"):
        found = []
        for number in range(2):
            xml = ome_xml(SIZES, "uint16", times=(0.0, 2.0, 5.0 + number), name=f"cells {number}")
            path = write_ome_tiff(folder / f"cells{number}.ome.tif", cells(SIZES, seed=number), xml=xml)
            found += larvik.import_file(path, sample=f"sample {number}", experiment="Animal study")
        yield found


def planes(image: xr.DataArray) -> set[tuple[int, int, int]]:
    frame = image.biometa.planes
    return set(zip(frame["TheT"], frame["TheC"], frame["TheZ"], strict=True))


def everywhere(t: Any = range(3), c: Any = range(3), z: Any = range(4)) -> set[tuple[int, int, int]]:
    return {(i, j, k) for i in t for j in c for k in z}


def test_a_row_has_its_tables(rows: list[Any]) -> None:
    biometa = rows[0].biometa
    assert biometa.channels["EmissionWaveLength"].to_list() == [461.0, 510.0, 610.0]
    assert biometa.scan["PhysicalSizeX"].to_list() == [0.25]
    assert len(biometa.planes) == 36
    assert biometa.objective["LensNA"].to_list() == [1.4]
    assert biometa.detector["Model"].to_list() == ["Orca"]
    assert "a microscope" in biometa.original["Text"][0]
    assert "array_id" not in biometa.channels.columns


def test_a_query_has_one_table_of_all_its_rows(rows: list[Any]) -> None:
    channels = Representation.objects.filter(type="initial").order_by("id").biometa.channels
    assert channels["Name"].to_list() == NAMES * 2
    assert set(channels["array_id"]) == {row.id for row in rows}
    assert len(Representation.objects.filter(name="no such").biometa.channels) == 0


CASES: dict[str, tuple[Callable[[xr.DataArray], xr.DataArray], list[str], set[tuple[int, int, int]]]] = {
    "all": (lambda a: a, NAMES, everywhere()),
    "one channel": (lambda a: a.sel(c="GFP"), ["GFP"], everywhere(c=[1])),
    "channels in another order": (lambda a: a.sel(c=[2, 0]), ["mCherry", "DAPI"], everywhere(c=[0, 2])),
    "example": (lambda a: a.sel(t=0, c=0).max(dim="z"), ["DAPI"], everywhere([0], [0])),
    "a projection of some sections": (lambda a: a.isel(z=slice(1, 3)).max("z"), NAMES, everywhere(z=[1, 2])),
    "a projection of some channels": (
        lambda a: a.sel(c=[0, 2]).max("c"), ["DAPI", "mCherry"], everywhere(c=[0, 2]),
    ),
    "a time": (lambda a: a.isel(t=1), NAMES, everywhere(t=[1])),
    "times by label": (lambda a: a.sel(t=slice(1.0, None)), NAMES, everywhere(t=[1, 2])),
    "a crop": (lambda a: a.isel(y=slice(3, 9), x=slice(0, 5)), NAMES, everywhere()),
    "a threshold": (lambda a: a > 100, NAMES, everywhere()),
    "arithmetic": (lambda a: a.astype("float32") * 2 - a.min("z"), NAMES, everywhere()),
    "a mean over all": (lambda a: a.mean(), NAMES, everywhere()),
    "two of its channels": (
        lambda a: a.sel(c="DAPI", drop=True) - a.sel(c="GFP", drop=True),
        ["DAPI", "GFP"],
        everywhere(c=[0, 1]),
    ),
    "a transposition": (lambda a: a.transpose("x", "c", "y", "z", "t"), NAMES, everywhere()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_tables_follow_the_pixels_lazy_and_computed(rows: list[Any], case: str) -> None:
    change, names, wanted = CASES[case]
    lazy = change(rows[0].array)
    for image in (lazy, lazy.compute()):
        assert image.biometa.channels["Name"].to_list() == names
        assert planes(image) == wanted
        assert image.biometa.objective["LensNA"].to_list() == [1.4]
        assert len(image.biometa.scan) == 1


def test_selecting_after_computing_follows_too(rows: list[Any]) -> None:
    computed = rows[0].array.sel(c=[0, 2]).compute()
    assert computed.sel(c="mCherry").isel(t=[0, 2]).biometa.channels["Name"].to_list() == ["mCherry"]
    assert planes(computed.sel(c="mCherry").isel(t=[0, 2])) == everywhere([0, 2], [2])
    assert planes(computed.isel(z=1).max("t")) == everywhere(c=[0, 2], z=[1])


def test_pickling_keeps_the_way_to_the_tables(rows: list[Any]) -> None:
    for image in (rows[0].array.sel(c=1), rows[0].array.sel(c=1).max("z").compute()):
        assert pickle.loads(pickle.dumps(image)).biometa.channels["Name"].to_list() == ["GFP"]


def test_combining_gives_the_union_with_array_ids(rows: list[Any]) -> None:
    parts = [row.array.isel(t=0, drop=True) for row in rows]
    for image in (
        xr.concat(parts, "dish", join="override", coords="different", compat="equals"),
        xr.concat(parts, "dish", join="override", coords="minimal", compat="override"),
        Representation.objects.order_by("id").stack("sample", join="override"),
    ):
        for one in (image, image.compute()):
            channels = one.biometa.channels
            assert channels["Name"].to_list() == NAMES * 2
            assert channels["array_id"].to_list() == [row.id for row in rows for _ in NAMES]
            assert len(one.biometa.scan) == 2


def test_arithmetic_between_arrays_has_the_tables_of_both(rows: list[Any]) -> None:
    first, second = (row.array.isel(t=0, drop=True).sel(c="GFP", drop=True) for row in rows)
    for image in (first - second, (first - second).compute()):
        assert image.biometa.channels["array_id"].to_list() == [row.id for row in rows]


def test_where_ids_are_gone_the_error_names_the_operation(rows: list[Any]) -> None:
    computed = [row.array.compute() for row in rows]
    for image in (
        xr.DataArray(np.zeros((2, 2))),
        computed[0].drop_vars("channel_id"),
        computed[0].isel(c=0, drop=True) * 1 - computed[1].isel(c=0, drop=True) * 1,
    ):
        with pytest.raises(MetadataError, match="operation") as caught:
            image.biometa.channels  # noqa: B018
        assert caught.value.reason == "METADATA_UNALIGNED"
    with pytest.raises(MetadataError, match="coordinate 't'"):
        computed[0].copy(data=computed[0].to_numpy() + 1).drop_vars("t").biometa.planes  # noqa: B018


def test_an_edited_table_is_read_anew(rows: list[Any]) -> None:
    image = rows[1].array.compute()
    channel = rows[1].related("biometa__channels").get(index=0)
    channel.fluor = "DAPI dilactate"
    channel.save()
    assert image.copy().biometa.channels["Fluor"].to_list()[0] == "DAPI dilactate"


def test_arrays_without_channels_have_their_one(tmp_path: Path) -> None:
    with larvik.connect(tmp_path / "lab"):
        row = Representation.objects.from_xarray(np.ones((4, 5), "uint8"), name="flat")
        assert len(row.array.biometa.channels) == 1
        assert len(row.array.max().compute().biometa.channels) == 1
