"""Laws of the one gate that every value passes."""

import json
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.errors import LarvikError
from larvik.models.values import INT64_MAX, clean
from larvik.schema import FieldSpec, FieldType

anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.datetimes(),
    st.lists(st.integers() | st.text(), max_size=3), st.dictionaries(st.text(), st.floats(), max_size=3),
    st.sampled_from([object(), np.float32(1), np.array([1, 2]), pd.NaT, 1j, Ellipsis]),
)  # fmt: skip


def field(kind: FieldType, **options: object) -> FieldSpec:
    return FieldSpec("value", kind, **options)  # type: ignore[arg-type]


@given(st.sampled_from(FieldType), anything)
def test_any_value_is_cleaned_once_and_for_all_or_refused_with_the_field(
    kind: FieldType, value: object
) -> None:
    refusal = None
    try:
        cleaned = clean(field(kind), value, model="Model")
    except LarvikError as error:
        refusal = error
    if refusal is not None:
        assert refusal.metadata["field"] == "Model.value"
        assert len(refusal.message) < 400
        return
    again = clean(field(kind), cleaned)
    assert again == cleaned
    assert type(again) is type(cleaned)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50))
def test_text_stays_as_it_is(text: str) -> None:
    assert clean(field(FieldType.STRING), text) == text


@given(st.integers(-INT64_MAX - 1, INT64_MAX))
def test_every_number_of_64_bits_fits(number: int) -> None:
    assert clean(field(FieldType.INT64), np.int64(number)) == number


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(-23, 23))
def test_moments_of_any_zone_become_utc(moment: datetime, hours: int) -> None:
    given_moment = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    cleaned = clean(field(FieldType.TIMESTAMP), given_moment)
    assert cleaned == given_moment
    assert isinstance(cleaned, datetime)
    assert cleaned.tzinfo is UTC


def test_numpy_pandas_and_enums_become_plain_values() -> None:
    class Colour(StrEnum):
        RED = "red"

    for value in (np.str_("red"), Colour.RED):
        assert type(clean(field(FieldType.STRING), value)) is str
    assert type(clean(field(FieldType.FLOAT64), np.float32(0.5))) is float
    assert clean(field(FieldType.BOOL), np.bool_(True)) is True
    assert type(clean(field(FieldType.TIMESTAMP), pd.Timestamp("2026-01-01T00:00:00.000001Z"))) is datetime
    assert clean(field(FieldType.INT64_LIST), np.array([1, 2])) == (1, 2)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (FieldType.STRING, "a\0b"),
        (FieldType.STRING, "\ud800"),
        (FieldType.STRING, b"bytes"),
        (FieldType.STRING, "x" * 10_000_000),
        (FieldType.INT64, 2**63),
        (FieldType.INT64, 1.0),
        (FieldType.INT64, True),
        (FieldType.FLOAT64, float("nan")),
        (FieldType.FLOAT64, "1.0"),
        (FieldType.TIMESTAMP, datetime(2026, 1, 1)),
        (FieldType.TIMESTAMP, pd.NaT),
        (FieldType.UUID, "not-an-id"),
        (FieldType.JSON, {"a": float("inf")}),
        (FieldType.JSON, {"a": "\0"}),
        (FieldType.JSON, {"a": "\ud800"}),
        (FieldType.JSON, {"\ud800": 1}),
        (FieldType.BINARY, "text"),
        (FieldType.STRING_LIST, "text"),
    ],
)
def test_what_a_field_cannot_hold_is_refused(kind: FieldType, value: object) -> None:
    with pytest.raises(LarvikError, match="value") as caught:
        clean(field(kind), value)
    assert len(caught.value.message) < 400


def test_json_is_a_copy_that_later_changes_do_not_reach() -> None:
    given_value = {"a": [1]}
    cleaned = clean(field(FieldType.JSON), given_value)
    given_value["a"].append(2)
    assert json.dumps(cleaned) == '{"a": [1]}'
