from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import blosc, zstd

from larvik.storage.codecs import Codec, CorruptChunkError, decode_into, decode_part, default_codec

PIXELS = np.random.default_rng(1).poisson(100, (40, 50)).astype("u2")
ENCODED = {
    "blosc": default_codec("intensity").encode(PIXELS),
    "zstd": zstd.compress(PIXELS),
    "gzip": gzip.compress(PIXELS.tobytes()),
    None: PIXELS.tobytes(),
}


@pytest.mark.parametrize("compressor", ENCODED)
def test_a_chunk_comes_back_as_it_was(compressor):
    out = np.zeros(PIXELS.nbytes, "u1")
    decode_into(compressor, ENCODED[compressor], out)
    assert out.tobytes() == PIXELS.tobytes()


def test_zlib_is_read_as_gzip_is():
    out = np.zeros(PIXELS.nbytes, "u1")
    decode_into("gzip", zlib.compress(PIXELS.tobytes()), out)
    assert out.tobytes() == PIXELS.tobytes()


@pytest.mark.parametrize("cname", ["lz4", "zstd"])
@pytest.mark.parametrize("shuffle", ["noshuffle", "shuffle", "bitshuffle"])
@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", "f2", "f4", "u8", "f8"])
def test_every_dtype_and_shuffle_is_encoded(cname, shuffle, dtype):
    pixels = (PIXELS % 2).astype(dtype)
    out = np.zeros(pixels.nbytes, "u1")
    decode_into("blosc", Codec(cname, 3, shuffle).encode(pixels), out)
    assert out.tobytes() == pixels.tobytes()


@pytest.mark.parametrize("compressor", ENCODED)
@given(data=st.data())
def test_cut_bytes_are_corrupt(compressor, data):
    encoded = ENCODED[compressor]
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    with pytest.raises(CorruptChunkError):
        decode_into(compressor, cut, np.zeros(PIXELS.nbytes, "u1"))


@pytest.mark.parametrize("compressor", ["blosc", "zstd", "gzip"])
@given(data=st.data())
def test_altered_bytes_never_crash(compressor, data):
    altered = bytearray(ENCODED[compressor])
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CorruptChunkError):
        decode_into(compressor, bytes(altered), np.zeros(PIXELS.nbytes, "u1"))


@pytest.mark.parametrize(
    ("compressor", "bomb"),
    [("gzip", gzip.compress(bytes(50_000_000))), ("zstd", zstd.compress(bytes(50_000_000)))],
)
def test_a_bomb_is_corrupt_and_takes_no_memory(compressor, bomb):
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(CorruptChunkError):
        decode_into(compressor, bomb, np.zeros(1000, "u1"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


#: Chunks of several blocks, the last one short, as blosc makes them for each codec.
MANY = np.random.default_rng(2).poisson(100, (300, 997)).astype("u2")
PARTED = {
    "lz4": Codec("lz4", 5, "bitshuffle").encode(MANY),
    "lz4, bytes shuffled": Codec("lz4", 5, "shuffle").encode(MANY),
    "zstd": Codec("zstd", 1, "bitshuffle").encode(MANY),
    "zstd, not shuffled": Codec("zstd", 1, "noshuffle").encode(MANY),
    "blosclz": blosc.compress(MANY.reshape(-1), b"blosclz", 5, blosc.SHUFFLE, 1 << 15, 2),
    "zlib, in odd blocks": blosc.compress(MANY.reshape(-1), b"zlib", 1, blosc.SHUFFLE, 50_002, 2),
    "not compressed": Codec("lz4", 0, "noshuffle").encode(MANY),
    "one block": blosc.compress(MANY.reshape(-1), b"lz4", 5, blosc.SHUFFLE, 1 << 24, 2),
}


def part_is_right(compressor, data, start, stop):
    out = np.zeros(MANY.nbytes, "u1")
    decode_part(compressor, data, out, start, stop)
    return out[start:stop].tobytes() == MANY.tobytes()[start:stop]


@pytest.mark.parametrize("name", PARTED)
@given(data=st.data())
def test_a_part_of_a_blosc_chunk_is_decoded(name, data):
    start = data.draw(st.integers(0, MANY.nbytes - 1))
    stop = data.draw(st.integers(start + 1, MANY.nbytes))
    assert part_is_right("blosc", PARTED[name], start, stop)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f8"])
@pytest.mark.parametrize("cname", ["lz4", "zstd"])
def test_every_block_of_every_dtype_is_decoded_alone(cname, dtype):
    pixels = MANY.astype(dtype)
    encoded = Codec(cname, 5, "shuffle").encode(pixels)
    for start in range(0, pixels.nbytes, 10_007):
        out = np.zeros(pixels.nbytes, "u1")
        decode_part("blosc", encoded, out, start, min(start + 8, pixels.nbytes))
        assert out[start : start + 8].tobytes() == pixels.tobytes()[start : start + 8]


@pytest.mark.parametrize(
    ("compressor", "data"), [(None, MANY.tobytes()), ("zstd", zstd.compress(MANY)), ("blosc", PARTED["lz4"])]
)
def test_the_same_part_comes_from_every_compressor(compressor, data):
    assert part_is_right(compressor, memoryview(data), 100_001, 100_123)


def test_blocks_that_several_threads_stored_out_of_order_are_decoded():
    data = bytearray(PARTED["blosclz"])
    offsets = np.frombuffer(data, "<i4", -(-MANY.nbytes // (1 << 15)), 16)
    first, second, third = offsets[:3].tolist()
    blocks = bytes(data[first:second]), bytes(data[second:third])
    data[first:third] = blocks[1] + blocks[0]
    offsets[:2] = first + len(blocks[1]), first
    assert part_is_right("blosc", bytes(data), 0, 10)
    assert part_is_right("blosc", bytes(data), (1 << 15) + 5, (1 << 15) + 50)


def test_a_part_decodes_few_blocks():
    out = np.full(MANY.nbytes, 255, "u1")
    decode_part("blosc", PARTED["lz4"], out, 70_000, 70_100)
    decoded = out != 255
    assert decoded[64 << 10 : 128 << 10].all()
    assert not decoded[: 64 << 10].any()
    assert not decoded[128 << 10 :].any()


@pytest.mark.parametrize("name", PARTED)
@given(data=st.data())
def test_altered_bytes_never_crash_the_decoding_of_a_part(name, data):
    altered = bytearray(PARTED[name])
    for _ in range(data.draw(st.integers(1, 4))):
        # Header and offsets are what a part is found by.
        altered[data.draw(st.integers(0, 100) | st.integers(0, len(altered) - 1))] = data.draw(
            st.integers(0, 255)
        )
    start = data.draw(st.integers(0, MANY.nbytes - 1))
    out = np.zeros(MANY.nbytes, "u1")
    with suppress(CorruptChunkError):
        decode_part("blosc", bytes(altered[: data.draw(st.integers(0, len(altered)))]), out, start, start + 1)
