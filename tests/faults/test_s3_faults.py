"""An S3 store that is slow, busy, cut short or wrong: right pixels or an error that says what is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from fixtures.http_proxy import SpoilingProxy
from larvik.errors import DataLossError, UnavailableError
from larvik.storage import RegionReader, open_reader, open_store
from larvik.testing.arrays import make_spec, random_array, write_array

LOCATION = "arrays/01/a.ome.zarr"
EVERYTHING = (slice(None),) * 3
ARRAY = random_array((8, 128, 128), "uint16")


@pytest.fixture
def proxy(s3_server) -> Iterator[SpoilingProxy]:
    with SpoilingProxy(s3_server.endpoint_url) as running:
        yield running


@pytest.fixture
def reader(s3_url, proxy) -> RegionReader:
    """Give a reader through the proxy, of an array that was written past it; it knows no shard index yet."""
    spec = make_spec(ARRAY.shape, "zyx", "uint16")
    level = replace(spec.levels[0], chunks=(1, 128, 128), shards=(2, 128, 128))
    options = s3_url.options
    write_array(open_store(s3_url.url, **options), LOCATION, ARRAY, replace(spec, levels=(level,)))
    store = open_store(s3_url.url, **{**options, "endpoint_url": proxy.url, "timeout_s": 1.0})
    return open_reader(store, LOCATION, level, "uint16")


def test_a_slow_store_gives_the_pixels(reader, proxy):
    proxy.delay_s = 0.3
    start = time.monotonic()
    assert np.array_equal(reader.read(EVERYTHING), ARRAY)
    assert time.monotonic() - start < 4 * 2 * 0.3, "the requests waited for each other"


@pytest.mark.parametrize("code", ["SlowDown", "ServiceUnavailable", "InternalError"])
def test_a_busy_store_is_asked_again(reader, proxy, code):
    proxy.code, proxy.refusals = code, 6
    assert np.array_equal(reader.read(EVERYTHING), ARRAY)
    assert proxy.refusals == 0


def test_what_was_answered_is_not_asked_again(reader, proxy):
    reader.read(EVERYTHING)
    proxy.requests.clear()
    proxy.refusals = 1
    assert np.array_equal(reader.read(EVERYTHING), ARRAY)
    assert len(proxy.requests) == 5  # four shards, and the one that was refused


def test_a_store_that_stays_busy_is_told_with_the_object(reader, proxy):
    proxy.refusals = 1000
    start = time.monotonic()
    with pytest.raises(UnavailableError, match=f"{LOCATION}/0/c/") as caught:
        reader.read(EVERYTHING)
    assert caught.value.reason == "STORE_UNREACHABLE"
    assert caught.value.metadata["key"].startswith(f"{LOCATION}/0/c/")
    assert time.monotonic() - start < 6
    proxy.refusals = 0
    assert np.array_equal(reader.read(EVERYTHING), ARRAY)


def test_a_store_that_hangs_is_given_up(reader, proxy):
    proxy.delay_s = 3.0
    start = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        reader.read(EVERYTHING)
    assert caught.value.reason == "STORE_UNREACHABLE"
    assert time.monotonic() - start < 6


def test_an_answer_that_is_cut_is_asked_for_again(reader, proxy):
    proxy.cuts = 4
    assert np.array_equal(reader.read(EVERYTHING), ARRAY)
    assert proxy.cuts == 0


def test_answers_that_are_always_cut_are_told_with_the_object(reader, proxy):
    proxy.cuts = 1000
    with pytest.raises(UnavailableError, match=f"{LOCATION}/0/c/"):
        reader.read(EVERYTHING)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: bytes([data[0] ^ 0xFF]) + data[1:],
        lambda data: bytes(len(data)),
    ],
)
@pytest.mark.parametrize("knows_indexes", [False, True])
def test_an_object_that_is_damaged_is_told_with_array_and_chunk(reader, proxy, change, knows_indexes):
    if knows_indexes:
        reader.read((slice(0, 8), slice(0, 1), slice(0, 1)))
    proxy.change = change
    with pytest.raises(DataLossError, match=LOCATION) as caught:
        reader.read(EVERYTHING)
    assert caught.value.reason == "CHUNK_CORRUPT"
    assert caught.value.metadata["location"] == f"{LOCATION}/0"
    assert len(caught.value.metadata["chunk"].split(",")) == 3
    proxy.change = None
    assert np.array_equal(reader.read(EVERYTHING), ARRAY)


def test_an_upload_outlives_a_busy_store(s3_url, proxy):
    store = open_store(s3_url.url, **{**s3_url.options, "endpoint_url": proxy.url})
    proxy.refusals = 2
    store.write("a/c/0", b"bytes")
    assert store.read("a/c/0") == b"bytes"


def test_missing_chunks_cost_one_question_for_the_bucket(s3_url, proxy):
    from larvik.storage import ByteRange

    store = open_store(s3_url.url, **{**s3_url.options, "endpoint_url": proxy.url})
    assert store.read_many([ByteRange(f"a/c/{number}") for number in range(20)]) == [None] * 20
    assert len([request for request in proxy.requests if request.startswith("HEAD")]) == 1
