"""xarray, Dask, NumPy and pyarrow take arrays and rows, from a folder and from a server alike."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import larvik
from larvik import Channel, Representation, Table
from larvik.array.lazy import LazyArray
from larvik.connection import Connection, connection_for, current_or_none
from larvik.errors import LarvikError
from larvik.ids import new_id
from larvik.testing.server import LarvikServer, larvik_server

PIXELS = np.random.default_rng(4).integers(0, 4000, (2, 2, 3, 1100, 120), dtype="uint16")
MEASURED = pd.DataFrame({"cell": [1, 2, 3], "area": [4.5, 3.0, 7.25], "kind": ["round", "flat", "round"]})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LarvikServer]:
    with larvik_server(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="module")
def places(server, tmp_path_factory) -> Iterator[dict[str, tuple[Connection, str]]]:
    """A connection of each kind, and the id of the image there."""
    array = xr.DataArray(PIXELS, dims=list("tczyx"), coords={"c": ["DAPI", "GFP"]})
    with ExitStack() as stack:
        found = {}
        for name in ("folder", "server"):
            opened = (
                larvik.connect(tmp_path_factory.mktemp("embedded") / "data")
                if name == "folder"
                else larvik.connect(server.url, token=server.token)
            )
            stack.enter_context(opened)
            rep = Representation.objects.using(opened).from_xarray(array, name="cells")
            Table.objects.using(opened).from_frame(MEASURED, name="measured")
            found[name] = (opened, rep.id)
        yield found


@pytest.fixture(params=["folder", "server"])
def place(request, places) -> tuple[Connection, str]:
    return places[request.param]


def test_a_dataset_equals_the_array_of_its_row(place) -> None:
    connection, array_id = place
    rep = Representation.objects.using(connection).get(id=array_id)
    opened = xr.open_dataset(f"{connection.url}/arrays/{array_id}", engine="larvik")
    assert isinstance(opened["image"].data, LazyArray)
    xr.testing.assert_identical(opened["image"].rename("cells"), rep.array)
    np.testing.assert_array_equal(opened["image"].sel(c="GFP").max("z").values, PIXELS[:, 1].max(axis=1))
    coarse = xr.open_dataset(connection.url, engine="larvik", id=array_id, level=1)
    xr.testing.assert_identical(coarse["image"].rename("cells"), rep.levels[1])
    tree = xr.open_datatree(f"{connection.url}/arrays/{array_id}", engine="larvik")
    xr.testing.assert_identical(tree["1/image"].rename("cells"), rep.levels[1])


def test_a_dataset_in_chunks_is_dask_and_finds_its_connection_after_pickling(place) -> None:
    connection, array_id = place
    opened = xr.open_dataset(f"{connection.url}/arrays/{array_id}", engine="larvik", chunks={})
    again = pickle.loads(pickle.dumps(opened))
    np.testing.assert_array_equal(again["image"].max("t").values, PIXELS.max(axis=0))


@given(data=st.data())
def test_a_selection_has_the_same_pixels_everywhere(places, data) -> None:
    def part(size: int) -> slice:
        start = data.draw(st.integers(0, size - 1))
        return slice(start, data.draw(st.integers(start + 1, size)), data.draw(st.integers(1, 3)))

    selection = tuple(part(size) for size in PIXELS.shape)
    for connection, array_id in places.values():
        opened = xr.open_dataset(f"{connection.url}/arrays/{array_id}", engine="larvik")
        np.testing.assert_array_equal(opened["image"][selection].values, PIXELS[selection])
        np.testing.assert_array_equal(np.from_dlpack(opened["image"][selection].data), PIXELS[selection])


def test_rows_and_tables_are_taken_by_arrow(place) -> None:
    connection, array_id = place
    rows = Representation.objects.using(connection).filter(name="cells")
    assert pa.table(rows)["id"].to_pylist() == [array_id]
    assert pa.schema(rows) == pa.table(rows).schema
    channels = Channel.objects.using(connection).filter(object_id=array_id)
    assert pa.table(channels)["Name"].to_pylist() == ["DAPI", "GFP"]
    assert pa.table(rows[0].biometa.channels)["Name"].to_pylist() == ["DAPI", "GFP"]
    table = Table.objects.using(connection).get(name="measured")
    pd.testing.assert_frame_equal(pa.table(table).to_pandas(), MEASURED)


def test_a_missing_array_is_named_alike(place) -> None:
    connection, _ = place
    with pytest.raises(LarvikError, match="There is no array") as caught:
        xr.open_dataset(f"{connection.url}/arrays/{new_id()}", engine="larvik")
    assert caught.value.reason == "ARRAY_NOT_FOUND"


def test_a_server_wants_a_token_and_keeps_to_the_one_that_is_given(server, places) -> None:
    array_id = places["server"][1]
    before = current_or_none()
    with pytest.raises(LarvikError) as caught:
        xr.open_dataset(f"{server.url}/arrays/{array_id}", engine="larvik", token="wrong")
    assert caught.value.reason == "TOKEN_INVALID"
    reader = server.reader_token
    opened = xr.open_dataset(f"{server.url}/arrays/{array_id}", engine="larvik", token=reader)
    assert opened["image"].shape == PIXELS.shape
    own = connection_for(server.url, reader)
    assert own is not places["server"][0]
    assert own is connection_for(server.url, reader)
    assert current_or_none() is before
    own.close()


def test_urls_that_xarray_takes_for_paths_are_opened(server, places) -> None:
    url = server.url.replace("larvik://", "larvik+insecure://")
    opened = xr.open_dataset(
        f"{url}/arrays/{places['server'][1]}", engine="larvik", token=server.reader_token
    )
    np.testing.assert_array_equal(opened["image"][0, 0, 0].values, PIXELS[0, 0, 0])
    connection_for(url).close()


def test_without_a_token_the_reason_is_told(server, places, tmp_path) -> None:
    import subprocess
    import sys

    program = (
        "import xarray as xr\n"
        f"try: xr.open_dataset('{server.url}/arrays/{places['server'][1]}')\n"
        "except Exception as error: print(type(error).__name__, error.reason, error)"
    )
    environment = {"PATH": "/usr/bin", "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.stdout.startswith("UnauthenticatedError TOKEN_MISSING"), done.stderr
    assert "token=" in done.stdout
