from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from larvik.storage.base import ByteRange
from larvik.storage.ranges import MAX_BYTES, MAX_GAP, coalesce

RANGES = st.builds(
    ByteRange,
    st.sampled_from("ab"),
    st.integers(0, 4 * MAX_GAP),
    st.one_of(st.none(), st.integers(0, 3 * MAX_GAP)),
)


@given(st.lists(RANGES, max_size=12))
def test_every_request_finds_its_bytes_in_the_merged_answers(requests):
    merged, places = coalesce(requests)
    for request, place in zip(requests, places, strict=True):
        answer = merged[place.answer]
        assert answer.key == request.key
        assert answer.start + place.offset == request.start
        if request.length is None:
            assert answer.length is None
        else:
            assert place.length == request.length
            assert answer.length is None or place.offset + request.length <= answer.length


def test_neighbours_become_one_request_and_strangers_do_not():
    merged, _ = coalesce([ByteRange("a", 100, 50), ByteRange("a", 0, 100), ByteRange("b", 150, 10)])
    assert merged == [ByteRange("a", 0, 150), ByteRange("b", 150, 10)]


def test_far_ranges_and_large_sums_stay_apart():
    far = [ByteRange("a", 0, 10), ByteRange("a", 11 + MAX_GAP, 10)]
    large = [ByteRange("a", 0, MAX_BYTES), ByteRange("a", MAX_BYTES, 1)]
    assert coalesce(far)[0] == far
    assert coalesce(large)[0] == large
