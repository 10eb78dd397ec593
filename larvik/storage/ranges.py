"""Coalescing of byte ranges: few large requests where single ones would cost a round trip each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from larvik.storage.base import ByteRange

#: Bytes between two ranges that are cheaper to read than a second request.
MAX_GAP = 512 << 10
#: Largest coalesced range: above it, concurrent requests are faster than one. A batch of a reader, which has
#: somewhat more than the 8 MiB that it was asked to have, fits in one.
MAX_BYTES = 12 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a request are: in which answer, from which offset, how many (None: all)."""

    answer: int
    offset: int
    length: int | None


def coalesce(requests: Sequence[ByteRange]) -> tuple[list[ByteRange], list[Place]]:
    """Return merged ranges, and for every request the place of its bytes in their answers.

    Notes
    -----
    Ranges of one object that touch, overlap or lie at most `MAX_GAP` apart are merged up to `MAX_BYTES`;
    suffixes and open-ended ranges stay alone. O(n log n).
    """
    merged: list[ByteRange] = []
    places: list[Place] = [Place(0, 0, None)] * len(requests)
    for index in sorted(range(len(requests)), key=lambda i: (requests[i].key, requests[i].start)):
        request = requests[index]
        last = merged[-1] if merged else None
        if last is not None and _joins(last, request):
            assert last.length is not None
            assert request.length is not None
            end = max(last.start + last.length, request.start + request.length)
            merged[-1] = ByteRange(last.key, last.start, end - last.start)
            places[index] = Place(len(merged) - 1, request.start - last.start, request.length)
        else:
            merged.append(request)
            places[index] = Place(len(merged) - 1, 0, request.length)
    return merged, places


def _joins(last: ByteRange, request: ByteRange) -> bool:
    if last.key != request.key or last.length is None or request.length is None or last.start < 0:
        return False
    end = request.start + request.length
    return request.start <= last.start + last.length + MAX_GAP and end - last.start <= MAX_BYTES
