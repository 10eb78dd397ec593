"""Pixels survive the encoding `dense` and the boxes of an upload, whatever their dtype and shape."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from larvik.array.spec import DTYPES
from larvik.errors import DataLossError, InvalidArgumentError
from larvik.wire.boxes import decode_boxes, encode_block, upload_schema
from larvik.wire.dense import decode_dense, dense, encode_dense

UINT8 = pa.uint8()
shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=9)


def travelled(schema: pa.Schema, batches: object) -> list[pa.RecordBatch]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:  # type: ignore[attr-defined]
            batch.validate(full=True)
            writer.write_batch(batch)
    return list(pa.ipc.open_stream(sink.getvalue()))


def read_back(batches: list[pa.RecordBatch], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    result = np.zeros(shape or (1,), dtype)
    for batch in batches:
        box, pixels = decode_dense(batch, shape, dtype)
        result[box.slices] = pixels
    return result.reshape(shape)


def blocks_of(layout, pixels):
    return (pixels[np.ix_(*region)] if region else pixels for region in layout.regions())


@given(st.data(), st.sampled_from(DTYPES), shapes)
def test_a_result_comes_back_bit_by_bit(data, dtype, shape):
    pixels = data.draw(arrays.arrays(dtype, shape))
    layout = dense(shape, [3] * len(shape), np.dtype(dtype))
    back = read_back(
        travelled(layout.schema, encode_dense(layout, blocks_of(layout, pixels))), shape, pixels.dtype
    )
    assert back.tobytes() == pixels.tobytes()


def test_a_result_is_a_column_of_tensors_that_any_reader_understands():
    pixels = np.arange(2 * 3 * 4, dtype="uint16").reshape(2, 3, 4)
    layout = dense(pixels.shape, (1, 3, 4), pixels.dtype, dims=("z", "y", "x"))
    (batch,) = travelled(layout.schema, encode_dense(layout, blocks_of(layout, pixels)))
    kind = batch.schema.field("data").type
    assert isinstance(kind, pa.FixedShapeTensorType)
    assert kind.dim_names == ["z", "y", "x"]
    assert isinstance(kind.storage_type, pa.FixedSizeListType)
    assert batch.schema.metadata[b"larvik.shape"] == b"2,3,4"
    assert batch.schema.metadata[b"larvik.dims"] == b"z,y,x"
    assert batch.schema.metadata[b"larvik.dtype"] == b"uint16"
    assert (batch.column("data").to_numpy_ndarray().reshape(pixels.shape) == pixels).all()


def test_batches_refer_to_the_memory_of_their_blocks():
    pixels = np.arange(64, dtype="uint8").reshape(8, 8)
    layout = dense(pixels.shape, (8, 8), pixels.dtype)
    (batch,) = encode_dense(layout, [pixels])
    assert batch.column("data").storage.values.buffers()[1].address == pixels.ctypes.data


def test_batches_are_at_most_4_mib():
    layout = dense((3, 1500, 1500), (1, 256, 256), np.dtype("uint16"))
    pixels = np.zeros(layout.shape, "uint16")
    sizes = [batch.nbytes for batch in encode_dense(layout, blocks_of(layout, pixels))]
    assert max(sizes) <= (4 << 20) + 10_000
    assert sum(sizes) < pixels.nbytes * 1.01


def other_batch(
    start: list[int], tensor: tuple[int, ...], values: int, kind: pa.DataType = UINT8
) -> pa.RecordBatch:
    storage = pa.FixedSizeListArray.from_arrays(pa.array([0] * values, kind), values)
    data = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(kind, tensor), storage)
    return pa.record_batch(
        [data, pa.array([start], pa.list_(pa.int64(), len(start)))], names=["data", "start"]
    )


@pytest.mark.parametrize(
    "batch",
    [
        other_batch([3, 0], (2, 2), 4),
        other_batch([-1, 0], (2, 2), 4),
        other_batch([0], (4,), 4),
        pa.record_batch([pa.array([1])], names=["data"]),
        pa.record_batch([pa.array([b"1"]), pa.array([[0, 0]])], names=["data", "start"]),
        other_batch([0, 0], (2, 2), 4).slice(0, 0),
    ],
)
def test_a_batch_that_does_not_fit_the_result_is_refused(batch):
    with pytest.raises(DataLossError):
        decode_dense(batch, (4, 4), np.dtype("uint8"))


@given(st.data(), st.sampled_from(DTYPES), arrays.array_shapes(max_dims=4, max_side=9))
def test_the_boxes_of_a_block_give_the_block(data, dtype, shape):
    block = data.draw(arrays.arrays(np.dtype(dtype).newbyteorder(data.draw(st.sampled_from("<>"))), shape))
    start = tuple(10 * n for n in range(len(shape)))
    result = np.zeros(shape, dtype)
    for batch in travelled(upload_schema(len(shape)), encode_block(start, block)):
        for box, pixels in decode_boxes(batch, np.dtype(dtype)):
            inside = tuple(
                slice(a - b, a - b + n) for a, b, n in zip(box.start, start, box.shape, strict=True)
            )
            result[inside] = pixels
    assert result.tobytes() == block.astype(dtype).tobytes()


def box_batch(data: bytes, start: list[int | None], shape: list[int | None]) -> pa.RecordBatch:
    schema = upload_schema(len(start))
    lengths = [
        pa.FixedSizeListArray.from_arrays(pa.array(values, pa.int64()), type=schema.field("start").type)
        for values in (start, shape)
    ]
    return pa.RecordBatch.from_arrays([pa.array([data], pa.large_binary()), *lengths], schema=schema)


@pytest.mark.parametrize(
    "batch",
    [
        box_batch(b"123", [0, 0], [2, 2]),
        box_batch(b"", [0, 0], [-2, -2]),
        box_batch(b"1234", [-1, 0], [2, 2]),
        box_batch(b"1234", [None, 0], [2, 2]),
        box_batch(b"1234", [0, 0], [None, 2]),
        box_batch(b"", [0, 0], [0, 2**62]),
        pa.record_batch([[1]], names=["data"]),
        pa.record_batch([["1234"], [[0, 0]], [[2, 2]]], names=["data", "start", "shape"]),
    ],
)
def test_a_hostile_box_is_refused(batch):
    with pytest.raises(InvalidArgumentError) as caught:
        list(decode_boxes(batch, np.dtype("uint8")))
    assert caught.value.reason == "BLOCK_INVALID"


def test_a_bool_of_an_upload_is_0_or_1_whatever_was_sent():
    ((_, pixels),) = decode_boxes(box_batch(b"\0\1\2\xff", [0, 0], [2, 2]), np.dtype("bool"))
    assert pixels.tobytes() == b"\0\1\1\1"
