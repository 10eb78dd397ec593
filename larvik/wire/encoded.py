"""Encoded chunks of an upload as Arrow record batches; see UploadPut in flight.proto."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from larvik.errors import InvalidArgumentError

Index = tuple[int, ...]

#: Bytes that small chunks are joined to, so that each batch is worth its message.
BATCH_BYTES = 1 << 20


def encoded_schema(ndim: int) -> pa.Schema:
    """Return the schema of the encoded chunks of an upload."""
    index = pa.list_(pa.field("item", pa.int64(), nullable=False), ndim)
    return pa.schema(
        [
            pa.field("chunk", index, nullable=False),
            pa.field("data", pa.large_binary(), nullable=False),
            pa.field("crc32c", pa.uint32(), nullable=False),
        ]
    )


def encode_chunks(chunks: Sequence[tuple[Index, bytes, int]]) -> pa.RecordBatch:
    """Return index, bytes and CRC-32C of chunks as one batch; zero-copy for a single chunk."""
    schema = encoded_schema(len(chunks[0][0]))
    ends = np.cumsum([0, *(len(data) for _, data, _ in chunks)], dtype=np.int64)
    joined = chunks[0][1] if len(chunks) == 1 else b"".join(data for _, data, _ in chunks)
    indices = pa.array(np.array([index for index, _, _ in chunks], np.int64).reshape(-1))
    return pa.RecordBatch.from_arrays(
        [
            pa.Array.from_buffers(schema.field("chunk").type, len(chunks), [None], children=[indices]),
            pa.Array.from_buffers(
                pa.large_binary(), len(chunks), [None, pa.py_buffer(ends), pa.py_buffer(joined)]
            ),
            pa.array([crc for _, _, crc in chunks], pa.uint32()),
        ],
        schema=schema,
    )


def decode_chunks(batch: pa.RecordBatch, ndim: int) -> Iterator[tuple[Index, bytes, int]]:
    """Yield index, bytes and CRC-32C of the chunks of one batch; the bytes are copies.

    The batch is valid Arrow: who receives one checks that first. Copies, because a chunk that is a view would
    keep the message that it came in, whose size its sender chose.

    Raises
    ------
    InvalidArgumentError
        ``BLOCK_INVALID``, for columns that are not those of an upload, or null; names the field.
    """
    if not batch.schema.remove_metadata().equals(encoded_schema(ndim)):
        raise _refused(f"the columns are not chunk (of {ndim} numbers), data and crc32c", "schema")
    for column, field in zip(batch.columns, batch.schema, strict=True):
        if column.null_count or (field.name == "chunk" and column.flatten().null_count):
            raise _refused(f"a chunk has no {field.name}", field.name)
    indices = np.asarray(batch.column("chunk").flatten()).reshape(batch.num_rows, ndim).tolist()
    sums = batch.column("crc32c").to_pylist()
    for index, data, crc in zip(indices, batch.column("data"), sums, strict=True):
        yield tuple(index), data.as_buffer().to_pybytes(), crc


def _refused(problem: str, field: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The upload stream is refused: {problem}.", reason="BLOCK_INVALID", field=field
    )
