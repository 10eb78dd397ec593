"""The Zarr store of a connection, read by zarr-python, xarray, Dask and, copied to a folder, by others."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import Blosc, Delta, GZip, Zlib, Zstd
from zarr.codecs import BloscCodec, TransposeCodec

import larvik
from larvik import Representation
from larvik.array.local import LocalEvaluator
from larvik.connection import Connection
from larvik.errors import LarvikError, NotFoundError, UnsupportedError
from larvik.storage.connected import open_store
from larvik.storage.zarr_store import ReadOnlyStore

PIXELS = np.random.default_rng(5).integers(0, 4000, (2, 2, 2, 1100, 260), dtype="uint16")


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with larvik.connect(tmp_path_factory.mktemp("connected") / "data") as opened:
        yield opened


@pytest.fixture(scope="module")
def image(connection: Connection) -> Representation:
    coords = {"t": ("t", [0.0, 1.5], {"units": "second"}), "c": ["DAPI", "GFP"]}
    array = xr.DataArray(PIXELS, dims=list("tczyx"), coords=coords)
    rep = Representation.objects.from_xarray(array, name="cells", attributes={"stain": "H&E"})
    return Representation.objects.get(id=rep.id)


def keys(store: ReadOnlyStore, prefix: str = "") -> list[str]:
    async def collect() -> list[str]:
        return [key async for key in store.list_prefix(prefix)]

    return asyncio.run(collect())


def children(store: ReadOnlyStore, folder: str) -> list[str]:
    async def collect() -> list[str]:
        return [name async for name in store.list_dir(folder)]

    return asyncio.run(collect())


def test_a_group_has_every_level_and_says_that_it_is_an_ome_zarr_image(connection, image) -> None:
    group = zarr.open(connection.store(image))
    assert isinstance(group, zarr.Group)
    levels = image.levels
    assert len(levels) > 1
    assert sorted(name for name, _ in group.members()) == [str(number) for number in range(len(levels))]
    for number, level in enumerate(levels):
        array = group[str(number)]
        assert array.metadata.dimension_names == level.dims
        assert array.chunks == tuple(max(sizes) for sizes in level.chunks)
        assert array.shards is None
        np.testing.assert_array_equal(array[...], level.values)
    ome: Any = group.attrs["ome"]
    assert [dataset["path"] for dataset in ome["multiscales"][0]["datasets"]] == [
        str(number) for number in range(len(levels))
    ]
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["DAPI", "GFP"]
    assert group.attrs["stain"] == "H&E"
    assert group.attrs["larvik"]["array_id"] == image.id


def test_chunks_are_the_stored_bytes(connection, image) -> None:
    store = connection.store(image)
    source = image.array.data.expression
    stored = connection.arrays.evaluator.reader(source).stored_chunk((1, 0, 0, 0, 0))
    found = asyncio.run(store.get("0/c/1/0/0/0/0"))
    assert found is not None
    assert found.to_bytes() == stored


def test_a_channel_that_was_renamed_and_coloured_has_its_new_name_and_colour(connection) -> None:
    array = xr.DataArray(PIXELS[0, :, 0], dims=list("cyx"), coords={"c": ["DAPI", "GFP"]})
    rep = Representation.objects.from_xarray(array, name="renamed")
    larvik.Channel.objects.filter(object_id=rep.id, index=1).update(name="Actin", color="#FF8800")
    channels: Any = zarr.open(connection.store(rep)).attrs["ome"]["omero"]["channels"]
    assert [(channel["label"], channel["color"]) for channel in channels][1] == ("Actin", "FF8800")


def test_what_is_listed_is_there(connection, image) -> None:
    store = connection.store(image)
    listed = keys(store)
    assert len(listed) == len(set(listed))
    array = zarr.open(store)["0"]
    assert array.nchunks_initialized == array.nchunks
    assert all(asyncio.run(store.exists(key)) for key in listed)
    chunks = [key for key in listed if key.startswith("0/c/")]
    folders = {key.rpartition("/")[0] for key in listed}
    folders |= {"/".join(folder.split("/")[:depth]) for folder in folders for depth in range(8)}
    for folder in sorted(folders):
        start = f"{folder}/" if folder else ""
        below = {key[len(start) :].split("/")[0] for key in listed if key.startswith(start)}
        assert set(children(store, folder)) == below, folder
    beyond = [*array.cdata_shape[:-1], array.cdata_shape[-1]]
    strange = [
        "0/c",
        "0/c/0",
        "9/zarr.json",
        "0/zarr.json/x",
        "0/c/0/0/0/0/00",
        "0/c/-1/0/0/0/0",
        "0/c/²/0/0/0/0",
    ]
    for key in (*strange, f"0/c/{'/'.join(map(str, beyond))}", chunks[0] + "/0", "0/c/x/0/0/0/0", "c/0"):
        assert not asyncio.run(store.exists(key)), key
        assert asyncio.run(store.get(key)) is None, key
    assert children(store, "0/c/9") == children(store, "0/c/x") == children(store, "nowhere") == []


@pytest.mark.parametrize("level", [0, 1])
def test_xarray_opens_a_level_with_its_coordinates(connection, image, level) -> None:
    expected = image.levels[level]
    opened = xr.open_zarr(connection.store(image, level=level))["image"]
    assert opened.chunksizes == expected.chunksizes
    assert opened.attrs == expected.attrs
    assert set(opened.coords) == set(expected.coords)
    for name, coordinate in expected.coords.items():
        assert opened.coords[name].dims == coordinate.dims
        assert opened.coords[name].attrs == coordinate.attrs
        np.testing.assert_array_equal(
            np.asarray(opened.coords[name].values.tolist()), np.asarray(coordinate.values.tolist())
        )
    np.testing.assert_array_equal(opened.sel(c="GFP").values, expected.sel(c="GFP").values)


def test_dask_reads_it(connection, image) -> None:
    import dask.array as da

    lazy = da.from_zarr(connection.store(image), component="0")
    np.testing.assert_array_equal(lazy.max(axis=2).compute(), PIXELS.max(axis=2))


def test_it_is_pickled_by_url_and_equal_where_it_arrives(connection, image) -> None:
    store = connection.store(image)
    data = pickle.dumps(store)
    again = pickle.loads(data)
    assert again == store
    assert again != connection.store(image, level=0)
    assert hash(again._objects.chunks) == hash(store._objects.chunks)
    np.testing.assert_array_equal(zarr.open(again)["0"][0, 1], PIXELS[0, 1])
    assert repr(again) == f"ReadOnlyStore('{connection.url}/arrays/{image.id}')"


def test_arrays_that_ngff_has_no_place_for_have_a_store_too(connection) -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    array = xr.DataArray(values, dims=["angle", "energy", "x"], coords={"energy": [1.0, 5.0, 7.0]})
    rep = Representation.objects.from_xarray(array, name="spectra")
    np.testing.assert_array_equal(zarr.open(connection.store(rep))["0"][...], values)
    opened = xr.open_zarr(connection.store(rep, level=0))
    np.testing.assert_array_equal(opened["image"].values, values)
    assert opened["energy"].values.tolist() == [1.0, 5.0, 7.0]


def test_others_read_a_copy_of_its_keys(connection, image, tmp_path) -> None:
    import tensorstore as ts
    import yaozarrs

    store = connection.store(image)
    folder = tmp_path / "copy.ome.zarr"
    for key in keys(store):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        found = asyncio.run(store.get(key))
        assert found is not None
        path.write_bytes(found.to_bytes())
    yaozarrs.validate_zarr_store(str(folder))
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / "0")}}
    np.testing.assert_array_equal(ts.open(spec).result().read().result(), PIXELS)


@given(data=st.data())
def test_every_selection_has_the_pixels_of_numpy(connection, image, data) -> None:
    def part(size: int) -> slice:
        start = data.draw(st.integers(0, size - 1))
        return slice(start, data.draw(st.integers(start + 1, size)), data.draw(st.integers(1, 3)))

    selection = tuple(part(size) for size in PIXELS.shape)
    found = zarr.open(connection.store(image))["0"][selection]
    np.testing.assert_array_equal(found, PIXELS[selection])


# Sources of others, registered in place


def registered(folder: Path, zarr_format: int, pixels: np.ndarray, **options: Any) -> Representation:
    version = "0.5" if zarr_format == 3 else "0.4"
    group = zarr.open_group(str(folder), mode="w", zarr_format=zarr_format)
    dtype = options.pop("dtype", pixels.dtype)
    chunks = {"chunks": (1, 64, 50), **options}
    if zarr_format == 3:
        chunks["dimension_names"] = list("cyx")
    group.create_array("0", shape=pixels.shape, dtype=dtype, **chunks)[...] = pixels
    kinds = {"c": "channel", "y": "space", "x": "space"}
    image = {
        "axes": [{"name": name, "type": kind} for name, kind in kinds.items()],
        "datasets": [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]}
        ],
    }
    if zarr_format == 3:
        group.attrs["ome"] = {"version": version, "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [{"version": version, **image}]
    (rep,) = larvik.import_file(str(folder), in_place=True, sample="Slide")
    return rep


FOREIGN: dict[str, tuple[int, int, dict[str, Any]]] = {
    "gzip, unsharded": (3, 3, {"compressors": zarr.codecs.GzipCodec()}),
    "big endian": (3, 3, {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": None}),
    "keys of version 2": (3, 3, {"chunk_key_encoding": {"name": "v2", "separator": "."}}),
    "shards": (3, 3, {"shards": (2, 128, 100), "compressors": BloscCodec(cname="zstd")}),
    "shards of a foreign codec": (
        3,
        3,
        {"shards": (2, 128, 100), "filters": [TransposeCodec(order=(2, 1, 0))]},
    ),
    "version 2, blosc": (2, 3, {"compressors": Blosc(cname="lz4", shuffle=Blosc.AUTOSHUFFLE)}),
    "version 2, zstd": (2, 3, {"compressors": Zstd(level=3)}),
    "version 2, gzip": (2, 3, {"compressors": GZip()}),
    "version 2, uncompressed": (2, 3, {"compressors": None}),
    "version 2, zlib": (2, 2, {"compressors": Zlib()}),
    "version 2, filters": (2, 2, {"filters": [Delta(dtype="<u2")], "compressors": Blosc()}),
    "version 2, order F": (2, 2, {"order": "F", "compressors": None}),
    "version 2, zlib, nested keys": (
        2,
        2,
        {"compressors": Zlib(), "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.filterwarnings("ignore:.*order.*:RuntimeWarning")
def test_sources_of_others_are_presented_as_version_3_or_as_they_are(connection, name, tmp_path) -> None:
    zarr_format, presented, options = FOREIGN[name]
    pixels = PIXELS[0, :, 0, :150, :130]
    rep = registered(tmp_path / "image.zarr", zarr_format, pixels, **options)
    store = connection.store(rep)
    group = zarr.open(store)
    assert group.metadata.zarr_format == presented
    np.testing.assert_array_equal(group["0"][...], pixels)
    assert all(asyncio.run(store.exists(key)) for key in keys(store))
    multiscales = group.attrs["ome"]["multiscales"] if presented == 3 else group.attrs["multiscales"]
    assert multiscales[0]["datasets"][0]["path"] == "0"
    opened = xr.open_zarr(connection.store(rep, level=0))
    xr.testing.assert_equal(opened["x"].load(), rep.array["x"].drop_vars("channel_id", errors="ignore"))
    assert opened["image"].dims == rep.array.dims
    np.testing.assert_array_equal(opened["image"].values, pixels)
    assert set(children(store, "0")) == {key.split("/")[1] for key in keys(store, "0/")}


def test_version_2_in_big_endian(connection, tmp_path) -> None:
    pixels = PIXELS[0, :, 0, :150, :130]
    rep = registered(tmp_path / "image.zarr", 2, pixels, dtype=">u2", compressors=None)
    group = zarr.open(connection.store(rep))
    assert group.metadata.zarr_format == 3
    np.testing.assert_array_equal(group["0"][...], pixels)


@pytest.mark.parametrize(("zarr_format", "fill"), [(3, 7), (2, 7), (2, 0)])
def test_chunks_that_a_source_does_not_store_have_its_fill_value(
    connection, tmp_path, zarr_format, fill
) -> None:
    pixels = np.full((2, 150, 130), fill, "uint16")
    pixels[1, 0, 0] = 9
    rep = registered(tmp_path / "image.zarr", zarr_format, pixels, fill_value=fill)
    store = connection.store(rep)
    array = zarr.open(store)["0"]
    assert array.nchunks_initialized == 1
    assert [key for key in keys(store) if key.startswith("0/c")] == ["0/c/1/0/0"]
    assert not asyncio.run(store.exists("0/c/0/0/0"))
    assert children(store, "0/c") == ["1"]
    np.testing.assert_array_equal(array[...], pixels)


def test_fill_values_that_are_no_numbers_are_kept(connection, tmp_path) -> None:
    for number, fill in enumerate((np.nan, np.inf, -np.inf)):
        pixels = np.full((2, 150, 130), fill, "float32")
        pixels[0, 0, 0] = 1
        rep = registered(tmp_path / f"image{number}.zarr", 2, pixels, fill_value=fill)
        np.testing.assert_array_equal(zarr.open(connection.store(rep))["0"][...], pixels)


# What is refused


def test_a_damaged_or_missing_shard_is_an_error_and_no_fill_value(tmp_path) -> None:
    with larvik.connect(tmp_path / "data") as connection:
        rep = Representation.objects.from_xarray(PIXELS[0, 0, 0], dims=["y", "x"], name="damaged")
        array = zarr.open(connection.store(rep))["0"]
        (shard,) = [path for path in (tmp_path / "data").rglob("c/0/0") if path.parents[2].name == "0"]
        shard.unlink()
        with pytest.raises(LarvikError) as caught:
            array[...]
        assert caught.value.reason == "CHUNK_MISSING"


def test_a_level_that_is_not_there_is_refused(connection, image) -> None:
    with pytest.raises(LarvikError) as caught:
        connection.store(image, level=7)
    assert caught.value.reason == "SELECTION_OUT_OF_BOUNDS"


def test_a_row_without_pixels_is_refused(connection) -> None:
    with pytest.raises(LarvikError) as caught:
        connection.store(Representation(name="new"))
    assert caught.value.reason == "PRECONDITION_FAILED"


def test_an_array_that_was_deleted_is_not_found_where_it_is_opened(connection) -> None:
    rep = Representation.objects.from_xarray(PIXELS[0, 0, 0], dims=["y", "x"], name="gone")
    data = pickle.dumps(connection.store(rep))
    rep.delete()
    with pytest.raises(NotFoundError) as caught:
        zarr.open(pickle.loads(data))["0"][0]
    assert caught.value.reason == "ARRAY_NOT_FOUND"


class PixelsAlone:
    """A reader that knows pixels and no stored chunks."""

    def __init__(self, reader: Any) -> None:
        self.shape, self.dtype, self.chunks, self.read = (
            reader.shape,
            reader.dtype,
            reader.chunks,
            reader.read,
        )


def test_a_connection_that_gives_no_stored_chunks_says_so(connection, image) -> None:
    reader = connection.arrays.evaluator.reader
    evaluator = LocalEvaluator(lambda source: PixelsAlone(reader(source)), "larvik://lab:7410")
    with pytest.raises(UnsupportedError, match="larvik://lab:7410 gives pixels alone"):
        open_store(image, evaluator)
