"""Every codec that numcodecs and Zarr v3 define, written by zarr-python and read here: equal pixels."""

from __future__ import annotations

import numcodecs
import numpy as np
import pytest
import zarr
import zarr.registry
from zarr import codecs as v3
from zarr.codecs import numcodecs as zarr3

from larvik.array.spec import DTYPES
from larvik.storage import open_reader, open_store
from larvik.storage.assembly import Assembly
from larvik.testing.arrays import random_array

from .layouts import level_of

# Codecs of numcodecs.zarr3 say with every use that Zarr v3 has not specified them.
pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3:UserWarning")

FLOATS = [dtype for dtype in DTYPES if dtype.startswith("float")]
INTEGERS = [dtype for dtype in DTYPES if "int" in dtype]
NUMBERS = [*INTEGERS, *FLOATS]
#: Floats that bit tricks of codecs know.
WIDE = ["float32", "float64"]

#: Codec of numcodecs by id: its configuration for a dtype, the dtypes it takes, and whether it is a filter.
NUMCODECS = {
    "adler32": (lambda dtype: {}, DTYPES, False),
    "astype": (lambda dtype: {"encode_dtype": "<f8", "decode_dtype": dtype}, WIDE, True),
    "base64": (lambda dtype: {}, DTYPES, False),
    "bitround": (lambda dtype: {"keepbits": 5}, FLOATS, True),
    "blosc": (lambda dtype: {"cname": "zlib", "shuffle": 0}, DTYPES, False),
    "bz2": (lambda dtype: {}, DTYPES, False),
    "crc32": (lambda dtype: {}, DTYPES, False),
    "crc32c": (lambda dtype: {}, DTYPES, False),
    "delta": (lambda dtype: {"dtype": dtype}, INTEGERS, True),
    "fixedscaleoffset": (
        lambda dtype: {"offset": 1, "scale": 2, "dtype": dtype, "astype": "<i8"}, ["uint8", "int16"], True,
    ),
    "fletcher32": (lambda dtype: {}, DTYPES, False),
    "gzip": (lambda dtype: {}, DTYPES, False),
    "jenkins_lookup3": (lambda dtype: {}, DTYPES, False),
    "lz4": (lambda dtype: {}, DTYPES, False),
    "lzma": (lambda dtype: {}, DTYPES, False),
    "packbits": (lambda dtype: {}, ["bool"], True),
    "quantize": (lambda dtype: {"digits": 2, "dtype": dtype}, FLOATS, True),
    "shuffle": (lambda dtype: {"elementsize": np.dtype(dtype).itemsize}, DTYPES, True),
    "zlib": (lambda dtype: {}, DTYPES, False),
    "zstd": (lambda dtype: {"level": 4, "checksum": True}, DTYPES, False),
}  # fmt: skip
#: What numcodecs defines and zarr-python cannot write for pixels here, and why.
NOT_FOR_PIXELS = {
    "categorize": "takes strings, which arrays of pixels are not",
    "json2": "gives objects, which arrays of numbers cannot hold",
    "msgpack2": "gives objects, which arrays of numbers cannot hold",
    "pcodec": "needs the package pcodec, which Larvik does not install",
    "pickle": "gives objects, and runs what it reads",
    "vlen-array": "takes objects",
    "vlen-bytes": "takes objects",
    "vlen-utf8": "takes strings",
    "zfpy": "needs the package zfpy, which Larvik does not install",
    "n5_wrapper": "belongs to stores of N5, which zarr-python 3 does not have",
}

#: Codec chain of Zarr v3 by the name of the codec it is about: arguments of `create_array` for a dtype.
ZARR_3 = {
    "blosc": (lambda dtype: {"compressors": v3.BloscCodec(cname="lz4hc", shuffle="noshuffle")}, DTYPES),
    "bytes": (lambda dtype: {"serializer": v3.BytesCodec(endian="big"), "compressors": None}, DTYPES),
    "crc32c": (lambda dtype: {"compressors": [v3.GzipCodec(), v3.Crc32cCodec()]}, DTYPES),
    "gzip": (lambda dtype: {"compressors": v3.GzipCodec(level=2)}, DTYPES),
    "transpose": (lambda dtype: {"filters": v3.TransposeCodec(order=(1, 0))}, DTYPES),
    "zstd": (lambda dtype: {"compressors": v3.ZstdCodec(level=3, checksum=True)}, DTYPES),
    "numcodecs.packbits": (lambda dtype: {"filters": zarr3.PackBits()}, ["bool"]),
    "numcodecs.astype": (
        lambda dtype: {"filters": zarr3.AsType(encode_dtype="<f8", decode_dtype=np.dtype(dtype).str)}, WIDE,
    ),
    "numcodecs.bitround": (lambda dtype: {"filters": zarr3.BitRound(keepbits=5)}, FLOATS),
    "numcodecs.delta": (lambda dtype: {"filters": zarr3.Delta(dtype=dtype)}, INTEGERS),
    "numcodecs.fixedscaleoffset": (
        lambda dtype: {"filters": zarr3.FixedScaleOffset(offset=1, scale=2, dtype=dtype, astype="<i8")},
        ["uint16", "int32"],
    ),
    "numcodecs.quantize": (lambda dtype: {"filters": zarr3.Quantize(digits=2, dtype=dtype)}, FLOATS),
    "numcodecs.shuffle": (
        lambda dtype: {"compressors": zarr3.Shuffle(elementsize=np.dtype(dtype).itemsize)}, DTYPES,
    ),
    **{
        f"numcodecs.{name}": (lambda dtype, codec=codec: {"compressors": codec()}, DTYPES)
        for name, codec in {
            "adler32": zarr3.Adler32, "blosc": zarr3.Blosc, "bz2": zarr3.BZ2, "crc32": zarr3.CRC32,
            "crc32c": zarr3.CRC32C, "fletcher32": zarr3.Fletcher32, "gzip": zarr3.GZip,
            "jenkins_lookup3": zarr3.JenkinsLookup3, "lz4": zarr3.LZ4, "lzma": zarr3.LZMA,
            "zlib": zarr3.Zlib, "zstd": zarr3.Zstd,
        }.items()
    },
}  # fmt: skip
ALSO_IN_ZARR_3 = {
    "endian": "an older name of bytes",
    "sharding_indexed": "every chain here is written in shards too",
    "numcodecs.pcodec": "needs the package pcodec, which Larvik does not install",
    "numcodecs.zfpy": "needs the package zfpy, which Larvik does not install",
    "vlen-bytes": "takes objects",
    "vlen-utf8": "takes strings",
}


def test_every_codec_of_numcodecs_is_here_or_has_a_reason_not_to_be():
    registered = numcodecs.registry.codec_registry.items()
    ids = {name for name, found in registered if found.__module__.startswith("numcodecs.")}
    assert ids - set(NUMCODECS) - set(NOT_FOR_PIXELS) == set()


def test_every_codec_of_zarr_3_is_here_or_has_a_reason_not_to_be():
    registries = vars(zarr.registry)["__codec_registries"]
    # Other packages register codecs of their own, and a name that was looked for in vain stays.
    names = {
        name
        for name, known in registries.items()
        if any(found.startswith(("zarr.", "numcodecs.")) for found in known)
    }
    assert len(names) >= 25
    assert names - set(ZARR_3) - set(ALSO_IN_ZARR_3) == set()


def pixels(dtype):
    """Return values that every codec of its dtype can take."""
    array = random_array((7, 11), dtype)
    return np.round(array / 1000).astype(dtype) if dtype in FLOATS else array


def check(folder, array, chunks):
    """Write what zarr-python reads as our engine reads it: whole, cropped, and as stored chunks."""
    expected = array[...]
    reader = open_reader(open_store(str(folder)), "", level_of(array, chunks), expected.dtype.name)
    assert np.array_equal(reader.read((slice(None),) * 2), expected)
    part = (slice(1, 6, 2), slice(2, 10))
    assert np.array_equal(reader.read(part), expected[part])
    out = np.empty_like(expected[part])
    with Assembly(reader.metadata, part, out, "a") as assembly:
        for found in reader.stored_chunks(part):
            for index, data in found:
                assembly.add(index, data)
        assembly.finish()
    assert np.array_equal(out, expected[part])
    return reader


def created(folder, dtype, **options):
    array = zarr.create_array(folder / "a", shape=(7, 11), dtype=dtype, overwrite=True, **options)
    array[...] = pixels(dtype)
    return array


@pytest.mark.parametrize("codec", NUMCODECS)
def test_a_codec_of_numcodecs_is_read(tmp_path, codec):
    configuration, dtypes, is_filter = NUMCODECS[codec]
    for dtype in dtypes:
        made = numcodecs.get_codec({"id": codec, **configuration(np.dtype(dtype).str)})
        options = {"filters": [made], "compressors": None} if is_filter else {"compressors": made}
        check(tmp_path, created(tmp_path, dtype, chunks=(3, 4), zarr_format=2, **options), (3, 4))


@pytest.mark.parametrize("sharded", [False, True], ids=["chunks", "shards"])
@pytest.mark.parametrize("codec", ZARR_3)
def test_a_codec_of_zarr_3_is_read(tmp_path, codec, sharded):
    options, dtypes = ZARR_3[codec]
    shards = {"shards": (6, 8)} if sharded else {}
    for dtype in dtypes:
        reader = check(tmp_path, created(tmp_path, dtype, chunks=(3, 4), **shards, **options(dtype)), (3, 4))
        assert reader.chunks == (3, 4)


def test_two_filters_and_a_compressor_are_read(tmp_path):
    filters = [numcodecs.Delta("<i4"), numcodecs.Shuffle(4)]
    array = created(
        tmp_path, "int32", chunks=(3, 4), zarr_format=2, filters=filters, compressors=numcodecs.BZ2()
    )
    check(tmp_path, array, (3, 4))


def test_shards_in_shards_are_read_whole(tmp_path):
    inner = v3.ShardingCodec(chunk_shape=(3, 2), codecs=[v3.BytesCodec()])
    array = created(
        tmp_path, "uint16", chunks=(6, 8),
        serializer=v3.ShardingCodec(chunk_shape=(3, 4), codecs=[inner]), compressors=None,
    )  # fmt: skip
    check(tmp_path, array, (6, 8))


def test_an_index_that_we_do_not_read_is_left_to_zarr_python(tmp_path):
    sharding = v3.ShardingCodec(chunk_shape=(3, 4), codecs=[v3.BytesCodec()], index_codecs=[v3.BytesCodec()])
    array = created(tmp_path, "uint16", chunks=(6, 8), serializer=sharding, compressors=None)
    reader = check(tmp_path, array, (6, 8))
    assert reader.chunks == (6, 8)
