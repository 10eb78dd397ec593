"""Blocks of an upload as record batches: encoded here, or dense where the server's codecs are not known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from larvik.array.spec import ArraySpec
from larvik.errors import InvalidArgumentError
from larvik.storage.encoded import ChunkEncoding, Index, parse_encoding
from larvik.storage.workers import map_threads
from larvik.wire.boxes import encode_block, upload_schema
from larvik.wire.encoded import BATCH_BYTES, encode_chunks, encoded_schema

if TYPE_CHECKING:
    import pyarrow as pa

Blocks = Iterable[tuple[Sequence[int], np.ndarray]]


def encoding_for(document: str, spec: ArraySpec) -> ChunkEncoding | None:
    """Return how chunks of an upload are encoded, None when they have to travel dense.

    Parameters
    ----------
    document : str
        Of the session, JSON; empty when the server tells none.
    spec : ArraySpec
        Of the session.
    """
    encoding = parse_encoding(json.loads(document)) if document else None
    if encoding is None or encoding.grid.shape != spec.shape or encoding.dtype != np.dtype(spec.dtype):
        return None
    return encoding


def schema_of(ndim: int, encoding: ChunkEncoding | None) -> pa.Schema:
    """Return the schema of the stream: encoded chunks, or boxes without an encoding."""
    return upload_schema(ndim) if encoding is None else encoded_schema(ndim)


def dense_batches(spec: ArraySpec, blocks: Blocks) -> Iterator[pa.RecordBatch]:
    """Yield blocks as boxes of 4 MiB."""
    for start, block in blocks:
        check_block(spec, start, block)
        yield from encode_block(tuple(start), block)


def encoded_batches(spec: ArraySpec, encoding: ChunkEncoding, blocks: Blocks) -> Iterator[pa.RecordBatch]:
    """Yield the chunks of blocks, encoded in threads a few ahead, small ones joined to batches of 1 MiB."""
    waiting: list[tuple[Index, bytes, int]] = []
    size = 0

    def encode(chunk: tuple[Index, np.ndarray]) -> tuple[Index, bytes, int]:
        index, pixels = chunk
        data = encoding.encode(pixels)
        return index, data, google_crc32c.value(data)

    for encoded in map_threads(encode, _chunks(spec, encoding, blocks)):
        if waiting and size + len(encoded[1]) > BATCH_BYTES:
            yield encode_chunks(waiting)
            waiting, size = [], 0
        waiting.append(encoded)
        size += len(encoded[1])
    if waiting:
        yield encode_chunks(waiting)


def _chunks(spec: ArraySpec, encoding: ChunkEncoding, blocks: Blocks) -> Iterator[tuple[Index, np.ndarray]]:
    """Yield index and pixels of every chunk of `blocks`; the pixels are views."""
    grid = encoding.grid
    for start, block in blocks:
        check_block(spec, start, block)
        shard = tuple(a // n for a, n in zip(start, grid.shards, strict=True))
        ends = zip(start, grid.shards, grid.shape, strict=True)
        whole = tuple(min(n, size - a) for a, n, size in ends)
        if block.shape != whole or any(a % n for a, n in zip(start, grid.shards, strict=True)):
            raise InvalidArgumentError(
                f"A block of shape {block.shape} at {tuple(start)} is not one of the session's: they are"
                f" {grid.shards}, clipped to the array's {grid.shape}.",
                reason="BLOCK_INVALID",
                field="start",
            )
        for index, region in grid.chunks_of(shard):
            yield (
                index,
                block[tuple(slice(p.start - a, p.stop - a) for p, a in zip(region, start, strict=True))],
            )


def check_block(spec: ArraySpec, start: Sequence[int], block: np.ndarray) -> None:
    """Refuse a block that the server would refuse, before its bytes travel.

    Raises
    ------
    InvalidArgumentError
        ``DTYPE_MISMATCH``.
    """
    if (
        block.dtype.newbyteorder("=") != spec.dtype
        or len(start) != len(spec.shape)
        or block.ndim != len(spec.shape)
    ):
        raise InvalidArgumentError(
            f"The block is {block.dtype} with {block.ndim} dims; the array is {spec.dtype} with"
            f" {len(spec.shape)}.",
            reason="DTYPE_MISMATCH",
            field="block",
        )
