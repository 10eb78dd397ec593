"""What xarray does to a lazy array gives what it gives over NumPy, and reads nothing early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

Operation = Callable[[xr.DataArray], Any]

SELECTIONS: dict[str, Operation] = {
    "isel int": lambda a: a.isel(t=0),
    "isel negative int": lambda a: a.isel(z=-1),
    "isel ints": lambda a: a.isel(t=1, c=0, z=3),
    "isel slice": lambda a: a.isel(y=slice(3, 9)),
    "isel stepped": lambda a: a.isel(z=slice(1, None, 3), x=slice(None, None, 2)),
    "isel backwards": lambda a: a.isel(y=slice(None, None, -1), x=slice(8, 2, -2)),
    "isel list": lambda a: a.isel(z=[0, 5, 7]),
    "isel unordered list": lambda a: a.isel(y=[7, 0, 7, 3]),
    "isel two lists": lambda a: a.isel(z=[5, 1], x=[0, 9, 4]),
    "isel list and int": lambda a: a.isel(t=0, y=[1, 4], x=2),
    "isel boolean": lambda a: a.isel(z=np.array([True, False] * 4)),
    "isel empty": lambda a: a.isel(z=slice(4, 4)),
    "isel empty list": lambda a: a.isel(x=[]),
    "isel pointwise": lambda a: a.isel(
        y=xr.DataArray([0, 5, 9], dims="p"), x=xr.DataArray([1, 4, 9], dims="p")
    ),
    "isel pointwise apart": lambda a: a.isel(
        t=xr.DataArray([0, 2], dims="p"), x=xr.DataArray([1, 4], dims="p")
    ),
    "isel pointwise 2-D": lambda a: a.isel(
        z=xr.DataArray([[0, 5], [7, 1]], dims=("p", "q")), y=xr.DataArray([[1, 2], [3, 4]], dims=("p", "q"))
    ),
    "isel new dim": lambda a: a.isel(x=xr.DataArray([3, 1], dims="p")),
    "sel position and label": lambda a: a.sel(t=0, c=0),
    "sel channel name": lambda a: a.sel(c="GFP"),
    "sel channel names": lambda a: a.sel(c=["GFP", "DAPI"]),
    "sel channel positions": lambda a: a.sel(c=[1, 0]),
    "sel physical slice": lambda a: a.sel(x=slice(1, 3), y=slice(0.5, 4)),
    "sel nearest": lambda a: a.sel(z=2.3, method="nearest"),
    "sel list": lambda a: a.sel(t=[0.0, 4.0]),
    "getitem": lambda a: a[0, 1, 2:6, ::2],
    "getitem ellipsis": lambda a: a[..., 3],
    "loc": lambda a: a.loc[{"t": 2.0}],
    "head": lambda a: a.head(z=3),
    "tail": lambda a: a.tail(z=3),
    "thin": lambda a: a.thin(x=3),
    "drop_sel": lambda a: a.drop_sel(t=[2.0]),
    "chained": lambda a: a.isel(z=slice(1, 7)).isel(z=[0, 3, 5]).isel(z=-1, y=slice(None, None, 3)),
}

REDUCTIONS: dict[str, Operation] = {
    "max": lambda a: a.max(),
    "max z": lambda a: a.max(dim="z"),
    "max zyx": lambda a: a.max(dim=("z", "y", "x")),
    "min t": lambda a: a.min("t"),
    "sum z": lambda a: a.sum("z"),
    "sum all": lambda a: a.sum(),
    "mean z": lambda a: a.mean("z"),
    "mean yx": lambda a: a.mean(["y", "x"]),
    "mean all": lambda a: a.mean(),
    "std z": lambda a: a.std("z"),
    "std ddof": lambda a: a.std("x", ddof=1),
    "var all": lambda a: a.var(),
    "any": lambda a: (a > 500).any("z"),
    "all": lambda a: (a < 900).all(["y", "x"]),
    "prod x": lambda a: (a * 0 + 1).prod("x"),
    "count": lambda a: a.count("z"),
    "argmax z": lambda a: a.fillna(0).argmax("z"),
    "argmin x": lambda a: a.fillna(0).argmin("x"),
    "skipna true": lambda a: a.max("z", skipna=True),
    "skipna false": lambda a: a.max("z", skipna=False),
    "mean skipna": lambda a: a.mean("z", skipna=True),
    "mean no skipna": lambda a: a.mean("z", skipna=False),
    "sum min_count": lambda a: a.sum("z", min_count=3, skipna=True),
    "std skipna": lambda a: a.std("y", skipna=True, ddof=1),
    "keepdims": lambda a: a.max("z", keepdims=True),
    "mean keepdims": lambda a: a.mean(["t", "z"], keepdims=True),
    "reduce dtype": lambda a: a.sum("z", dtype="float64"),
    "keep_attrs": lambda a: a.max("z", keep_attrs=False),
    "reduce function": lambda a: a.reduce(np.max, dim="z"),
}

ARITHMETIC: dict[str, Operation] = {
    "add scalar": lambda a: a + 1,
    "add float": lambda a: a + 0.5,
    "right subtract": lambda a: 5.0 - a.astype("float64"),
    "multiply": lambda a: a * 2,
    "divide": lambda a: a / 3,
    "floor divide": lambda a: (a + 1) // 3,
    "modulo": lambda a: (a + 0) % 7,
    "power": lambda a: a**2,
    "power float": lambda a: a**0.5,
    "negative": lambda a: -a.astype("float32"),
    "abs": lambda a: abs(a.fillna(0)),
    "self plus self": lambda a: a + a,
    "two levels": lambda a: a.isel(t=0) + a.isel(t=1),
    "broadcast": lambda a: a.isel(t=0) * a.isel(z=0, t=0).astype("float32"),
    "subtract mean": lambda a: a - a.mean("z"),
    "normalise": lambda a: (a - a.min(["y", "x"]).astype("float64")) / (a.max(["y", "x"]) + 1.0),
    "with numpy": lambda a: a * np.arange(10, dtype="float32"),
    "with dataarray": lambda a: a + xr.DataArray(np.arange(8), dims="z"),
    "aligned": lambda a: a.isel(x=slice(0, 6)) + a.isel(x=slice(3, 9)),
    "less": lambda a: a < 500,
    "equal": lambda a: a == a.isel(z=0),
    "not equal": lambda a: a != 3,
    "and": lambda a: (a > 100) & (a < 500),
    "or": lambda a: (a > 900) | (a < 50),
    "invert": lambda a: ~(a > 100),
    "xor": lambda a: (a > 100) ^ (a > 500),
    "sqrt": lambda a: np.sqrt(a.astype("float64")),
    "log1p": lambda a: np.log1p(a.astype("float32")),
    "sin": lambda a: np.sin(a.astype("float64")),
    "maximum": lambda a: np.maximum(a, a.isel(z=0)),
    "sign": lambda a: np.sign(a.astype("float32")),
    "isfinite": lambda a: np.isfinite(a.astype("float32")),
    "in place": lambda a: _in_place(a),
    "square then sum": lambda a: (a.astype("float64") ** 2).sum("z"),
}

STRUCTURE: dict[str, Operation] = {
    "where": lambda a: a.where(a > 300),
    "where other": lambda a: a.where(a > 300, 0),
    "where drop": lambda a: a.where(a.x > 1, drop=True),
    "xr.where": lambda a: xr.where(a > 300, a, -1),
    "clip": lambda a: a.astype("float32").clip(100, 500),
    "clip low": lambda a: a.astype("float32").clip(min=100),
    "round": lambda a: (a / 7).round(2),
    "astype": lambda a: a.astype("float32"),
    "astype same": lambda a: a.astype(a.dtype),
    "fillna": lambda a: a.fillna(1),
    "isnull": lambda a: a.isnull(),
    "notnull": lambda a: a.notnull(),
    "coarsen mean": lambda a: a.coarsen(y=2, x=2).mean(),
    "coarsen max trim": lambda a: a.coarsen(z=3, boundary="trim").max(),
    "coarsen sum": lambda a: a.coarsen(y=3, x=5).sum(),
    "transpose": lambda a: a.transpose("x", "y", "z", "c", "t"),
    "transpose ellipsis": lambda a: a.transpose("x", ...),
    "T": lambda a: a.T,
    "expand_dims": lambda a: a.expand_dims("s"),
    "expand_dims size": lambda a: a.isel(t=0).expand_dims(s=3),
    "squeeze": lambda a: a.isel(t=[0]).squeeze("t"),
    "stack": lambda a: a.stack(p=("y", "x")),
    "stack then max": lambda a: a.stack(p=("z", "y", "x")).max("p"),
    "stack unstack": lambda a: a.stack(p=("y", "x")).unstack("p"),
    "concat": lambda a: xr.concat([a.isel(t=0), a.isel(t=2)], dim="t"),
    "concat new": lambda a: xr.concat([a.max("z"), a.min("z")], dim="kind"),
    "roll": lambda a: a.roll(x=3, roll_coords=False),
    "flip": lambda a: a.isel(z=slice(None, None, -1)),
    "diff": lambda a: a.astype("float64").diff("z"),
    "assign_coords": lambda a: a.assign_coords(z=a.z * 2),
    "rename": lambda a: a.rename(z="depth").max("depth"),
    "swap_dims": lambda a: a.assign_coords(plane=("z", np.arange(8))).swap_dims(z="plane").sel(plane=[3, 1]),
    "groupby": lambda a: a.groupby(xr.DataArray([0, 0, 1, 1, 0, 0, 1, 1], dims="z", name="half")).max(),
    "sortby": lambda a: a.sortby("z", ascending=False),
    "broadcast_like": lambda a: a.isel(t=0, drop=True).broadcast_like(a),
    "zeros_like": lambda a: xr.zeros_like(a),
    "full_like": lambda a: xr.full_like(a, 3, dtype="int32"),
    "to_dataset": lambda a: a.to_dataset(name="v")["v"],
    "dataset max": lambda a: a.to_dataset(name="v").max("z")["v"],
    "channels to dataset": lambda a: a.to_dataset("c")["GFP"],
    "isin fallback": lambda a: a.isel(t=0, z=0).isin([1, 5, 700]),
    "reindex": lambda a: a.astype("float64").reindex(t=[0.0, 4.0]),
    "copy": lambda a: a.copy(),
    "deep copy": lambda a: a.copy(deep=True),
    "pipe": lambda a: a.pipe(lambda b: b.max("z") - b.min("z")) if a.dtype != bool else a,
    "map": lambda a: a.to_dataset(name="v").map(np.isfinite)["v"] if a.dtype != bool else a,
}

FALLBACKS: dict[str, Operation] = {
    "median": lambda a: a.astype("float64").median("z"),
    "quantile": lambda a: a.astype("float64").quantile(0.3, dim="z", skipna=False),
    "cumsum": lambda a: a.astype("float64").cumsum("z"),
    "pad": lambda a: a.pad(z=1, constant_values=0),
    "shift": lambda a: a.astype("float64").shift(z=1),
    "rolling mean": lambda a: a.isel(t=0, c=0).astype("float64").rolling(z=3).mean(),
    "rolling max": lambda a: a.isel(t=0, c=1).astype("float64").rolling(x=3, center=True).max(),
    "weighted": lambda a: a.astype("float64").weighted(xr.DataArray(np.arange(8.0), dims="z")).mean("z"),
    "dot": lambda a: a.astype("float64").fillna(0).dot(xr.DataArray(np.arange(8.0), dims="z")),
    "differentiate": lambda a: a.astype("float64").differentiate("z"),
    "apply_ufunc": lambda a: xr.apply_ufunc(
        np.negative, a.astype("float64"), dask="parallelized", output_dtypes=["float64"]
    ),
    "fallback then recorded": lambda a: (
        a.astype("float64").cumsum("z").isel(z=-1).max("x") + a.isel(z=0).max("x")
    ),
    "fallback pointwise": lambda a: a.pad(z=1, constant_values=0).isel(
        y=xr.DataArray([0, 5, 9], dims="p"), x=xr.DataArray([1, 4, 9], dims="p")
    ),
    "fallback where": lambda a: a.where(a.astype("float64").cumsum("z") > 900),
    "fallback concat": lambda a: xr.concat(
        [a.astype("float64").cumsum("z"), a.astype("float64")], dim="kind"
    ),
}

EVERYTHING = {**SELECTIONS, **REDUCTIONS, **ARITHMETIC, **STRUCTURE, **FALLBACKS}


def _in_place(array: xr.DataArray) -> xr.DataArray:
    array = array.astype("float64")
    array += 1
    array *= 2
    return array


def _values(kind: str) -> np.ndarray:
    rng = np.random.default_rng(11)
    values = rng.random((3, 2, 8, 12, 10)) * 1000
    if kind == "uint16":
        return values.astype("uint16")
    if kind == "bool":
        return values > 500
    values = values.astype("float32")
    values[rng.random(values.shape) < 0.1] = np.nan
    values[0, 0, :, 0, 0] = np.nan
    return values


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["uint16", "float32", "bool"])
@pytest.mark.parametrize("name", EVERYTHING)
def test_an_operation_equals_numpy_and_reads_nothing_early(
    name: str, kind: str, make_image: Callable[..., Any]
) -> None:
    image = make_image(_values(kind), (1, 1, 3, 5, 4), attrs={"note": "kept"})
    before = image.reader.values.copy()
    try:
        expected = EVERYTHING[name](image.plain)
    except (TypeError, ValueError):  # what NumPy refuses for this dtype, we refuse as well
        with pytest.raises((TypeError, ValueError)):
            EVERYTHING[name](image.lazy).compute()
        return
    result = EVERYTHING[name](image.lazy)
    assert image.reader.reads == 0
    repr(result)
    result._repr_html_()
    assert image.reader.reads == 0
    assert_same(result.compute(), expected)
    np.testing.assert_array_equal(image.reader.values, before)


def assert_same(result: xr.DataArray, expected: xr.DataArray) -> None:
    assert isinstance(result.data, np.ndarray)
    assert result.dims == expected.dims
    assert result.dtype == expected.dtype
    assert result.name == expected.name
    assert result.attrs == expected.attrs
    assert set(result.coords) == set(expected.coords)
    for name in expected.coords:
        xr.testing.assert_identical(result.coords[name].variable, expected.coords[name].variable)
        assert type(result.xindexes.get(name)) is type(expected.xindexes.get(name))
    if expected.dtype.kind == "f":
        tolerance = {2: 1e-2, 4: 1e-6, 8: 1e-12}[expected.dtype.itemsize]
        # Differences of large values keep their error, so it is measured against the largest pixel.
        np.testing.assert_allclose(result.data, expected.data, rtol=tolerance, atol=1000 * tolerance)
    else:
        np.testing.assert_array_equal(result.data, expected.data)
