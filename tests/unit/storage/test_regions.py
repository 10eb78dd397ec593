from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.errors import SelectionError
from larvik.storage.regions import by_shard, check_selection, regions, spans


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 9), st.integers(1, 12))
def test_spans_place_each_selected_element_once(start, length, step, chunk):
    bounds = range(start, start + length, step)
    out = np.full(len(bounds), -1)
    for span in spans(bounds, chunk):
        elements = np.arange(span.number * chunk, (span.number + 1) * chunk)
        out[span.place] = elements[span.within]
    assert out.tolist() == list(bounds)


def test_pieces_come_shard_by_shard():
    dims = [spans(range(0, 6), 1), spans(range(0, 4), 2)]
    found = [(shard, [piece.chunk for piece in pieces]) for shard, pieces in by_shard(dims, (4, 1))]
    assert found == [
        ((0, 0), [(0, 0), (1, 0), (2, 0), (3, 0)]),
        ((0, 1), [(0, 1), (1, 1), (2, 1), (3, 1)]),
        ((1, 0), [(4, 0), (5, 0)]),
        ((1, 1), [(4, 1), (5, 1)]),
    ]


def test_regions_cover_the_array_and_end_at_its_edge():
    covered = np.zeros((5, 7), int)
    for region in regions((5, 7), (2, 3)):
        covered[region] += 1
    assert (covered == 1).all()
    assert list(regions((5, 7), (8, 8))) == [(slice(0, 5), slice(0, 7))]


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        ((slice(0, 5),), "SELECTION_INVALID"),
        ((slice(0, 4), slice(0, 1, 0)), "SELECTION_INVALID"),
        ((slice(0, 4), slice(3, 0, -1)), "SELECTION_INVALID"),
        ((slice(0, 4), 3), "SELECTION_INVALID"),
        ((slice(0, 4.5), slice(0, 1)), "SELECTION_INVALID"),
        ((slice(0, 5), slice(0, 1)), "SELECTION_OUT_OF_BOUNDS"),
        ((slice(-1, 4), slice(0, 1)), "SELECTION_OUT_OF_BOUNDS"),
        ((slice(3, 2), slice(0, 1)), "SELECTION_OUT_OF_BOUNDS"),
    ],
)
def test_a_selection_outside_or_of_another_form_is_refused(selection, reason):
    with pytest.raises(SelectionError) as caught:
        check_selection(selection, (4, 6))
    assert caught.value.reason == reason


def test_open_slices_take_all():
    assert check_selection((slice(None), slice(2, None)), (4, 6)) == [range(4), range(2, 6)]
