"""Encoded chunks as record batches."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.errors import InvalidArgumentError
from larvik.wire.encoded import decode_chunks, encode_chunks, encoded_schema

CHUNKS = st.integers(1, 5).flatmap(
    lambda ndim: st.lists(
        st.tuples(
            st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * ndim), st.binary(), st.integers(0, 2**32 - 1)
        ),
        min_size=1,
        max_size=5,
    )
)


@given(CHUNKS)
def test_chunks_come_back(chunks):
    batch = encode_chunks(chunks)
    batch.validate(full=True)
    assert list(decode_chunks(batch, len(chunks[0][0]))) == chunks
    assert list(decode_chunks(batch[1:], len(chunks[0][0]))) == chunks[1:]


def test_bytes_of_a_batch_are_copies():
    batch = encode_chunks([((0, 0), bytes(100), 1)])
    ((_, data, _),) = decode_chunks(batch, 2)
    assert isinstance(data, bytes)


def nullable(name: str) -> pa.RecordBatch:
    good = encode_chunks([((0, 0), b"x", 1)])
    arrays = [
        pa.array([None], field.type) if field.name == name else column
        for field, column in zip(good.schema, good.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=good.schema)


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        (pa.record_batch({"chunk": [[0, 0]], "data": [b"x"]}), "schema"),
        (encode_chunks([((0, 0, 0), b"x", 1)]), "schema"),
        (nullable("data"), "data"),
        (nullable("crc32c"), "crc32c"),
        (nullable("chunk"), "chunk"),
    ],
)
def test_other_columns_and_nulls_are_refused(batch, field):
    with pytest.raises(InvalidArgumentError) as caught:
        list(decode_chunks(batch, 2))
    assert (caught.value.reason, caught.value.metadata["field"]) == ("BLOCK_INVALID", field)


def test_a_batch_without_rows_has_no_chunks():
    empty = encoded_schema(3).empty_table().to_batches()
    assert [chunk for batch in empty for chunk in decode_chunks(batch, 3)] == []
