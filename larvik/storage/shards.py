"""Shards of Zarr's ``sharding_indexed`` codec: many inner chunks and their index in one object."""

from __future__ import annotations

from collections.abc import Sequence

import google_crc32c
import numpy as np

from larvik.storage.codecs import CorruptChunkError

#: Offset and length that the index holds for a chunk that is not stored.
MISSING = (1 << 64) - 1


def join_shard(chunks: Sequence[bytes | None]) -> bytes:
    """Return the bytes of a shard: `chunks` in C order of the inner grid, None where not stored."""
    index = np.full((len(chunks), 2), MISSING, "<u8")
    offset = 0
    for number, chunk in enumerate(chunks):
        if chunk is not None:
            index[number] = offset, len(chunk)
            offset += len(chunk)
    tail = index.tobytes()
    checksum = int(google_crc32c.value(tail)).to_bytes(4, "little")
    return b"".join([*(chunk for chunk in chunks if chunk is not None), tail, checksum])


def index_bytes(chunk_count: int) -> int:
    """Return the bytes of the index of a shard of `chunk_count` inner chunks, checksum included."""
    return 16 * chunk_count + 4


def parse_index(data: bytes, chunk_count: int) -> np.ndarray:
    """Return offset and length of each inner chunk, shape ``(chunk_count, 2)``, uint64.

    Raises
    ------
    CorruptChunkError
        When the index is cut or its CRC-32C does not fit.
    """
    if len(data) != index_bytes(chunk_count):
        raise CorruptChunkError("the shard is shorter than its index")
    if google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise CorruptChunkError("the checksum of the shard index does not fit")
    return np.frombuffer(data, "<u8", chunk_count * 2).reshape(chunk_count, 2)
