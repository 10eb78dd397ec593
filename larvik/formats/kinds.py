"""What pixels mean, and when they were taken, as far as a file tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from larvik.biometa.tables import Row

_LABEL = re.compile(r"(?<![a-z])(labels?|labelled|labeled|segmentations?|instances)(?![a-z])", re.I)
_MASK = re.compile(r"(?<![a-z])masks?(?![a-z])", re.I)
#: Part of a step by which times may deviate and still be regular.
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Times:
    """Times of frames in second from the first: a spacing when regular, else coordinates, else neither."""

    spacing: float | None = None
    coordinates: tuple[float, ...] = ()


def guess_kind(dtype: str, *names: str) -> str:
    """Return ``label`` or ``mask`` for integers whose names say so, ``mask`` for bool; else intensity."""
    if dtype == "bool":
        return "mask"
    if "int" in dtype:
        if any(_LABEL.search(name.replace("_", " ")) for name in names):
            return "label"
        if any(_MASK.search(name.replace("_", " ")) for name in names):
            return "mask"
    return "intensity"


def times_of(planes: Sequence[Row], count: int) -> Times:
    """Return the times of `count` frames, from the earliest plane of each.

    Nothing is known unless every frame has a time and times rise.
    """
    first: dict[int, float] = {}
    for row in planes:
        if row["delta_t"] is not None:
            first[row["the_t"]] = min(first.get(row["the_t"], row["delta_t"]), row["delta_t"])
    if count < 2 or set(first) != set(range(count)):
        return Times()
    return regular([first[frame] - first[0] for frame in range(count)])


def regular(times: Sequence[float]) -> Times:
    """Return `times` as a spacing when they are evenly spaced from 0, as coordinates when they rise."""
    if any(later <= earlier for earlier, later in pairwise(times)):
        return Times()
    step = times[-1] / (len(times) - 1)
    if times[0] == 0 and all(
        abs(time - index * step) <= TOLERANCE * step for index, time in enumerate(times)
    ):
        return Times(spacing=step)
    return Times(coordinates=tuple(times))
