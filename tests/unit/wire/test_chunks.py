"""Stored chunks and addresses survive their encodings, and batches that lie are refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.errors import DataLossError
from larvik.wire import chunks
from larvik.wire.chunks import chunks_schema, decode_chunks, encode_chunks
from larvik.wire.refs import decode_refs, encode_refs, refs_schema

indexes = st.lists(st.integers(0, 1 << 40), min_size=3, max_size=3).map(tuple)
stored = st.lists(st.tuples(indexes, st.none() | st.binary(max_size=50)), max_size=9)


def travelled(schema: pa.Schema, batches: object) -> list[pa.RecordBatch]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:  # type: ignore[attr-defined]
            batch.validate(full=True)
            writer.write_batch(batch)
    return list(pa.ipc.open_stream(sink.getvalue()))


@given(st.lists(stored, max_size=4), st.sampled_from([1, 20, 1 << 20]), st.sampled_from([1, 40, 1 << 20]))
def test_chunks_come_back_in_order_whether_alone_or_joined(lists, alone, joined):
    schema = chunks_schema(3, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "ALONE_BYTES", alone)
        patch.setattr(chunks, "BATCH_BYTES", joined)
        batches = travelled(schema, encode_chunks(schema, lists))
    found = [
        (index, None if data is None else bytes(data))
        for batch in batches
        for index, data in decode_chunks(batch, 3)
    ]
    assert sorted(found, key=repr) == sorted((item for one in lists for item in one), key=repr)


def test_a_large_chunk_is_not_copied():
    data = bytes(chunks.ALONE_BYTES)
    schema = chunks_schema(1, {})
    (batch,) = encode_chunks(schema, [[((0,), data)]])
    assert batch.column("data").buffers()[2].address == pa.py_buffer(data).address


def test_the_chunk_of_an_array_without_dims_travels():
    schema = chunks_schema(0, {})
    (batch,) = travelled(schema, encode_chunks(schema, [[((), b"x")]]))
    assert [(index, bytes(data)) for index, data in decode_chunks(batch, 0)] == [((), b"x")]


def test_a_part_of_a_batch_is_decoded_as_that_part():
    schema = chunks_schema(1, {})
    (batch,) = encode_chunks(schema, [[((0,), b"a"), ((1,), None), ((2,), b"ccc")]])
    found = [(index, data and bytes(data)) for index, data in decode_chunks(batch.slice(1), 1)]
    assert found == [((1,), None), ((2,), b"ccc")]


def of(**columns: pa.Array) -> pa.RecordBatch:
    return pa.record_batch(columns)


@pytest.mark.parametrize(
    "batch",
    [
        of(chunk=pa.array([1])),
        of(chunk=pa.array([1]), data=pa.array([b"x"], pa.large_binary())),
        of(chunk=pa.array([[1]], pa.list_(pa.int64(), 1)), data=pa.array([b"x"])),
        of(chunk=pa.array([[1, 2]], pa.list_(pa.int64(), 2)), data=pa.array([b"x"], pa.large_binary())),
        of(
            chunk=pa.array([[1], [2]], pa.list_(pa.int64(), 1)),
            data=pa.Array.from_buffers(
                pa.large_binary(), 2, [None, pa.py_buffer(np.array([0, 9, 5])), pa.py_buffer(b"short")]
            ),
        ),
    ],
    ids=["no data", "no list", "small offsets", "other rank", "backwards"],
)
def test_a_batch_that_lies_is_refused(batch):
    with pytest.raises(DataLossError) as caught:
        decode_chunks(batch, 1)
    assert caught.value.reason == "BATCH_MALFORMED"


@given(st.lists(st.tuples(indexes, st.none() | st.text(max_size=9), st.integers(0, 1 << 33)), max_size=600))
def test_addresses_come_back(objects):
    schema = refs_schema(3, {})
    found = [row for batch in travelled(schema, encode_refs(schema, objects)) for row in decode_refs(batch)]
    assert found == objects


def test_a_batch_without_addresses_is_refused():
    with pytest.raises(DataLossError):
        decode_refs(of(shard=pa.array([[1]])))
