"""Chunks encoded elsewhere: cut, encoded, checked."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import blosc

from larvik.array.spec import DTYPES, Level
from larvik.storage.codecs import INTENSITY_CODEC, LABEL_CODEC, Codec, CorruptChunkError
from larvik.storage.encoded import ChunkGrid, encoding_of, parse_encoding
from larvik.storage.zarr_metadata import array_document

GRIDS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=3)


def level(shape, chunks, shards) -> Level:
    return Level("0", shape, chunks, shards, (1.0,) * len(shape), (0.0,) * len(shape))


def encoding(dtype="uint16", codec=INTENSITY_CODEC, chunks=(16, 16)):
    return encoding_of(level((40, 40), chunks, (32, 32)), dtype, codec)


@given(GRIDS)
def test_every_element_is_in_one_chunk_of_one_shard(dims):
    shape, chunks = tuple(n for n, _, _ in dims), tuple(c for _, c, _ in dims)
    grid = ChunkGrid(shape, chunks, tuple(c * k for _, c, k in dims))
    seen = np.zeros(shape, int)
    for shard in product(*map(range, grid.shard_counts)):
        assert grid.shard_at(grid.number_of(shard)) == shard
        slots = []
        for chunk, region in grid.chunks_of(shard):
            assert grid.has(chunk)
            assert grid.shard_of(chunk) == shard
            seen[region] += 1
            slots.append(grid.slot_of(chunk))
        assert len(slots) == grid.chunk_count(shard)
        assert slots == sorted(set(slots))
        assert slots[-1] < grid.slot_count
    assert (seen == 1).all()
    assert not grid.has(grid.counts)
    assert not grid.has((0,) * (len(shape) + 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("codec", [INTENSITY_CODEC, LABEL_CODEC, Codec("lz4", 0, "noshuffle")])
def test_what_is_encoded_here_passes_its_own_check(dtype, codec):
    one = encoding(dtype, codec)
    random = np.random.default_rng(0)
    for shape in ((16, 16), (8, 16), (8, 8)):
        for pixels in (np.zeros(shape, dtype), random.integers(0, 2, shape).astype(dtype)):
            data = one.encode(np.asfortranarray(pixels))
            one.check(data, decode=True)
            one.check(memoryview(data), decode=False)
            whole = np.empty((16, 16), dtype)
            blosc.decompress(data, whole)
            assert (whole[: shape[0], : shape[1]] == pixels).all()
            assert not whole[shape[0] :].any()


@given(st.binary(max_size=600), st.booleans())
def test_noise_is_refused(data, decode):
    with pytest.raises(CorruptChunkError):
        encoding().check(data, decode=decode)


def check_any(change, one, data):
    """Check that altered bytes are refused, or decode to a chunk."""
    altered = bytearray(data)
    for at, value in change:
        altered[at % len(altered)] = value
    try:
        one.check(bytes(altered), decode=True)
    except CorruptChunkError:
        return
    out = np.empty(one.chunk_bytes, np.uint8)
    blosc.decompress(bytes(altered), out)


CHANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6)
PIXELS = np.random.default_rng(2).integers(0, 9, (16, 16), dtype="u2")


@given(CHANGES, st.sampled_from([INTENSITY_CODEC, LABEL_CODEC]))
def test_altered_bytes_are_refused_or_harmless(change, codec):
    one = encoding(codec=codec)
    check_any(change, one, one.encode(PIXELS))


@pytest.mark.soak
@given(CHANGES, st.sampled_from([INTENSITY_CODEC, LABEL_CODEC, Codec("zlib", 5, "bitshuffle")]))
def test_altered_bytes_are_refused_or_harmless_for_long(change, codec):
    one = encoding(codec=codec)
    check_any(change, one, one.encode(PIXELS))


def test_a_bool_is_one_or_zero_even_without_decoding_the_rest():
    one = encoding("bool")
    other = encoding("uint8")
    pixels = np.zeros((16, 16), "u1")
    one.check(other.encode(pixels), decode=False)
    pixels[3, 3] = 2
    with pytest.raises(CorruptChunkError, match="bool"):
        one.check(other.encode(pixels), decode=False)


@pytest.mark.parametrize("codec", [INTENSITY_CODEC, LABEL_CODEC])
@pytest.mark.parametrize("shards", [(16, 16), (32, 32)])
def test_a_document_tells_how_chunks_are_encoded(codec, shards):
    one = level((40, 40), (16, 16), shards)
    document = json.loads(json.dumps(array_document(one, "int16", "yx", codec, {})))
    parsed = parse_encoding(document)
    assert parsed is not None
    pixels = np.arange(256, dtype="i2").reshape(16, 16)
    assert parsed.encode(pixels) == encoding_of(one, "int16", codec).encode(pixels)
    assert (parsed.grid.shards, parsed.codec) == (shards, codec)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cname", "tomorrow"),
        ("clevel", 10),
        ("clevel", True),
        ("shuffle", 1),
        ("typesize", 4),
        ("blocksize", 64),
    ],
)
def test_a_chain_that_is_not_ours_is_left_to_the_server(name, value):
    document = array_document(level((40, 40), (16, 16), (16, 16)), "uint16", "yx", INTENSITY_CODEC, {})
    document["codecs"][1]["configuration"][name] = value
    assert parse_encoding(document) is None
    assert parse_encoding({}) is None
    document["codecs"] = [document["codecs"][0], {"name": "gzip", "configuration": {"level": 5}}]
    assert parse_encoding(document) is None
