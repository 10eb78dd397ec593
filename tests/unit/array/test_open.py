"""Opened arrays have physical coordinates, levels and a tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from larvik.array.lazy import LazyArray
from larvik.array.levels import coarsest_for
from larvik.array.local import LocalEvaluator
from larvik.array.open import coordinates, levels, to_dataarray, tree
from larvik.array.spec import ArraySpec, Axis, Level, default_axis
from larvik.errors import PreconditionError, SelectionError

ARRAY_ID = "0190b5a2-7d1c-7000-8000-000000000001"
FINE = (np.random.default_rng(3).random((2, 2, 4, 32, 48)) * 1000).astype("uint16")
COARSE = FINE.reshape(2, 2, 4, 16, 2, 24, 2).mean((4, 6)).astype("uint16")
COARSEST = FINE.reshape(2, 2, 4, 8, 4, 12, 4).mean((4, 6)).astype("uint16")


class Memory:
    reads = 0

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.chunks = (1, 1, 2, 8, 8)

    def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        Memory.reads += 1
        if out is None:
            return self.values[selection].copy()
        out[...] = self.values[selection]
        return out


def make_spec() -> ArraySpec:
    shapes = [FINE.shape, COARSE.shape, COARSEST.shape]
    return ArraySpec(
        tuple(default_axis(dim) for dim in "tczyx"),
        "uint16",
        tuple(
            Level(str(n), shape, (1, 1, 2, 8, 8), (1, 1, 2, 8, 8), (5.0, 1, 2.0, 0.5 * 2**n, 0.5 * 2**n),
                  (0.0, 0, 0, (2**n - 1) / 4, (2**n - 1) / 4))
            for n, shape in enumerate(shapes)
        ),
        coordinates={"t": (0.0, 5.5)},
        channel_names=("DAPI", "GFP"),
    )  # fmt: skip


def evaluator() -> LocalEvaluator:
    return LocalEvaluator(lambda source: Memory([FINE, COARSE, COARSEST][source.level]), "test:")


def test_coordinates_are_seconds_and_micrometers() -> None:
    array = to_dataarray(
        make_spec(), ARRAY_ID, 3, evaluator(), name="stack", attrs={"note": 1, "larvik": {"kind": "label"}}
    )
    assert array.dims == ("t", "c", "z", "y", "x")
    assert array.coords["t"].values.tolist() == [0.0, 5.5]
    assert array.coords["z"].values.tolist() == [0, 2, 4, 6]
    assert array.coords["x"].values[:3].tolist() == [0, 0.5, 1.0]
    assert [array.coords[dim].attrs["units"] for dim in "tzyx"] == ["second", *["micrometer"] * 3]
    assert array.coords["c"].values.tolist() == ["DAPI", "GFP"]
    assert array.attrs == {"note": 1, "larvik": {"id": ARRAY_ID, "version": 3, "kind": "label"}}
    assert array.name == "stack"
    assert "channel_id" not in array.coords
    assert array.sel(x=slice(10, 20), y=5.0).shape == (2, 2, 4, 21)


def test_channel_ids_follow_the_channels() -> None:
    array = to_dataarray(make_spec(), ARRAY_ID, 1, evaluator(), channel_ids=["one", "two"])
    assert array.sel(c="GFP").coords["channel_id"].item() == "two"
    assert array.max(["z", "t"]).isel(c=[1, 0]).coords["channel_id"].values.tolist() == ["two", "one"]


@pytest.mark.parametrize(
    ("axis", "spacing", "origin", "expected"),
    [
        (Axis("x", "space", "micrometer"), 0.25, 1.0, [1.0, 1.25, 1.5]),
        (Axis("x", "space", "pixel"), 1.0, 0.0, [0, 1, 2]),
        (Axis("x", "space", "pixel"), 1.0, 10.0, [10, 11, 12]),
        (Axis("x", "space", "pixel"), 2.0, 0.5, [0.5, 2.5, 4.5]),
        (Axis("t", "time", "second"), 0.1, 0.0, [0.0, 0.1, 0.2]),
        (Axis("t", "time", None), 1.0, 0.0, [0, 1, 2]),
        (Axis("angle", "other", None), 1.0, 0.0, None),
        (Axis("angle", "other", None), 15.0, 0.0, [0, 15, 30]),
    ],
)
def test_uncalibrated_axes_have_whole_numbers(
    axis: Axis, spacing: float, origin: float, expected: Any
) -> None:
    spec = ArraySpec((axis,), "uint8", (Level("0", (3,), (3,), (3,), (spacing,), (origin,)),))
    found = coordinates(spec)
    if expected is None:
        assert found == {}
        return
    values = found[axis.name].to_numpy()
    np.testing.assert_allclose(values, expected)
    assert values.dtype.kind == ("i" if all(isinstance(item, int) for item in expected) else "f")
    assert found[axis.name].attrs == ({"units": axis.unit} if axis.unit else {})


def test_labels_of_other_dims_are_kept() -> None:
    spec = ArraySpec(
        (Axis("well", "other"),), "uint8", (Level("0", (2,), (2,), (2,), (1,), (0,)),), {"well": ("A1", "A2")}
    )
    array = to_dataarray(spec, ARRAY_ID, 1, evaluator())
    assert array.coords["well"].values.tolist() == ["A1", "A2"]


def test_levels_are_lazy_with_coordinates_at_their_own_pixel_centres() -> None:
    found = levels(make_spec(), ARRAY_ID, 1, evaluator())
    assert [level.shape for level in found] == [FINE.shape, COARSE.shape, COARSEST.shape]
    assert [level.coords["x"].values[0] for level in found] == [0.0, 0.25, 0.75]
    fine = found[0].coords["x"].values.reshape(-1, 4).mean(1)
    np.testing.assert_allclose(found[2].coords["x"], fine)
    np.testing.assert_array_equal(found[1].isel(t=1), COARSE[1])


def test_the_tree_has_one_node_for_each_level() -> None:
    found = tree(levels(make_spec(), ARRAY_ID, 1, evaluator()), name="stack")
    assert list(found.children) == ["0", "1", "2"]
    assert found["1"]["image"].shape == COARSE.shape
    assert found.name == "stack"


def test_a_level_that_is_not_there_is_refused() -> None:
    with pytest.raises(SelectionError, match="levels are 0 to 2"):
        to_dataarray(make_spec(), ARRAY_ID, 1, evaluator(), level=3)


@pytest.mark.parametrize(
    ("pixels", "level"), [(1000, 0), (48, 0), (24, 1), (25, 0), (13, 1), (12, 2), (1, 2)]
)
def test_the_coarsest_level_that_is_large_enough_stands_in(pixels: int, level: int) -> None:
    Memory.reads = 0
    image = to_dataarray(make_spec(), ARRAY_ID, 1, evaluator()).sel(t=0, c="GFP").max("z")
    found = coarsest_for(image, pixels)
    assert Memory.reads == 0
    expected = [FINE, COARSE, COARSEST][level][0, 1].max(0)
    np.testing.assert_array_equal(found, expected)
    assert found.dims == image.dims
    assert found.coords["c"].item() == "GFP"
    np.testing.assert_allclose(found.coords["x"], coordinates(make_spec(), level)["x"])


def test_a_coarser_crop_covers_the_crop() -> None:
    image = to_dataarray(make_spec(), ARRAY_ID, 1, evaluator()).isel(t=0, z=1, y=slice(5, 30), x=slice(8, 40))
    found = coarsest_for(image.transpose("x", "c", "y").astype("float32") / 2, 16)
    np.testing.assert_array_equal(found, COARSE[0, :, 1, 2:15, 4:20].transpose(2, 0, 1) / np.float32(2))


@pytest.mark.parametrize(
    "act",
    [
        lambda a: a.sum("x"),
        lambda a: a.isel(x=slice(None, None, 3)),
        lambda a: a.isel(x=slice(1, None)) - a.isel(x=slice(0, -1)).data,
        lambda a: a * np.arange(48),
        lambda a: a.compute(),
        lambda a: a.astype("float64").cumsum("z"),
        lambda a: a.isel(t=0, c=0, z=0, y=0),
        lambda a: a.coarsen(y=2, x=2).mean(),
    ],
)
def test_where_no_level_can_stand_in_the_image_itself_is_shown(act: Any) -> None:
    image = act(to_dataarray(make_spec(), ARRAY_ID, 1, evaluator()))
    assert coarsest_for(image, 5) is image


def test_a_graph_that_uses_itself_again_and_again_is_looked_through_once() -> None:
    array = to_dataarray(make_spec(), ARRAY_ID, 1, evaluator()).isel(y=0, x=0)
    for _ in range(30):
        array = array + array
    assert coarsest_for(array.max("t"), 1).shape == (2, 4)


def test_the_accessor_tells_what_is_recorded() -> None:
    array = to_dataarray(make_spec(), ARRAY_ID, 1, evaluator())
    lazy = array.max("z")
    assert lazy.larvik.is_lazy
    assert lazy.larvik.expression is lazy.variable._data.expression
    assert lazy.larvik.token == array.max("z").larvik.token != array.larvik.token
    assert lazy.larvik.explain().where == "client"
    assert isinstance(lazy.variable._data, LazyArray)
    computed = lazy.compute()
    assert not computed.larvik.is_lazy
    with pytest.raises(PreconditionError, match="computed already"):
        computed.larvik.expression  # noqa: B018
    wrapped = array.astype("float64").cumsum("z")
    assert wrapped.larvik.explain().where == "dask"
    with pytest.raises(NotImplementedError, match="Dask"):
        wrapped.larvik.expression  # noqa: B018
    assert isinstance(wrapped.larvik.to_dask(), xr.DataArray)
