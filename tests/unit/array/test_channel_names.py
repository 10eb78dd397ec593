"""Channel names: made unique and printable, and otherwise left alone."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from larvik.array.channel_names import MAX_CHANNELS, unique_names


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["DAPI", "DAPI (2)", "Channel 1"])))
)
def test_channel_names_become_unique_and_printable(names):
    result = unique_names(names, len(names))
    assert len(set(result)) == len(names)
    assert all(name and name.isprintable() for name in result)
    assert unique_names(result, len(result)) == result


def test_names_that_are_good_stay():
    assert unique_names(["DAPI", "GFP"], 2) == ("DAPI", "GFP")
    assert unique_names(["DAPI", "", "DAPI"], 4) == ("DAPI", "Channel 1", "DAPI (2)", "Channel 3")
    assert unique_names(["DAPI", "GFP", "Cy5"], 2) == ("DAPI", "GFP")


@given(st.lists(st.sampled_from(["", "a", "a (2)", "Channel 1", "DAPI"]), max_size=6))
def test_a_name_that_only_one_channel_has_is_kept(names):
    found = unique_names(names, 6)
    for name, made in zip(names, found, strict=False):
        if name and names.count(name) == 1:
            assert made == name


def test_as_many_equal_names_as_an_array_may_have_are_told_apart_at_once() -> None:
    start = time.process_time()
    names = unique_names(["DAPI"] * MAX_CHANNELS, MAX_CHANNELS)
    assert time.process_time() - start < 10  # trying every number for every name would take an hour
    assert (names[1], names[-1], len(set(names))) == ("DAPI (2)", f"DAPI ({MAX_CHANNELS})", MAX_CHANNELS)
