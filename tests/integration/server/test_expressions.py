"""Every way to compute, over the network: what the server or the client evaluates equals xarray on NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import larvik
from larvik import Representation
from larvik.array.expression import Constant
from larvik.array.record import record
from larvik.errors import ResourceExhaustedError
from larvik.proto.v1 import flight_pb2
from larvik.wire.expressions import encode_expressions
from larvik_client.remote import RemoteConnection

DTYPES = ("bool", "int8", "uint16", "int64", "float16", "float32", "float64")
SHAPE = {"t": 2, "c": 3, "z": 5, "y": 70, "x": 90}
Operation = Callable[[xr.DataArray], xr.DataArray]

OPERATIONS: dict[str, Operation] = {
    "a crop": lambda a: a.isel(t=1, y=slice(3, 60), x=slice(10, 80)),
    "backwards with steps": lambda a: a.isel(x=slice(None, None, -3), z=slice(4, 0, -2)),
    "outer lists": lambda a: a.isel(c=[2, 0], y=[1, 1, 69], x=[5, 4]),
    "points": lambda a: a.isel(y=xr.DataArray([0, 5, 69], dims="p"), x=xr.DataArray([1, 1, 89], dims="p")),
    "labels": lambda a: a.sel(c=["blue", "red"], x=slice(2.0, 9.5)),
    "maximum": lambda a: a.max(dim="z"),
    "minimum of all": lambda a: a.min(),
    "sum": lambda a: a.sum(dim=("y", "x")),
    "mean": lambda a: a.mean(dim="t"),
    "standard deviation": lambda a: a.std(dim=("z", "y"), ddof=1),
    "any and all": lambda a: (a > 0).any(dim="x") & (a >= 0).all(dim="x"),
    "position of the maximum": lambda a: a.argmax(dim="z"),
    "count": lambda a: a.count(dim="c"),
    "arithmetic": lambda a: a.astype("float64") * 2 - a.isel(z=0).astype("float64") / 3,
    "comparison": lambda a: a.isel(c=0) < a.isel(c=1),
    "where": lambda a: a.where(a > a.min(), 0),
    "clip and cast": lambda a: a.fillna(0).astype("float32").clip(1, 20).round().astype("int16"),
    "coarsen": lambda a: a.coarsen(y=7, x=9).max(),
    "transpose": lambda a: a.transpose("x", "y", "z", "c", "t"),
    "joined": lambda a: xr.concat([a.isel(z=[0]), a.isel(z=[4])], dim="z"),
    "isnull": lambda a: a.isnull().sum(dim="x"),
}


def image(dtype: str) -> xr.DataArray:
    random = np.random.default_rng(len(dtype))
    values = random.integers(0, 2 if dtype == "bool" else 100, tuple(SHAPE.values())).astype(dtype)
    if dtype.startswith("float"):
        values /= 64  # so that sums fit float16
        values[random.random(values.shape) < 0.01] = np.nan
    coords = {"c": ["red", "green", "blue"], **{dim: np.arange(SHAPE[dim]) * 0.5 for dim in "zyx"}}
    return xr.DataArray(values, dims=tuple(SHAPE), coords=coords)


@pytest.fixture(scope="module")
def images(connection: RemoteConnection) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """For each dtype: the stored array, lazy, and the same in memory."""
    found = {}
    for dtype in DTYPES:
        there = image(dtype)
        made = Representation.objects.using(connection).from_xarray(there, name=dtype)
        found[dtype] = (made.array, there)
    return found


def assert_same(lazy: xr.DataArray, eager: xr.DataArray, where: Any) -> None:
    with larvik.set_options(evaluate=where):
        computed = lazy.compute()
    assert isinstance(computed.data, np.ndarray)
    assert computed.dims == eager.dims
    assert computed.dtype == eager.dtype
    if eager.dtype.kind == "f":
        tolerance = {2: 1e-2, 4: 1e-6, 8: 1e-12}[eager.dtype.itemsize]
        np.testing.assert_allclose(computed, eager, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(computed, eager)


@pytest.mark.parametrize("where", ["server", "client"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_equals_numpys(images: Any, name: str, dtype: str, where: str) -> None:
    lazy, eager = images[dtype]
    operation = OPERATIONS[name]
    assert_same(operation(lazy), operation(eager), where)


def selections(size: int) -> st.SearchStrategy[Any]:
    positions = st.integers(-size, size - 1)
    return st.one_of(positions, st.slices(size), st.lists(positions, min_size=1, max_size=4))


@settings(max_examples=40)
@given(
    dtype=st.sampled_from(DTYPES),
    where=st.sampled_from(["server", "client"]),
    picks=st.fixed_dictionaries({}, optional={dim: selections(size) for dim, size in SHAPE.items()}),
)
def test_any_selection_equals_numpys(images: Any, dtype: str, where: str, picks: dict[str, Any]) -> None:
    lazy, eager = images[dtype]
    assert_same(lazy.isel(picks), eager.isel(picks), where)


def test_an_evaluation_without_end_ends_when_its_caller_goes(
    connection: RemoteConnection, images: Any
) -> None:
    many = record("broadcast_to", [Constant(np.uint8(1))], {"shape": (2**40, 2**10)})
    command = flight_pb2.FlightCommand()
    total = record("sum", [many], {"axes": (0, 1), "keepdims": False})
    command.array_read.expression.CopyFrom(encode_expressions([total]))
    for _ in range(20):  # more than one subject may have open
        stream = connection.arrays._flight.open(command)
        time.sleep(0.05)  # so that it has begun
        stream.cancel()
    lazy, values = images["uint16"]
    deadline = time.monotonic() + 30
    while True:
        try:
            np.testing.assert_array_equal(lazy.max("z"), values.max("z"))
            break
        except ResourceExhaustedError:
            assert time.monotonic() < deadline, "the streams stay open"
            time.sleep(0.1)
