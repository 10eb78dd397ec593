"""Stored chunks as Arrow record batches: the encoding `chunks` of flight.proto."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from larvik.errors import DataLossError

Index = tuple[int, ...]

#: Chunks of at least this size travel alone and are not copied: below it a message costs more than a copy.
ALONE_BYTES = 1 << 20
#: Size at which a batch of smaller ones is sent.
BATCH_BYTES = 2 << 20


def index_type(ndim: int) -> pa.DataType:
    """Return the type of a column of indexes in a grid of `ndim` dims."""
    return pa.list_(pa.field("item", pa.int64(), nullable=False), ndim)


def chunks_schema(ndim: int, metadata: Mapping[str, str]) -> pa.Schema:
    """Return the schema of the stored chunks of an array of `ndim` dims."""
    return pa.schema(
        [
            pa.field("chunk", index_type(ndim), nullable=False),
            pa.field("data", pa.large_binary()),
        ],
        metadata=dict(metadata),
    )


def encode_chunks(
    schema: pa.Schema, lists: Iterable[Sequence[tuple[Index, bytes | None]]]
) -> Iterator[pa.RecordBatch]:
    """Yield stored chunks as batches.

    Parameters
    ----------
    schema : pyarrow.Schema
        From `chunks_schema`.
    lists : iterable of sequence of (index, bytes)
        As `RegionReader.stored_chunks` gives them; None for a chunk that is not stored.

    Notes
    -----
    Zero-copy for chunks of `ALONE_BYTES` and more; smaller ones are joined to batches of `BATCH_BYTES`.
    """
    for found in lists:
        small: list[tuple[Index, bytes | None]] = []
        size = 0
        for index, data in found:
            if data is not None and len(data) >= ALONE_BYTES:
                yield _batch(schema, [index], [data], data)
                continue
            small.append((index, data))
            size += len(data or b"")
            if size >= BATCH_BYTES:
                yield _joined(schema, small)
                small, size = [], 0
        if small:
            yield _joined(schema, small)


def decode_chunks(batch: pa.RecordBatch, ndim: int) -> list[tuple[Index, memoryview | None]]:
    """Return index and stored bytes of every chunk of a batch; None for one that is not stored.

    The bytes are views of the batch, which they keep alive.

    Raises
    ------
    DataLossError
        ``BATCH_MALFORMED``, when the batch is not what the encoding promises.
    """
    try:
        chunk, data = batch.column("chunk"), batch.column("data")
        if data.type != pa.large_binary() or not isinstance(chunk.type, pa.FixedSizeListType):
            raise ValueError
        count = len(batch)
        numbers = chunk.flatten().to_numpy() if ndim else np.empty(0, np.int64)
        indexes = numbers.reshape(count, ndim).tolist()
        _, offsets, values = data.buffers()
        ends = np.frombuffer(offsets, np.int64, count + 1, data.offset * 8).tolist()
        view = memoryview(values) if values is not None else memoryview(b"")
        stored = [True] * count if not data.null_count else data.is_valid().to_pylist()
        if ends[0] < 0 or ends[-1] > len(view) or any(a > b for a, b in pairwise(ends)):
            raise ValueError
        return [
            (tuple(index), view[first:end] if is_stored else None)
            for index, (first, end), is_stored in zip(indexes, pairwise(ends), stored, strict=True)
        ]
    except (KeyError, AttributeError, ValueError, TypeError, pa.ArrowException):
        raise DataLossError(
            "The server sent a batch that holds no stored chunks: its Larvik and this one may be too far"
            " apart.",
            reason="BATCH_MALFORMED",
        ) from None


def _joined(schema: pa.Schema, chunks: Sequence[tuple[Index, bytes | None]]) -> pa.RecordBatch:
    indexes, datas = [index for index, _ in chunks], [data for _, data in chunks]
    return _batch(schema, indexes, datas, b"".join(data for data in datas if data is not None))


def _batch(
    schema: pa.Schema, indexes: Sequence[Index], datas: Sequence[bytes | None], joined: bytes
) -> pa.RecordBatch:
    lengths = [len(data) if data is not None else 0 for data in datas]
    offsets = np.zeros(len(datas) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    missing = [data is None for data in datas]
    valid = None
    if any(missing):
        valid = pa.py_buffer(np.packbits([not one for one in missing], bitorder="little").tobytes())
    numbers = np.array(indexes, np.int64).reshape(-1)
    column = pa.Array.from_buffers(
        schema.field("chunk").type, len(indexes), [None], children=[pa.array(numbers, pa.int64())]
    )
    data = pa.Array.from_buffers(
        pa.large_binary(), len(datas), [valid, pa.py_buffer(offsets), pa.py_buffer(joined)]
    )
    return pa.RecordBatch.from_arrays([column, data], schema=schema)
