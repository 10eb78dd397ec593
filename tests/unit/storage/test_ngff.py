"""Groups: what we write is OME-Zarr 0.5 by everyone's measure, and what others write is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import yaozarrs
import zarr

from larvik.array.spec import Axis
from larvik.errors import InvalidArgumentError, LarvikError, NotFoundError, UnsupportedError
from larvik.storage import (
    ChannelDisplay,
    GroupMetadata,
    fingerprint,
    open_reader,
    open_store,
    plan_layout,
    read_attributes,
    read_group,
    read_spec,
    update_metadata,
)
from larvik.testing.arrays import make_spec, random_array, write_array

LOCATION = "arrays/01/a.ome.zarr"
XML = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"/>'
)
METADATA = GroupMetadata(
    name="Zebrafish µm",
    channels=(ChannelDisplay("DAPI", "0000FF", (90.0, 900.0)), ChannelDisplay("GFP")),
    ome_xml=XML,
    attributes={"lab": {"room": 7}},
    array_id="0192f0c1-0000-7000-8000-000000000001",
    version=1,
    revision=4,
)


@pytest.fixture
def image(store):
    """Write an image of two channels and two levels, and give pixels, spec and folder."""
    array = random_array((2, 3, 1200, 700), "uint16")
    spec = make_spec(
        array.shape, "tczyx"[1:], "uint16", channel_names=["DAPI", "GFP"], origin=[0.0, 0.0, 12.5, 0.0]
    )
    write_array(store, LOCATION, array, spec, metadata=METADATA)
    return array, spec, Path(store.root) / LOCATION


def test_an_image_is_valid_ome_zarr(image):
    _, _, folder = image
    yaozarrs.validate_zarr_store(folder)
    group = yaozarrs.open_group(str(folder)).ome_metadata()
    assert group.multiscales[0].name == "Zebrafish µm"
    assert [axis.unit for axis in group.multiscales[0].axes[1:]] == ["micrometer"] * 3
    assert [channel.label for channel in group.omero.channels] == ["DAPI", "GFP"]
    assert group.omero.channels[0].window.end == 900


def test_ome_zarr_models_agrees(image, ome_zarr_model):
    assert ome_zarr_model(image[2]) == "Image"


def test_foreign_readers_see_the_same_pixels(image):
    array, spec, folder = image
    for level in spec.levels:
        kvstore = {"driver": "file", "path": str(folder / level.path)}
        theirs = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result().read().result()
        assert np.array_equal(theirs, zarr.open_array(folder / level.path, mode="r")[:])
    assert np.array_equal(zarr.open_group(folder, mode="r")["0"][:], array)


def test_the_members_of_a_group_are_its_levels_and_ome(image):
    assert sorted(name for name, _ in zarr.open_group(image[2], mode="r").members()) == ["0", "1", "OME"]
    assert (image[2] / "OME/METADATA.ome.xml").read_text() == XML


def test_spec_and_metadata_come_back(store, image):
    _, spec, _ = image
    assert read_spec(store, LOCATION) == spec
    expected = replace(
        METADATA, channels=(METADATA.channels[0], ChannelDisplay("GFP", "FF00FF", (0.0, 65535.0)))
    )
    assert read_group(store, LOCATION) == expected


@pytest.mark.parametrize("dims", ["yx", "zyx", "tyx", "tczyx", "cyx"])
@pytest.mark.parametrize("dtype", ["bool", "float16", "int64", "uint8"])
def test_every_image_is_valid_and_its_spec_comes_back(store, dims, dtype):
    shape = (2, 3, 4, 5, 6)[-len(dims) :]
    coordinates = {"t": (0.0, 1.5, 2.25, 9.0)[: shape[0]]} if dims[0] == "t" else {}
    spec = make_spec(shape, dims, dtype, coordinates=coordinates)
    write_array(store, LOCATION, random_array(shape, dtype), spec)
    yaozarrs.validate_zarr_store(Path(store.root) / LOCATION)
    assert read_spec(store, LOCATION) == spec


def test_pixels_without_calibration_stay_pixels(store):
    axes = [Axis("t", "time"), Axis("y", "space", "pixel"), Axis("x", "space", "pixel")]
    spec = plan_layout("tyx", (2, 1100, 40), "uint8", axes, [1.0] * 3, [0.0, 100.0, 0.0])
    write_array(store, LOCATION, random_array(spec.shape, "uint8"), spec)
    assert read_spec(store, LOCATION) == spec


def test_metadata_is_replaced_and_what_others_added_is_kept(store, image):
    _, spec, folder = image
    document = json.loads((folder / "zarr.json").read_text())
    document["attributes"]["theirs"] = 1
    document["attributes"]["ome"]["theirs"] = 2
    document["attributes"]["ome"]["omero"]["rdefs"] = {"model": "color"}
    document["unknown"] = 3
    (folder / "zarr.json").write_text(json.dumps(document))

    edited = replace(METADATA, name="New", ome_xml=None, attributes={"other": 1}, revision=5)
    assert update_metadata(store, LOCATION, edited)
    attributes = read_attributes(store, LOCATION)
    assert attributes["theirs"] == 1
    assert attributes["ome"]["theirs"] == 2
    assert attributes["ome"]["omero"]["rdefs"] == {"model": "color"}
    assert attributes["other"] == 1
    assert "lab" not in attributes
    assert attributes["larvik"]["revision"] == 5
    assert json.loads((folder / "zarr.json").read_text())["unknown"] == 3
    assert read_group(store, LOCATION).name == "New"
    assert read_group(store, LOCATION).ome_xml == XML
    assert read_spec(store, LOCATION) == spec
    yaozarrs.validate_zarr_store(folder)


def test_an_older_copy_does_not_overwrite_a_newer(store, image):
    assert update_metadata(store, LOCATION, replace(METADATA, name="later", revision=9))
    assert not update_metadata(store, LOCATION, replace(METADATA, name="earlier", revision=8))
    assert read_group(store, LOCATION).name == "later"


def test_free_attributes_cannot_take_the_place_of_ours(store, image):
    update_metadata(store, LOCATION, replace(METADATA, attributes={"ome": 1, "larvik": 2, "mine": 3}))
    assert read_spec(store, LOCATION) == image[1]
    assert read_group(store, LOCATION).attributes == {"mine": 3}


def test_a_fingerprint_changes_with_metadata_and_with_pixels(store, image):
    _, _, folder = image
    first = fingerprint(store, LOCATION)
    assert fingerprint(store, LOCATION) == first
    document = (folder / "zarr.json").read_text()
    (folder / "zarr.json").write_text(document.replace("Zebrafish", "Mouse"))
    second = fingerprint(store, LOCATION)
    zarr.open_array(folder / "0", mode="r+")[0, 0, 0, 0] = 1
    third = fingerprint(store, LOCATION)
    assert len({first, second, third}) == 3


def test_a_fingerprint_of_many_chunks_looks_at_few(tmp_path):
    from larvik.testing.stores import CountingStore

    axes = [{"name": name, "type": "space"} for name in "yx"]
    folder = write_ngff(tmp_path, "0.4", axes, np.zeros((160, 160), "u1"), chunks=(4, 4))
    store = CountingStore(open_store(str(tmp_path)))
    first = fingerprint(store, "image")
    assert len(store.requests) < 20
    (folder / "0/0/0").unlink()
    assert fingerprint(store, "image") != first


def write_ngff(folder, version, axes, array, *, chunks=None, scale=None, translation=None, **image):
    """Write an image as others do, with zarr-python, and return its folder."""
    path = folder / "image"
    zarr_format = 2 if version == "0.4" else 3
    group = zarr.create_group(path, zarr_format=zarr_format)
    transforms = [{"type": "scale", "scale": scale or [1.0] * array.ndim}]
    if translation:
        transforms.append({"type": "translation", "translation": translation})
    encoding = {"name": "v2" if version == "0.4" else "default", "separator": "/"}
    written = group.create_array(
        "0",
        shape=array.shape,
        dtype=array.dtype,
        chunks=chunks or array.shape,
        chunk_key_encoding=encoding,
        config={"write_empty_chunks": True},
    )
    written[...] = array
    multiscale = {
        "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}],
        "version": version, **image,
    }  # fmt: skip
    omero = {
        "channels": [{"label": "a", "color": "ff0000", "window": {"start": 1, "end": 5}}, {"label": "a"}, 7]
    }
    found = {"multiscales": [multiscale], "omero": omero}
    group.attrs.update(found if version == "0.4" else {"ome": {"version": version, **found}})
    return path


AXES = [
    {"name": "t", "type": "time", "unit": "millisecond"},
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "nanometer"},
    {"name": "y", "type": "space", "unit": "millimeter"},
    {"name": "x", "type": "space"},
]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_of_others_are_read_in_our_units(tmp_path, version):
    array = random_array((2, 3, 4, 5, 6), "int16")
    write_ngff(
        tmp_path, version, AXES, array,
        scale=[500.0, 1.0, 250.0, 0.001, 0.3], translation=[0.0, 0.0, 500.0, 0.002, 5.0],
        coordinateTransformations=[{"type": "scale", "scale": [2.0, 1.0, 1.0, 1.0, 1.0]}],
    )  # fmt: skip
    store = open_store(str(tmp_path))
    spec = read_spec(store, "image")
    assert spec.format == ("ome-zarr" if version == "0.5" else "ome-zarr-0.4")
    assert spec.dims == tuple("tczyx")
    assert [axis.unit for axis in spec.axes] == ["second", None, "micrometer", "micrometer", "pixel"]
    # x has a scale in an unknown unit: it counts pixels.
    assert spec.levels[0].spacing == pytest.approx((1.0, 1.0, 0.25, 1.0, 1.0))
    assert spec.levels[0].origin == pytest.approx((0.0, 0.0, 0.5, 2.0, 0.0))
    assert spec.channel_names == ("a", "a (2)", "Channel 2")
    assert read_group(store, "image").channels[0] == ChannelDisplay("a", "FF0000", (1.0, 5.0))
    pixels = open_reader(store, "image", spec.levels[0], "int16").read((slice(None),) * 5)
    assert np.array_equal(pixels, array)


def test_a_later_ngff_and_a_later_larvik_are_told(tmp_path, store, image):
    write_ngff(tmp_path, "0.6", AXES[3:], np.zeros((2, 2)))
    with pytest.raises(UnsupportedError, match=r"0\.6") as caught:
        read_spec(open_store(str(tmp_path)), "image")
    assert caught.value.reason == "FORMAT_UNSUPPORTED"
    document = json.loads((image[2] / "zarr.json").read_text())
    document["attributes"]["larvik"]["format_version"] = 2
    (image[2] / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(UnsupportedError, match="later Larvik"):
        read_spec(store, LOCATION)


def test_no_group_is_not_found(store):
    with pytest.raises(NotFoundError) as caught:
        read_spec(store, "nowhere")
    assert caught.value.reason == "ARRAY_NOT_FOUND"


def set_array(document, **changes):
    document.update(changes)


HOSTILE = {
    "negative shape": ("0/zarr.json", lambda d: set_array(d, shape=[-1, 5]), "shape"),
    "zero shape": ("0/zarr.json", lambda d: set_array(d, shape=[0, 5]), "shape"),
    "absurd shape": ("0/zarr.json", lambda d: set_array(d, shape=[2**62, 2**62]), "shape"),
    "float shape": ("0/zarr.json", lambda d: set_array(d, shape=[4.0, 5]), "shape"),
    "text for a shape": ("0/zarr.json", lambda d: set_array(d, shape="45"), "shape"),
    "another rank": ("0/zarr.json", lambda d: set_array(d, shape=[4, 5, 6]), "shape"),
    "no shape": ("0/zarr.json", lambda d: d.pop("shape"), "shape"),
    "zero chunks": (
        "0/zarr.json", lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[0, 5]), "shape"
    ),
    "huge chunks": (
        "0/zarr.json", lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[2**30, 2**20]), "chunks"
    ),
    "unknown dtype": ("0/zarr.json", lambda d: set_array(d, data_type="complex64"), "dtype"),
    "no dtype": ("0/zarr.json", lambda d: d.pop("data_type"), "dtype"),
    "fill value of another type": ("0/zarr.json", lambda d: set_array(d, fill_value="x"), "fill_value"),
    "fill value out of range": ("0/zarr.json", lambda d: set_array(d, fill_value=-1), "fill_value"),
    "codecs that are none": ("0/zarr.json", lambda d: set_array(d, codecs="blosc"), "codecs"),
    "path out of the group": ("zarr.json", lambda d: dataset(d).update(path="../../../etc"), "path"),
    "absolute path": ("zarr.json", lambda d: dataset(d).update(path="/../x"), "path"),
    "path with NUL": ("zarr.json", lambda d: dataset(d).update(path="a\0/../b"), "path"),
    "path to nothing": ("zarr.json", lambda d: dataset(d).update(path="7"), "path"),
    "path that is no text": ("zarr.json", lambda d: dataset(d).update(path=7), "datasets"),
    "missing datasets": ("zarr.json", lambda d: scale(d).pop("datasets"), "datasets"),
    "no datasets": ("zarr.json", lambda d: scale(d).update(datasets=[]), "datasets"),
    "datasets that are none": ("zarr.json", lambda d: scale(d).update(datasets=[7]), "datasets"),
    "many datasets": ("zarr.json", lambda d: scale(d).update(datasets=[{"path": "0"}] * 10**4), "datasets"),
    "no axes": ("zarr.json", lambda d: scale(d).pop("axes"), "axes"),
    "one axis twice": ("zarr.json", lambda d: scale(d).update(axes=[{"name": "x"}] * 2), "axes"),
    "axes of numbers": ("zarr.json", lambda d: scale(d).update(axes=[1, 2]), "axes"),
    "zero scale": ("zarr.json", lambda d: transform(d, scale=[0, 1]), "scale"),
    "NaN scale": ("zarr.json", lambda d: transform(d, scale=[float("nan"), 1]), "scale"),
    "infinite scale": ("zarr.json", lambda d: transform(d, scale=[float("inf"), 1]), "scale"),
    "scale of another rank": ("zarr.json", lambda d: transform(d, scale=[1]), "scale"),
    "unknown transform": ("zarr.json", lambda d: transform(d, type="rotate"), "coordinateTransformations"),
    "no images": ("zarr.json", lambda d: d["attributes"]["ome"].update(multiscales=[]), "multiscales"),
    "attributes that are none": ("zarr.json", lambda d: d.update(attributes=[]), "attributes"),
}  # fmt: skip


def scale(document):
    return document["attributes"]["ome"]["multiscales"][0]


def dataset(document):
    return scale(document)["datasets"][0]


def transform(document, **changes):
    dataset(document)["coordinateTransformations"][0].update(changes)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_is_refused_by_field(tmp_path, name):
    file, change, field = HOSTILE[name]
    write_ngff(tmp_path, "0.5", AXES[3:], np.zeros((4, 5), "u1"))
    path = tmp_path / "image" / file
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidArgumentError) as caught:
        read_spec(open_store(str(tmp_path)), "image")
    assert field in caught.value.metadata["field"]
    assert str(tmp_path) not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[1, 2]", "7", '{"a":' * 100_000, "[" * 500, '{"zarr_format": 3, "node_type": "group"',
     '{"shape": ' + "9" * 5000 + "}", b"\xff\xfe{}",
     '{"node_type": "group", "attributes": ' + '{"a":' * 90 + "1" + "}" * 91],
)  # fmt: skip
def test_a_document_that_is_no_json_object_is_refused(tmp_path, text):
    (tmp_path / "image").mkdir()
    (tmp_path / "image/zarr.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises((InvalidArgumentError, NotFoundError)) as caught:
        read_spec(open_store(str(tmp_path)), "image")
    assert isinstance(caught.value, LarvikError)


def test_a_symlink_out_of_a_registered_root_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    write_ngff(tmp_path / "root", "0.5", AXES[3:], np.zeros((4, 5), "u1"))
    chunk = tmp_path / "root/image/0/c/0/0"
    chunk.rename(tmp_path / "outside/chunk")
    chunk.symlink_to(tmp_path / "outside/chunk")
    store = open_store(str(tmp_path / "root"))
    spec = read_spec(store, "image")
    with pytest.raises(InvalidArgumentError, match="symbolic link"):
        open_reader(store, "image", spec.levels[0], "uint8").read((slice(None),) * 2)


def test_text_that_databases_refuse_is_cleaned(tmp_path):
    path = write_ngff(tmp_path, "0.5", AXES[3:], np.zeros((4, 5), "u1"))
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["free"] = {"a\0b": "c\0\ud800", "n": float("nan"), "l": [float("inf")]}
    (path / "zarr.json").write_text(json.dumps(document))
    free = read_group(open_store(str(tmp_path)), "image").attributes["free"]
    assert free == {"ab": "c?", "n": "NaN", "l": ["Infinity"]}
    json.dumps(free, allow_nan=False)
