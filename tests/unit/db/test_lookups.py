"""Key ranges: the least text after every text with a prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.db.columns import from_micros, json_text, to_micros
from larvik.db.lookups import successor

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
EDGES = st.text(st.sampled_from("a\ud7ff\ue000\uffff\U00010000\U0010ffff"), max_size=3)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("a", "b"),
        ("a\U0010ffff", "b"),
        ("\ud7ff", "\ue000"),
        ("\U0010ffff", None),
        ("", None),
        ("z\U0010ffff\U0010ffff", "{"),
    ],
)
def test_the_successor_skips_what_is_no_text(prefix, end):
    assert successor(prefix) == end


@given(prefix=TEXT | EDGES, other=TEXT | EDGES)
def test_a_text_starts_with_a_prefix_exactly_when_it_lies_in_its_range(prefix, other):
    end, data = successor(prefix), other.encode()
    inside = data >= prefix.encode() and (end is None or data < end.encode())
    assert inside == data.startswith(prefix.encode())


@given(st.datetimes(timezones=st.just(__import__("datetime").UTC)))
def test_a_moment_is_kept_to_the_microsecond(moment):
    assert from_micros(to_micros(moment)) == moment


def test_canonical_json_tells_one_from_true():
    assert json_text({"b": 1, "a": [1.0, True]}) == '{"a":[1.0,true],"b":1}'
