"""Chunks of a new array that are encoded where their pixels are: cut and encoded there, checked here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numcodecs import blosc

from larvik.array.spec import Level
from larvik.errors import InvalidArgumentError, UnsupportedError
from larvik.storage.codecs import Codec, CorruptChunkError, decode_into
from larvik.storage.workers import scratch
from larvik.storage.zarr_metadata import parse_v3

Index = tuple[int, ...]

#: What blosc adds to a chunk that it cannot compress.
OVERHEAD_BYTES = 16

#: Formats of blosc that its compressors write (README_HEADER.rst of c-blosc).
_FORMATS = {"blosclz": 0, "lz4": 1, "lz4hc": 1, "snappy": 2, "zlib": 3, "zstd": 4}
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
_VERSION, _MEMCPYED = 2, 0x02


class ChunkGrid:
    """The inner chunks of one level, and the shards that hold them.

    Parameters
    ----------
    shape, chunks, shards : sequence of int
        Elements per dim; `chunks` divides `shards`.
    """

    def __init__(self, shape: Sequence[int], chunks: Sequence[int], shards: Sequence[int]) -> None:
        self.shape, self.chunks, self.shards = tuple(shape), tuple(chunks), tuple(shards)
        self.counts = _quotients(self.shape, self.chunks)
        self.shard_counts = _quotients(self.shape, self.shards)
        self.slots = _quotients(self.shards, self.chunks)
        self.slot_count = math.prod(self.slots)

    def has(self, chunk: Sequence[int]) -> bool:
        """Tell whether `chunk` is the index of a chunk inside the array."""
        return len(chunk) == len(self.counts) and all(
            0 <= number < count for number, count in zip(chunk, self.counts, strict=True)
        )

    def shard_of(self, chunk: Sequence[int]) -> Index:
        """Return the index of the shard that holds a chunk."""
        return tuple(number // slots for number, slots in zip(chunk, self.slots, strict=True))

    def slot_of(self, chunk: Sequence[int]) -> int:
        """Return the place of a chunk among those of its shard, in C order."""
        place = 0
        for number, slots in zip(chunk, self.slots, strict=True):
            place = place * slots + number % slots
        return place

    def number_of(self, shard: Sequence[int]) -> int:
        """Return the place of a shard among those of the level, in C order."""
        number = 0
        for index, count in zip(shard, self.shard_counts, strict=True):
            number = number * count + index
        return number

    def shard_at(self, number: int) -> Index:
        """Return the index of the shard with a number of `number_of`."""
        return tuple(int(index) for index in np.unravel_index(number, self.shard_counts))

    def chunk_count(self, shard: Sequence[int]) -> int:
        """Return how many chunks of a shard lie inside the array."""
        parts = zip(shard, self.slots, self.counts, strict=True)
        return math.prod(min(slots, count - index * slots) for index, slots, count in parts)

    def chunks_of(self, shard: Sequence[int]) -> Iterator[tuple[Index, tuple[slice, ...]]]:
        """Yield index and region of each chunk of a shard, in C order, clipped at the edges of the array."""
        parts = zip(shard, self.slots, self.counts, strict=True)
        for chunk in product(*(range(i * n, min((i + 1) * n, count)) for i, n, count in parts)):
            bounds = zip(chunk, self.chunks, self.shape, strict=True)
            yield chunk, tuple(slice(i * n, min((i + 1) * n, size)) for i, n, size in bounds)


@dataclass(frozen=True, slots=True)
class ChunkEncoding:
    """How the chunks of one level are stored.

    Attributes
    ----------
    grid : ChunkGrid
        Where they are.
    dtype : numpy.dtype
        Of the pixels; they are stored little endian.
    codec : Codec
        Compresses them.
    """

    grid: ChunkGrid
    dtype: np.dtype
    codec: Codec

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.grid.chunks) * self.dtype.itemsize

    @property
    def most_bytes(self) -> int:
        """Most bytes of a stored chunk."""
        return self.chunk_bytes + OVERHEAD_BYTES

    def encode(self, pixels: np.ndarray) -> bytes:
        """Return the stored bytes of a chunk; one clipped at the array's edge is padded with zeros."""
        little = self.dtype.newbyteorder("<")
        if pixels.shape == self.grid.chunks:
            return self.codec.encode(np.ascontiguousarray(pixels, dtype=little))
        whole = np.zeros(self.grid.chunks, little)
        whole[tuple(slice(size) for size in pixels.shape)] = pixels
        return self.codec.encode(whole)

    def check(self, data: bytes | memoryview, *, decode: bool) -> None:
        """Refuse what are not the stored bytes of a chunk.

        Parameters
        ----------
        data : bytes-like
            As somebody else encoded it.
        decode : bool
            Whether to decode it too. Without that, damage behind the header is not noticed.

        Raises
        ------
        CorruptChunkError
            Nothing is allocated by what a header claims: decoded, every chunk has `chunk_bytes`.
        """
        self._check_header(data)
        if not decode and self.dtype != np.bool_:
            return
        pixels = scratch(self.chunk_bytes)
        decode_into("blosc", data, pixels)
        # A byte other than 0 and 1 is not a bool that NumPy computes with.
        if self.dtype == np.bool_ and pixels.max() > 1:
            raise CorruptChunkError("a bool is neither 0 nor 1")

    def _check_header(self, data: bytes | memoryview) -> None:
        size = len(data)
        if not OVERHEAD_BYTES <= size <= self.most_bytes:
            raise CorruptChunkError(f"it has {size} bytes; a chunk has {OVERHEAD_BYTES} to {self.most_bytes}")
        version, _, flags, typesize = bytes(data[:4])
        decoded, block, stored = np.frombuffer(data, "<u4", 3, 4).tolist()
        if version != _VERSION:
            raise CorruptChunkError(f"its blosc header has version {version} instead of {_VERSION}")
        if typesize != self.dtype.itemsize:
            raise CorruptChunkError(
                f"its blosc header tells elements of {typesize} bytes; {self.dtype} has {self.dtype.itemsize}"
            )
        if (decoded, stored) != (self.chunk_bytes, size) or not 0 < block <= decoded:
            raise CorruptChunkError(
                f"its blosc header tells {decoded} bytes in blocks of {block}, stored in {stored}; it has"
                f" {size} bytes, and a chunk decodes to {self.chunk_bytes}"
            )
        if not flags & _MEMCPYED and flags >> 5 != _FORMATS.get(self.codec.cname):
            raise CorruptChunkError(f"it is not compressed by {self.codec.cname}")


def encoding_of(level: Level, dtype: str, codec: Codec) -> ChunkEncoding:
    """Return how the chunks of a new array's `level` are stored."""
    return ChunkEncoding(ChunkGrid(level.shape, level.chunks, level.shards), np.dtype(dtype), codec)


def parse_encoding(document: Mapping[str, Any]) -> ChunkEncoding | None:
    """Return how the chunks of a Zarr v3 array are stored, or None when they cannot be encoded here.

    That is so for every codec chain but little endian bytes and a compressor of blosc that is known.
    """
    try:
        metadata = parse_v3(document, "document")
    except (InvalidArgumentError, UnsupportedError):
        return None
    if metadata.compressor != "blosc" or metadata.byteorder != "<" or metadata.index_at_start:
        return None
    chain = document["codecs"]
    if metadata.is_sharded:
        chain = chain[0]["configuration"]["codecs"]
    codec = _codec(chain[-1].get("configuration"), np.dtype(metadata.dtype).itemsize)
    if codec is None:
        return None
    grid = ChunkGrid(metadata.shape, metadata.chunks, metadata.shards)
    return ChunkEncoding(grid, np.dtype(metadata.dtype), codec)


def _codec(configuration: Any, itemsize: int) -> Codec | None:
    """Return the compressor that the configuration of a blosc codec names, None for one that is not ours."""
    if not isinstance(configuration, Mapping):
        return None
    cname, clevel, shuffle = (configuration.get(name) for name in ("cname", "clevel", "shuffle"))
    is_known = cname in blosc.list_compressors() and cname in _FORMATS and shuffle in _SHUFFLES
    if not is_known or type(clevel) is not int or not 0 <= clevel <= 9:
        return None
    codec = Codec(str(cname), clevel, str(shuffle))
    return codec if codec.document(itemsize)["configuration"] == dict(configuration) else None


def _quotients(sizes: Sequence[int], steps: Sequence[int]) -> Index:
    return tuple(-(-size // step) for size, step in zip(sizes, steps, strict=True))
