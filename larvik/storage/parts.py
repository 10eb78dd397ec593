"""Crops from a near store: reading and decoding the part of a chunk that is needed, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from larvik.storage.base import ByteRange, Store
from larvik.storage.blosc_frames import Blocks
from larvik.storage.decoder import ChunkDecoder
from larvik.storage.locator import Located

#: First bytes of a chunk that are read to find its blocks: the offsets of 124.
HEAD_BYTES = 512


def place_parts(
    store: Store, decoder: ChunkDecoder, batch: Sequence[Located], out: np.ndarray
) -> list[Located]:
    """Put what can be had from a part of a chunk into `out`; return what has to be read whole.

    Raises
    ------
    DataLossError
        ``CHUNK_CORRUPT``; damage to bytes that are not read is not noticed.
    """
    rest: list[Located] = []
    parts: list[Located] = []
    for located in batch:
        (rest if located.part is None or located.request is None else parts).append(located)
    found: list[tuple[Located, Blocks]] = []
    for located, head in zip(parts, _heads(store, decoder, parts), strict=True):
        blocks = _blocks(decoder, located, head)
        if blocks is None:
            rest.append(located)
        else:
            found.append((located, blocks))
    ranges = [_within(located, blocks.offset, blocks.length) for located, blocks in found]
    for (located, blocks), data in zip(found, store.read_many(ranges) if ranges else (), strict=True):
        decoder.place_blocks(located.piece, blocks, data or b"", out)
    return rest


def _heads(store: Store, decoder: ChunkDecoder, located: Sequence[Located]) -> Sequence[bytes | None]:
    """Return the first bytes of each chunk; none are needed of raw ones."""
    if not located or decoder.metadata.compressor is None:
        return [b""] * len(located)
    return store.read_many([_within(one, 0, HEAD_BYTES) for one in located])


def _blocks(decoder: ChunkDecoder, located: Located, head: bytes | None) -> Blocks | None:
    assert located.request is not None
    assert located.part is not None
    if head is None:
        return None
    stored = located.request.length if decoder.metadata.is_sharded else None
    return decoder.blocks(located.piece, head, stored, located.part)


def _within(located: Located, offset: int, length: int) -> ByteRange:
    """Return a range of the stored bytes of a chunk, cut at their end."""
    assert located.request is not None
    assert located.request.length is not None
    length = max(0, min(length, located.request.length - offset))
    return ByteRange(located.request.key, located.request.start + offset, length)
