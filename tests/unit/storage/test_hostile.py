"""Any document in the place of a good one: a typed error or an array, never another exception."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from larvik.errors import LarvikError
from larvik.storage import (
    GroupMetadata,
    fingerprint,
    open_reader,
    open_store,
    read_group,
    read_spec,
    update_metadata,
)
from larvik.testing.arrays import make_spec, random_array, write_array

NASTY = [-1, 0, 2**31, 2**63, 2**64, 10**400, "", "..", "../x", "/", "\0", "0", "uint8", "|O", "<U3", "NaN"]
NAMES = ["0x00", "sharding_indexed", "blosc", "zstd", "gzip", "transpose", "bytes", "v2", "default", "0.4"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(NASTY + NAMES)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def places(document, path=()):
    """Yield the path of every value in a document."""
    yield path
    if isinstance(document, dict | list):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from places(value, (*path, key))


def replaced(document, path, value):
    changed = copy.deepcopy(document)
    *parents, last = path
    place = changed
    for key in parents:
        place = place[key]
    place[last] = value
    return changed


def image(folder):
    spec = make_spec((2, 1100, 30), "cyx", "uint8", channel_names=["a", "b"])
    write_array(
        open_store(str(folder)), "g", random_array(spec.shape, "uint8"), spec, metadata=GroupMetadata("n")
    )


def plain(folder):
    spec = make_spec((3, 4, 5), "pyx", "float32", coordinates={"p": ("a", "b", "c")})
    write_array(open_store(str(folder)), "g", random_array(spec.shape, "float32"), spec)


def image_0_4(folder):
    group = zarr.create_group(folder / "g", zarr_format=2)
    group.create_array("0", shape=(4, 5), chunks=(2, 2), dtype=">u2")[:] = 3
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 2.0]}, {"type": "translation", "translation": [1.0, 2.0]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    channels = [{"label": "a", "color": "FF0000", "window": {"start": 0, "end": 1, "min": 0, "max": 1}}]
    group.attrs.update(
        multiscales=[{"version": "0.4", "axes": axes, "datasets": datasets}], omero={"channels": channels}
    )


def of_xarray(folder):
    time = np.array(["2026-01-01", "2026-01-02"], "M8[ns]")
    array = xr.DataArray(np.ones((2, 3)), dims=("t", "x"), coords={"t": time, "x": [1.0, 2.0, 4.0]}, name="v")
    array.to_zarr(folder / "g", zarr_format=2, consolidated=False)


def read_everything(store, location):
    spec = read_spec(store, location)
    for level in spec.levels:
        reader = open_reader(store, location, level, spec.dtype)
        assert reader.shape == level.shape
        reader.read(tuple(slice(0, min(size, 2)) for size in level.shape))
    json.dumps(spec.to_dict(), allow_nan=False)


def edit(store, location):
    update_metadata(store, location, GroupMetadata("edited", revision=5))


def outcome(act, store):
    """Return what an act says when it refuses the group; None when it takes it."""
    try:
        act(store, "g")
    except LarvikError as error:
        return str(error)
    return None


@pytest.fixture(scope="module", params=[image, plain, image_0_4, of_xarray])
def good_group(request, tmp_path_factory):
    """Write a group once, for copies to be spoiled."""
    folder = tmp_path_factory.mktemp("good")
    request.param(folder)
    read_everything(open_store(str(folder)), "g")
    return folder


@given(data=st.data())
def test_no_document_breaks_a_reader(good_group, data):
    folder = good_group.with_name("spoiled")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good_group, folder)
    store = open_store(str(folder))
    names = (".zattrs", ".zarray", "zarr.json")
    documents = sorted(path for path in folder.rglob("*") if path.name in names and path.stat().st_size > 10)
    for _ in range(5):
        path = data.draw(st.sampled_from(documents))
        good = path.read_bytes()
        document = json.loads(good)
        place = data.draw(st.sampled_from([found for found in places(document) if found]))
        path.write_text(json.dumps(replaced(document, place, data.draw(VALUES))))
        for act in (read_everything, read_group, fingerprint, edit):
            said = outcome(act, store)
            assert said is None or (len(said) < 1000 and str(folder) not in said)
        path.write_bytes(good)


@given(data=st.data())
def test_no_bytes_of_a_shard_break_a_reader(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("shard")
    array = random_array((4, 40, 40), "uint16") // 4000
    spec = make_spec(array.shape, "zyx", "uint16")
    level = replace(spec.levels[0], chunks=(1, 20, 20), shards=(4, 40, 40))
    store = open_store(str(folder))
    write_array(store, "g", array, replace(spec, levels=(level,)))
    path = folder / "g/0/c/0/0/0"
    altered = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(altered[: data.draw(st.integers(0, len(altered)))])
    said = outcome(read_everything, store)
    assert said is None or "Chunk" in said
    shutil.rmtree(folder)
