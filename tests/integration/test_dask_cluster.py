"""Evaluation by a real Dask cluster: processes of their own on the loopback, equal pixels, no tokens."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from distributed import LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

import larvik
from larvik import Representation
from larvik.array.dask_bridge import to_dask
from larvik.errors import InvalidArgumentError, UnavailableError
from larvik.testing.server import LarvikServer, larvik_server
from larvik_client.remote import connect

SHAPE = (2, 2, 6, 70, 90)
PIXELS = np.random.default_rng(11).integers(0, 4000, SHAPE).astype("uint16")
PLACES = ("client", "server", "dask")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LarvikServer]:
    with larvik_server(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(server: LarvikServer) -> Iterator[str]:
    """Give the address of a scheduler whose workers have a token of their own."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
        env={"LARVIK_URL": server.url, "LARVIK_TOKEN": server.token},
    ) as running:  # fmt: skip
        yield running.scheduler_address


@pytest.fixture(scope="module")
def remote(server: LarvikServer) -> Iterator[xr.DataArray]:
    with connect(server.url, server.token) as connection:
        array = xr.DataArray(PIXELS, dims=list("tczyx"))
        yield Representation.objects.using(connection).from_xarray(array, name="cells").array


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[xr.DataArray]:
    folder = tmp_path_factory.mktemp("embedded")
    with larvik.connect(folder) as connection:
        array = xr.DataArray(PIXELS, dims=list("tczyx"))
        yield Representation.objects.using(connection).from_xarray(array, name="cells").array


def values(lazy: xr.DataArray, place: str, cluster: str) -> np.ndarray[Any, Any]:
    with larvik.set_options(evaluate=place, dask_scheduler=cluster):
        return lazy.compute().to_numpy()


selections = st.tuples(*(
    st.tuples(st.integers(0, size - 1), st.integers(1, size), st.integers(1, 3)) for size in SHAPE
)).map(lambda picks: tuple(slice(first, first + length, step) for first, length, step in picks))  # fmt: skip
OPERATIONS = {
    "nothing": lambda a: a,
    "max": lambda a: a.max(axis=2),
    "mean": lambda a: a.mean(axis=(3, 4)),
    "std": lambda a: a.std(axis=2),
    "arithmetic": lambda a: a * 2 + 1,
    "argmax": lambda a: a.argmax(axis=3),
    "sum of all": lambda a: a.sum(),
}


@settings(max_examples=20)
@given(selection=selections, name=st.sampled_from(list(OPERATIONS)))
def test_here_there_and_on_the_cluster_the_pixels_are_equal(
    remote: xr.DataArray, embedded: xr.DataArray, cluster: str, selection: Any, name: str
) -> None:
    operation = OPERATIONS[name]
    expected = np.asarray(operation(PIXELS[selection]))
    found = [values(operation(remote[selection]), place, cluster) for place in PLACES]
    found += [values(operation(embedded[selection]), place, cluster) for place in ("client", "dask")]
    for one in found:
        assert one.dtype == expected.dtype
        np.testing.assert_array_equal(one, found[0])
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)


def test_tasks_carry_no_token(server: LarvikServer, remote: xr.DataArray) -> None:
    with larvik.set_options(evaluate="dask"):
        graph = to_dask(remote.max("z").data)
    payload = pickle.dumps(graph)
    assert server.token.encode() not in payload
    assert remote.data.url.encode() in payload


def test_errors_of_workers_are_ours(remote: xr.DataArray, cluster: str) -> None:
    missing = xr.where(remote > 5000, remote.astype("float64"), np.nan)
    lazy = missing.max("z")
    with larvik.set_options(evaluate="client"):
        assert np.isnan(lazy.compute()).all()
    from larvik.array.record import record

    node = record("nanargmax", [missing.data.expression], {"axes": (2,), "keepdims": False})
    array = type(remote.data)(node, remote.data.evaluator)
    with (
        larvik.set_options(evaluate="dask", dask_scheduler=cluster),
        pytest.raises(InvalidArgumentError, match="All-NaN"),
    ):
        array.compute()


def test_a_cluster_that_does_not_answer_is_named(embedded: xr.DataArray, free_port: int) -> None:
    address = f"tcp://127.0.0.1:{free_port}"
    with (
        larvik.set_options(evaluate="dask", dask_scheduler=address),
        pytest.raises(UnavailableError, match=address),
    ):
        embedded.max().compute()


def test_blocks_are_computed_by_the_cluster(embedded: xr.DataArray, cluster: str, tmp_path: Path) -> None:
    out = np.zeros(SHAPE, "uint16")
    with larvik.set_options(evaluate="dask", dask_scheduler=cluster):
        for where, block in (embedded + 1).larvik.blocks():
            out[where] = block
    np.testing.assert_array_equal(out, PIXELS + 1)
