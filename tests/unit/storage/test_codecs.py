from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import zstd

from larvik.storage.codecs import Codec, CorruptChunkError, decode_into, default_codec

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
