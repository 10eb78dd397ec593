"""Pixels as Arrow record batches: the encoding `dense` of flight.proto, and the boxes of an upload."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from larvik.array.spec import DTYPES
from larvik.errors import DataLossError, InvalidArgumentError
from larvik.wire.tensors import BATCH_BYTES, Box, Tiling, split, tile

Shape = tuple[int, ...]

_ARROW = {name: pa.uint8() if name == "bool" else pa.from_numpy_dtype(np.dtype(name)) for name in DTYPES}


@dataclass(frozen=True, slots=True)
class Dense:
    """How one result travels in the encoding `dense`.

    Attributes
    ----------
    shape, dtype
        Of the result; a dtype of `DTYPES`.
    tiling : Tiling
        How it is cut; of shape ``(1,)`` for a result without dims.
    schema : pyarrow.Schema
        Columns ``data`` and ``start``, and metadata.
    """

    shape: Shape
    dtype: np.dtype
    tiling: Tiling
    schema: pa.Schema

    def regions(self) -> Iterator[tuple[range, ...]]:
        """Yield the regions of the result to evaluate, in the order in which they travel."""
        for slab in self.tiling.slabs():
            yield tuple(range(part.start, part.stop) for part in slab.slices) if self.shape else ()


def dense(
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: np.dtype,
    *,
    dims: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    fits: Callable[[Shape], bool] | None = None,
) -> Dense:
    """Return how a result of `shape` and `dtype`, best evaluated in blocks of `chunks`, travels.

    Parameters
    ----------
    dims : sequence of str
        Names of the dims, where the result has the dims of a stored array.
    metadata : mapping
        More metadata of the schema.
    fits : callable
        Says whether a block of a shape can be evaluated at once.
    """
    whole, blocks = (tuple(shape), tuple(chunks)) if shape else ((1,), (1,))
    tiling = tile(whole, blocks, dtype.itemsize, fits if fits is not None and shape else lambda shape: True)
    names = list(dims) if len(dims) == len(whole) else None
    tensor = pa.fixed_shape_tensor(_ARROW[dtype.name], tiling.tensor, dim_names=names)
    schema = pa.schema(
        [
            pa.field("data", tensor, nullable=False),
            pa.field(
                "start", pa.list_(pa.field("item", pa.int64(), nullable=False), len(whole)), nullable=False
            ),
        ],
        metadata={
            "larvik.dims": ",".join(dims),
            "larvik.shape": ",".join(map(str, shape)),
            "larvik.dtype": dtype.name,
            **(metadata or {}),
        },
    )
    return Dense(tuple(shape), dtype, tiling, schema)


def encode_dense(layout: Dense, blocks: Iterable[np.ndarray]) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a result.

    Parameters
    ----------
    layout : Dense
        How the result travels.
    blocks : iterable of numpy.ndarray
        The pixels of `Dense.regions`, in their order, any memory layout.

    Notes
    -----
    Zero-copy: batches refer to the memory of the blocks, when these are C-contiguous. One block is in memory
    at a time, and those that the transport still holds.
    """
    itemsize = layout.dtype.itemsize
    for slab, pixels in zip(layout.tiling.slabs(), blocks, strict=True):
        flat = np.ascontiguousarray(pixels, dtype=layout.dtype).reshape(-1)
        for box in layout.tiling.batches(slab, itemsize):
            first = _offset(box.start, slab.shape)
            count = math.prod(box.shape)
            absolute = Box(tuple(a + b for a, b in zip(slab.start, box.start, strict=True)), box.shape)
            yield _batch(layout, absolute, flat[first : first + count])


def _batch(layout: Dense, box: Box, pixels: np.ndarray) -> pa.RecordBatch:
    starts = np.array(list(layout.tiling.starts(box)), dtype=np.int64)
    rows = len(starts)
    data_type, start_type = layout.schema.field("data").type, layout.schema.field("start").type
    elements = pa.Array.from_buffers(data_type.value_type, pixels.size, [None, pa.py_buffer(pixels)])
    storage = pa.Array.from_buffers(data_type.storage_type, rows, [None], children=[elements])
    start = pa.Array.from_buffers(
        start_type, rows, [None], children=[pa.array(starts.reshape(-1), type=pa.int64())]
    )
    return pa.RecordBatch.from_arrays(
        [pa.ExtensionArray.from_storage(data_type, storage), start], schema=layout.schema
    )


def decode_dense(batch: pa.RecordBatch, shape: Shape, dtype: np.dtype) -> tuple[Box, np.ndarray]:
    """Return the box that a batch fills and its pixels.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        One batch of the encoding `dense`.
    shape : tuple of int
        Elements per dim of the result; ``()`` for a result without dims.
    dtype : numpy.dtype
        Of the result.

    Returns
    -------
    Box, numpy.ndarray
        The pixels are a view of the batch and may be misaligned: copy them, never hand them out.

    Raises
    ------
    DataLossError
        ``BATCH_MALFORMED``, when the batch is not what its schema or the result promises.
    """
    try:
        data, start = batch.column("data"), batch.column("start")
        tensor = tuple(data.type.shape)
        starts = np.asarray(start.values).reshape(len(start), len(tensor))[[0, -1]]
        pixels = np.frombuffer(
            data.storage.values.buffers()[1],
            dtype=dtype,
            count=len(data) * math.prod(tensor),
            offset=data.storage.offset * math.prod(tensor) * dtype.itemsize,
        )
        first = tuple(int(position) for position in starts[0])
        extent = tuple(int(b - a) + step for a, b, step in zip(starts[0], starts[1], tensor, strict=True))
        whole = shape or (1,)
        inside = all(a >= 0 and a + n <= size for a, n, size in zip(first, extent, whole, strict=True))
        if not inside or math.prod(extent) != pixels.size:
            raise ValueError
    except (KeyError, AttributeError, IndexError, ValueError, pa.ArrowException):
        raise DataLossError(
            "The server sent a batch that does not fit the result: its Larvik and this one may be too far"
            " apart.",
            reason="BATCH_MALFORMED",
        ) from None
    return Box(first, extent), pixels.reshape(extent)


def _offset(start: Shape, shape: Shape) -> int:
    offset = 0
    for position, length in zip(start, shape, strict=True):
        offset = offset * length + position
    return offset


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
        first, count = _offset(box.start, block.shape), math.prod(box.shape)
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
