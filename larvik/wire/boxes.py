"""Pixels as Arrow record batches of boxes: the blocks of an upload."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from larvik.errors import InvalidArgumentError
from larvik.wire.tensors import BATCH_BYTES, Box, offset, split

Shape = tuple[int, ...]


def upload_schema(ndim: int) -> pa.Schema:
    """Return the schema of the boxes of an upload; see UploadPut in flight.proto."""
    lengths = pa.list_(pa.field("item", pa.int64(), nullable=False), ndim)
    return pa.schema(
        [
            pa.field("data", pa.large_binary(), nullable=False),
            pa.field("start", lengths, nullable=False),
            pa.field("shape", lengths, nullable=False),
        ]
    )


def encode_block(start: Shape, block: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Yield a block of an upload as boxes of 4 MiB; zero-copy for C-contiguous little-endian blocks."""
    contiguous = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).reshape(block.shape)
    flat = contiguous.reshape(-1)
    schema = upload_schema(block.ndim)
    for box in split(block.shape, (1,) * block.ndim, max(1, BATCH_BYTES // block.itemsize)):
        first, count = offset(box.start, block.shape), math.prod(box.shape)
        data = pa.py_buffer(flat[first : first + count])
        offsets = pa.py_buffer(np.array([0, data.size], dtype=np.int64))
        position = [[a + b for a, b in zip(start, box.start, strict=True)]]
        yield pa.RecordBatch.from_arrays(
            [
                pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data]),
                pa.array(position, type=schema.field("start").type),
                pa.array([list(box.shape)], type=schema.field("shape").type),
            ],
            schema=schema,
        )


def decode_boxes(batch: pa.RecordBatch, dtype: np.dtype) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield the boxes of one batch of an upload; the pixels are views of the batch, except those of bool.

    The batch is valid Arrow: who receives one checks that first, because its offsets are believed here.

    Raises
    ------
    InvalidArgumentError
        ``BLOCK_INVALID``, for columns, lengths or sizes that do not fit; names the field.
    """
    if not batch.schema.remove_metadata().equals(upload_schema(_rank(batch.schema))):
        raise _refused("the columns are not those of an upload: data, start, shape", "schema")
    for row in range(batch.num_rows):
        start, shape = batch.column("start")[row].as_py(), batch.column("shape")[row].as_py()
        data = batch.column("data")[row].as_buffer()
        if data is None or not (_are_at_least(0, start) and _are_at_least(1, shape)):
            raise _refused("a box lacks data, or has a start or shape that is missing or too small", "start")
        if data.size != math.prod(shape) * dtype.itemsize:
            raise _refused(f"a box of shape {shape} has {data.size} bytes of {dtype}", "data")
        yield Box(tuple(start), tuple(shape)), _elements(data, dtype).reshape(shape)


def _are_at_least(least: int, values: Sequence[int | None] | None) -> bool:
    return values is not None and all(value is not None and value >= least for value in values)


def _elements(data: pa.Buffer, dtype: np.dtype) -> np.ndarray:
    if dtype.name == "bool":
        # A byte other than 0 and 1 is not a bool that NumPy computes with.
        return np.frombuffer(data, np.uint8).astype(bool)
    return np.frombuffer(data, dtype.newbyteorder("<"))


def _rank(schema: pa.Schema) -> int:
    position = schema.get_field_index("start")
    kind = schema.field(position).type if position >= 0 else None
    return kind.list_size if isinstance(kind, pa.FixedSizeListType) else 0


def _refused(problem: str, field: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The upload stream is refused: {problem}.", reason="BLOCK_INVALID", field=field
    )
