"""Pixels as Arrow record batches of tensors: the encoding `dense` of flight.proto."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from larvik.array.spec import DTYPES
from larvik.errors import DataLossError
from larvik.wire.results import described
from larvik.wire.tensors import Box, Tiling, offset, tile

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
        metadata=described(shape, dtype, dims, metadata),
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
            first = offset(box.start, slab.shape)
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
