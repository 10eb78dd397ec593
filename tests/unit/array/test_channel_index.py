"""Channels are found by name and by position."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from larvik.array.channel_index import ChannelIndex
from larvik.array.open import with_channels
from larvik.errors import SelectionError

NAMES = ("DAPI", "GFP", "Cy5")


def build() -> xr.DataArray:
    return with_channels(xr.DataArray(np.arange(12).reshape(3, 4), dims=("c", "x")), NAMES, ["i", "j", "k"])


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (0, 0),
        (2, 2),
        (-1, 2),
        (np.int64(1), 1),
        ("GFP", 1),
        ([0, 2], [0, 2]),
        ([2, 0], [2, 0]),
        (["Cy5", "DAPI"], [2, 0]),
        (np.array([1, 1]), [1, 1]),
        (slice(0, 2), slice(0, 2)),
        (slice(1, None), slice(1, None)),
        (slice(None), slice(None)),
        (slice("DAPI", "GFP"), slice(0, 2)),
        (xr.DataArray([2, 1], dims="p"), xr.DataArray([2, 1], dims="p")),
        (xr.DataArray(["Cy5", "GFP"], dims="p"), xr.DataArray([2, 1], dims="p")),
        (np.array([True, False, True]), [0, 2]),
        ([], []),
    ],
)
def test_a_label_is_a_name_or_a_position(label: Any, expected: Any) -> None:
    array = build()
    found = array.sel(c=label)
    wanted = array.isel(c=expected)
    np.testing.assert_array_equal(found, wanted)
    assert found.dims == wanted.dims
    assert np.atleast_1d(found.coords["c"]).tolist() == np.atleast_1d(wanted.coords["c"]).tolist()
    assert "channel_id" in found.coords


@pytest.mark.parametrize(
    ("label", "match"),
    [
        ("gfp", "Did you mean 'GFP'"),
        ("nothing like it", "There are: Cy5, DAPI, GFP"),
        (["GFP", "RFP"], "no channel 'RFP'"),
        (3, "positions are 0 to 2. There are: DAPI, GFP, Cy5"),
        (-4, "There is no channel -4"),
        ([0, 7], "There is no channel 7"),
        (1.5, r"There is no channel '1.5'"),
        (slice("RFP", "GFP"), "There is no channel"),
    ],
)
def test_a_channel_that_is_not_there_names_those_that_are(label: Any, match: str) -> None:
    with pytest.raises(KeyError, match=match) as caught:
        build().sel(c=label)
    assert isinstance(caught.value, SelectionError)
    assert caught.value.reason == "CHANNEL_UNKNOWN"


def test_the_nearest_channel_has_no_meaning() -> None:
    with pytest.raises(SelectionError, match="no order"):
        build().sel(c=0, method="nearest")


@pytest.mark.parametrize(
    "act",
    [
        lambda a: a,
        lambda a: a.max("x"),
        lambda a: a + 1,
        lambda a: a + a,
        lambda a: a.transpose(),
        lambda a: a.astype("float32"),
        lambda a: a.where(a > 3),
        lambda a: a.isel(x=slice(0, 2)),
        lambda a: a.isel(c=slice(0, 3)),
        lambda a: a.copy(deep=True),
        lambda a: a.chunk().compute(),
        lambda a: pickle.loads(pickle.dumps(a)),
        lambda a: xr.concat([a.isel(x=[0]), a.isel(x=[1])], dim="x"),
        lambda a: xr.concat([a.isel(c=[0, 1]), a.isel(c=[2])], dim="c"),
        lambda a: a.to_dataset(name="v")["v"],
        lambda a: a.expand_dims("t"),
        lambda a: a.rename("other"),
        lambda a: xr.align(a, a)[0],
        lambda a: a.clip(1, 5),
        lambda a: a.fillna(0),
    ],
)
def test_it_survives_what_is_done_to_the_array(act: Callable[[xr.DataArray], xr.DataArray]) -> None:
    found = act(build())
    assert isinstance(found.xindexes["c"], ChannelIndex)
    np.testing.assert_array_equal(found.sel(c=1), found.isel(c=1))
    np.testing.assert_array_equal(found.sel(c="Cy5"), found.isel(c=2))


def test_positions_count_in_the_present_selection() -> None:
    part = build().sel(c=["Cy5", "GFP"])
    assert part.sel(c=0).coords["c"].item() == "Cy5"
    with pytest.raises(KeyError, match="positions are 0 to 1"):
        part.sel(c=2)


def test_it_aligns_with_itself_by_name_and_with_a_plain_index_of_the_same_names() -> None:
    assert (build() + build().isel(c=[2, 1])).coords["c"].values.tolist() == ["GFP", "Cy5"]
    plain = xr.DataArray([1, 2, 3], dims="c", coords={"c": list(NAMES)})
    np.testing.assert_array_equal(build() + plain, build().data + np.array([[1], [2], [3]]))
