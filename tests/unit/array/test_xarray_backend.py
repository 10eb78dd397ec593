"""``xr.open_dataset(..., engine="larvik")`` on a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import larvik
from larvik import Representation
from larvik.array.lazy import LazyArray
from larvik.array.xarray_backend import LarvikBackend
from larvik.connection import Connection, connection_for, current_or_none
from larvik.errors import LarvikError
from larvik.ids import new_id

PIXELS = np.random.default_rng(9).integers(0, 4000, (2, 2, 1100, 130), dtype="uint16")


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with larvik.connect(tmp_path_factory.mktemp("backend") / "data") as opened:
        yield opened


@pytest.fixture(scope="module")
def image(connection: Connection) -> Representation:
    array = xr.DataArray(PIXELS, dims=list("tcyx"), coords={"c": ["DAPI", "GFP"]})
    return Representation.objects.from_xarray(array, name="cells")


@pytest.fixture(scope="module")
def url(connection: Connection, image: Representation) -> str:
    return f"{connection.url}/arrays/{image.id}"


def test_the_engine_is_installed() -> None:
    assert isinstance(xr.backends.list_engines()["larvik"], LarvikBackend)


def test_a_dataset_holds_the_lazy_array_with_its_coordinates_and_attributes(image, url) -> None:
    opened = xr.open_dataset(url, engine="larvik")
    assert opened.attrs == {"title": "cells"}
    assert isinstance(opened["image"].data, LazyArray)
    xr.testing.assert_identical(opened["image"].rename("cells"), image.array)
    assert opened["image"].sel(c=1, t=0).coords["c"].item() == "GFP"


def test_reductions_are_recorded_and_computed_once_loaded(url) -> None:
    opened = xr.open_dataset(url, engine="larvik")
    projected = opened.max("t")
    assert isinstance(projected["image"].data, LazyArray)
    np.testing.assert_array_equal(projected["image"].values, PIXELS.max(axis=0))
    computed = opened.compute()
    assert isinstance(computed["image"].data, np.ndarray)
    assert isinstance(opened["image"].data, LazyArray)
    opened.load()
    assert isinstance(opened["image"].data, np.ndarray)
    np.testing.assert_array_equal(opened["image"].data, PIXELS)


def test_chunks_make_dask_arrays_in_the_chunks_as_they_are_stored(image, url) -> None:
    import dask.array as da

    opened = xr.open_dataset(url, engine="larvik", chunks={})
    assert isinstance(opened["image"].data, da.Array)
    assert opened.chunks == image.array.chunksizes
    assert not hasattr(opened["channel_id"].data, "dask")
    np.testing.assert_array_equal(opened["image"].max("t").values, PIXELS.max(axis=0))
    whole = xr.open_dataset(url, engine="larvik", chunks={"t": -1})
    assert whole.chunks["t"] == (2,)


def test_values_may_be_put_into_what_was_loaded_and_not_into_what_is_lazy(url) -> None:
    opened = xr.open_dataset(url, engine="larvik")
    with pytest.raises(TypeError, match="immutable"):
        opened["image"][0, 0, 0, 0] = 1
    opened.load()
    opened["image"][0, 0, 0, 0] = 1
    opened["image"].data = np.zeros_like(PIXELS)
    assert opened["image"].values.max() == 0
    assert xr.open_dataset(url, engine="larvik")["image"].values.max() > 0


def test_a_level_is_opened_by_its_number(image, url) -> None:
    opened = xr.open_dataset(url, engine="larvik", level=1)
    xr.testing.assert_identical(opened["image"].rename("cells"), image.levels[1])


def test_a_tree_has_every_level(image, url) -> None:
    tree = xr.open_datatree(url, engine="larvik")
    assert list(tree.children) == [str(number) for number in range(len(image.levels))]
    for number, level in enumerate(image.levels):
        assert isinstance(tree[f"{number}/image"].data, LazyArray)
        xr.testing.assert_identical(tree[f"{number}/image"].rename("cells"), level)
    np.testing.assert_array_equal(tree.load()["0/image"].data, PIXELS)
    chunked = xr.open_datatree(url, engine="larvik", chunks={})
    assert hasattr(chunked["1/image"].data, "dask")
    assert list(xr.open_groups(url, engine="larvik")) == ["/", "/0", "/1"]


def test_coordinates_may_be_left_out(url) -> None:
    assert "channel_id" not in xr.open_dataset(url, engine="larvik", drop_variables="channel_id").variables
    tree = xr.open_datatree(url, engine="larvik", drop_variables=["channel_id", "t", "nothing"])
    assert set(tree["1"].coords) == {"c", "y", "x"}


def test_many_arrays_are_opened_together(connection, url) -> None:
    array = xr.DataArray(PIXELS, dims=list("tcyx"), coords={"t": ("t", [2.0, 3.0], {"units": "second"})})
    other = Representation.objects.from_xarray(array, name="later")
    urls = [url, f"{connection.url}/arrays/{other.id}"]
    # channel names differ from image to image
    opened = xr.open_mfdataset(
        urls, engine="larvik", concat_dim="position", combine="nested", join="override", compat="override",
        coords="minimal",
    )  # fmt: skip
    assert opened["image"].shape == (2, *PIXELS.shape)
    np.testing.assert_array_equal(opened["image"][1, 0, 0].values, PIXELS[0, 0])


@given(data=st.data())
def test_every_selection_has_the_pixels_of_numpy(url, data) -> None:
    def part(size: int) -> slice:
        start = data.draw(st.integers(0, size))
        return slice(start, data.draw(st.integers(start, size)), data.draw(st.integers(1, 3)))

    selection = tuple(data.draw(st.integers(0, size - 1)) if data.draw(st.booleans()) else part(size)
                      for size in PIXELS.shape)  # fmt: skip
    chunks = data.draw(st.sampled_from([None, {}]))
    opened = xr.open_dataset(url, engine="larvik", chunks=chunks)
    np.testing.assert_array_equal(opened["image"][selection].values, PIXELS[selection])


# Ways to name an array


def test_an_array_is_named_by_url_by_folder_and_id_or_through_a_connection(connection, image, url) -> None:
    folder = Path(url.removeprefix("file://")).parents[1]
    ways: list[tuple[Any, dict[str, Any]]] = [
        (url, {}),
        (url + "/", {}),
        (url.upper().replace(connection.url.upper(), connection.url).replace("/ARRAYS/", "/arrays/"), {}),
        (url, {"id": image.id}),
        (url.removeprefix("file://"), {}),
        (connection.url, {"id": image.id}),
        (folder, {"id": image.id}),
        (str(folder), {"id": image.id}),
        (image.id, {"connection": connection}),
        (f"larvik://elsewhere/arrays/{image.id}", {"connection": connection}),
        ("anything", {"id": image.id, "connection": connection}),
    ]
    for given_, keywords in ways:
        assert xr.open_dataset(given_, engine="larvik", **keywords)["image"].shape == PIXELS.shape


def test_urls_with_a_plus_sign_arrive_whole_though_xarray_takes_them_for_paths() -> None:
    for text in ("larvik+insecure://127.0.0.1:1", "larvik://127.0.0.1:1"):
        with pytest.raises(LarvikError) as caught:
            xr.open_dataset(f"{text}/arrays/{new_id()}", engine="larvik")
        assert caught.value.reason == "TOKEN_MISSING"
        assert text in str(caught.value)


def test_only_urls_of_servers_are_guessed() -> None:
    backend = LarvikBackend()
    assert all(map(backend.guess_can_open, ["larvik://lab:7410/arrays/1", "larvik+insecure://lab/arrays/1"]))
    others = ["lab-data/", "file:///lab-data", "cells.nc", "https://larvik/arrays/1", b"larvik://", 3, None]
    assert not any(map(backend.guess_can_open, others))


def test_the_default_connection_stays_and_a_folder_is_opened_once(tmp_path) -> None:
    with larvik.connect(tmp_path / "data") as made:
        rep = Representation.objects.from_xarray(PIXELS[0, 0], dims=["y", "x"], name="flat")
        url = made.url
    before = current_or_none()
    opened = xr.open_dataset(url, engine="larvik", id=rep.id)
    assert current_or_none() is before
    connection = connection_for(url)
    xr.open_dataset(url, engine="larvik", id=rep.id)
    assert connection_for(url) is connection
    np.testing.assert_array_equal(opened["image"].values, PIXELS[0, 0])
    connection.close()


# What is refused


@pytest.mark.parametrize(
    ("name", "keywords", "reason"),
    [
        ("{url}", {"level": 9}, "SELECTION_OUT_OF_BOUNDS"),
        ("{url}", {"level": -1}, "SELECTION_OUT_OF_BOUNDS"),
        ("{url}", {"id": "01a20551-1d00-787a-9968-0cf93a24f42e"}, "URL_INVALID"),
        ("{url}", {"token": "secret"}, "ARGUMENT_INVALID"),
        ("{folder}", {}, "URL_INVALID"),
        ("{folder}", {"id": "nobody"}, "ID_INVALID"),
        ("{folder}", {"id": "01a20551-1d00-787a-9968-0cf93a24f42e"}, "ARRAY_NOT_FOUND"),
        ("{folder}/arrays/01a20551-1d00-787a-9968-0cf93a24f42e", {}, "ARRAY_NOT_FOUND"),
        ("{tmp}/nowhere", {"id": "01a20551-1d00-787a-9968-0cf93a24f42e"}, "FOLDER_NOT_FOUND"),
        ("{tmp}", {"id": "01a20551-1d00-787a-9968-0cf93a24f42e"}, "FOLDER_NOT_FOUND"),
        ("ftp://lab/arrays/01a20551-1d00-787a-9968-0cf93a24f42e", {}, "URL_INVALID"),
    ],
)
def test_what_cannot_be_opened_is_named(connection, url, tmp_path, name, keywords, reason) -> None:
    given_ = name.format(url=url, folder=connection.url, tmp=tmp_path)
    with pytest.raises(LarvikError) as caught:
        xr.open_dataset(given_, engine="larvik", **keywords)
    assert caught.value.reason == reason
    assert list(tmp_path.iterdir()) == []


def test_something_that_is_no_url_is_refused() -> None:
    with pytest.raises(LarvikError, match="URLs and folders, not int") as caught:
        xr.open_dataset(3, engine="larvik")  # type: ignore[arg-type]
    assert caught.value.reason == "URL_INVALID"
