"""One array through its whole life, on every store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from larvik.errors import DataLossError, UnavailableError
from larvik.ids import new_id
from larvik.storage import (
    GroupMetadata,
    array_location,
    delete_array,
    fingerprint,
    list_arrays,
    open_reader,
    open_store,
    read_group,
    read_spec,
    stored_bytes,
    update_metadata,
)
from larvik.testing.arrays import make_spec, random_array, write_array


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    if request.param == "local":
        return open_store(str(tmp_path))
    s3_url = request.getfixturevalue("s3_url")
    return open_store(s3_url.url, **s3_url.options)


@pytest.fixture
def array():
    return random_array((2, 3, 1100, 900), "uint8")


@pytest.fixture
def spec(array):
    """Give a spec with many chunks to a shard and many shards."""
    planned = make_spec(array.shape, "czyx", "uint8", channel_names=["DAPI", "GFP"])
    first = replace(planned.levels[0], chunks=(1, 1, 128, 128), shards=(1, 2, 256, 1024))
    return replace(planned, levels=(first, *planned.levels[1:]))


def test_an_array_is_written_read_edited_found_and_deleted(store, array, spec):
    location = array_location(new_id())
    metadata = GroupMetadata(name="first", ome_xml="<OME/>", revision=1)
    size = write_array(store, location, array, spec, metadata=metadata)
    assert read_spec(store, location) == spec
    everything = (slice(None),) * 4
    crop = (slice(1, 2), slice(0, 3, 2), slice(100, 700, 3), slice(5, 890))
    for level in spec.levels:
        reader = open_reader(store, location, level, "uint8")
        assert reader.read(everything).shape == level.shape
    reader = open_reader(store, location, spec.levels[0], "uint8")
    assert np.array_equal(reader.read(everything), array)
    assert np.array_equal(reader.read(crop), array[crop])

    before = fingerprint(store, location)
    assert update_metadata(store, location, replace(metadata, name="second", revision=2))
    assert read_group(store, location).name == "second"
    assert fingerprint(store, location) != before

    (found,) = list_arrays(store)
    assert found.location == location
    assert found.size_bytes == stored_bytes(store, location)
    assert abs(found.size_bytes - size) < 100
    assert delete_array(store, location) == found.size_bytes
    assert list(list_arrays(store)) == []


def test_a_shard_that_is_lost_is_told(store, array, spec):
    location = array_location(new_id())
    write_array(store, location, array, spec)
    store.delete(f"{location}/0/c/1/0/2/0")
    reader = open_reader(store, location, spec.levels[0], "uint8")
    with pytest.raises(DataLossError) as caught:
        reader.read((slice(None),) * 4)
    assert caught.value.reason == "CHUNK_MISSING"


def test_a_bucket_that_vanishes_is_unreachable(s3_server, s3_bucket, array, spec):
    store = open_store(s3_bucket.url, **s3_bucket.options)
    location = array_location(new_id())
    write_array(store, location, array, spec)
    reader = open_reader(store, location, spec.levels[0], "uint8")
    s3_server.drop_bucket(s3_bucket.bucket)
    with pytest.raises(UnavailableError) as caught:
        reader.read((slice(None),) * 4)
    assert caught.value.reason == "STORE_UNREACHABLE"
    with pytest.raises(UnavailableError):
        list(list_arrays(store))
