"""Field values keep what they are on the wire; what no field holds is refused by name."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from larvik.errors import InvalidArgumentError
from larvik.proto.v1 import query_pb2
from larvik.wire.values import MAX_ITEMS, decode_row, decode_value, encode_row, encode_value

text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=50)
moments = st.datetimes(timezones=st.just(UTC))
scalars = (
    text | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
).filter(lambda value: isinstance(value, list | dict))


def travelled(value: object) -> object:
    return decode_value(query_pb2.Value.FromString(encode_value(value).SerializeToString()))


@given(
    st.none()
    | scalars
    | moments
    | st.binary(max_size=50)
    | json_values
    | st.lists(scalars, max_size=5).map(tuple)
)
def test_every_value_comes_back_as_it_was(value):
    back = travelled(value)
    assert back == value
    assert type(back) is type(value)


def test_numbers_of_numpy_travel_as_python_numbers():
    assert travelled(np.int16(-3)) == -3
    assert travelled(np.float32(0.5)) == 0.5
    assert travelled(np.bool_(True)) is True


def test_a_moment_of_any_zone_travels_as_utc():
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert travelled(moment) == moment
    assert travelled(moment).tzinfo is UTC  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        "a\0b",
        "\ud800",
        datetime(2026, 1, 1),
        object(),
        [math.nan],
        {"a": object()},
        {1j},
        10**5000,
        Fraction(10**400),
        np.array([1, 2]),
        np.array([1.0, 2.0]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_field_holds_is_refused_before_it_travels(value):
    with pytest.raises(InvalidArgumentError) as caught:
        encode_value(value, field="Sample.name")
    assert caught.value.reason == "FIELD_INVALID"
    assert caught.value.metadata["field"].startswith("Sample.name")


def nested(depth: int) -> query_pb2.Value:
    value = query_pb2.Value(int64_value=1)
    for _ in range(depth):
        value = query_pb2.Value(list_value=query_pb2.ValueList(values=[value]))
    return value


@pytest.mark.parametrize(
    "message",
    [
        query_pb2.Value(float64_value=math.nan),
        query_pb2.Value(float64_value=-math.inf),
        query_pb2.Value(string_value="a\0b"),
        query_pb2.Value(string_value="x" * (17 << 20)),
        query_pb2.Value(binary_value=b"x" * (17 << 20)),
        query_pb2.Value(json_value="{"),
        query_pb2.Value(json_value="NaN"),
        query_pb2.Value(json_value='{"a": 1e999}'),
        query_pb2.Value(json_value='"\\u0000"'),
        query_pb2.Value(json_value="[" * 100_000),
        query_pb2.Value(timestamp_value=Timestamp(seconds=2**62)),
        query_pb2.Value(timestamp_value=Timestamp(seconds=0, nanos=-1)),
        query_pb2.Value(query_value=query_pb2.Query(model="Sample")),
        query_pb2.Value(list_value=query_pb2.ValueList(values=[query_pb2.Value()])),
        query_pb2.Value(
            list_value=query_pb2.ValueList(values=[query_pb2.Value(bool_value=True)] * (MAX_ITEMS + 1))
        ),
        nested(2),
    ],
    ids=lambda message: str(message.WhichOneof("kind")),
)
def test_a_hostile_value_is_refused_by_the_name_of_its_field(message):
    with pytest.raises(InvalidArgumentError) as caught:
        decode_value(message, field="name")
    assert caught.value.reason == "FIELD_INVALID"
    assert caught.value.metadata["field"].startswith("name")
    assert len(caught.value.message) < 500


def test_rows_keep_their_columns():
    row = {"name": "a", "dims": ("y", "x"), "attributes": {"a": [1, None]}, "deleted_at": None}
    assert decode_row(encode_row(row).values) == row


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b"])
def test_a_column_without_a_proper_name_is_refused(name):
    with pytest.raises(InvalidArgumentError):
        encode_row({name: 1})
