"""Which chunks a selection touches, and what of each goes where: arithmetic on regular grids."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from larvik.errors import SelectionError


class Span(NamedTuple):
    """The part of one chunk, along one dim, that a selection touches.

    Attributes
    ----------
    number : int
        Of the chunk along the dim.
    within, place : slice
        Selected elements of the chunk; where they go in the output.
    """

    number: int
    within: slice
    place: slice


class Piece(NamedTuple):
    """The part of one chunk that a selection touches: index of the chunk, and spans as tuples of slices."""

    chunk: tuple[int, ...]
    within: tuple[slice, ...]
    place: tuple[slice, ...]

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Piece:
        """Return the piece made of one span per dim."""
        return cls(*zip(*spans, strict=True)) if spans else cls((), (), ())


def check_selection(selection: Sequence[slice], shape: Sequence[int]) -> list[range]:
    """Return the selected indices of each dim.

    Raises
    ------
    SelectionError
        ``SELECTION_INVALID`` for the wrong number of slices, bounds that are no integers or a step
        below 1; ``SELECTION_OUT_OF_BOUNDS`` for bounds outside the array.
    """
    if len(selection) != len(shape):
        raise _invalid(f"The selection has {len(selection)} slices, the array {len(shape)} dims.")
    return [_bounds(part, size, dim) for dim, (part, size) in enumerate(zip(selection, shape, strict=True))]


def spans(bounds: range, chunk: int) -> list[Span]:
    """Return the spans of one dim whose selected indices are `bounds`, in chunks of `chunk` elements."""
    found = []
    done = 0
    while done < len(bounds):
        number, first = divmod(bounds[done], chunk)
        count = min(len(bounds) - done, -(-(chunk - first) // bounds.step))
        within = slice(first, first + (count - 1) * bounds.step + 1, bounds.step)
        found.append(Span(number, within, slice(done, done + count)))
        done += count
    return found


def by_shard(
    dims: Sequence[Sequence[Span]], shard_grid: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Iterator[Piece]]]:
    """Yield the index of each touched shard, in C order, with the pieces of its inner chunks.

    `shard_grid` is the number of inner chunks of a shard, per dim.
    """
    grouped = [_groups(dim, extent) for dim, extent in zip(dims, shard_grid, strict=True)]
    for shard in product(*grouped):
        yield tuple(number for number, _ in shard), map(Piece.of, product(*(group for _, group in shard)))


def regions(shape: Sequence[int], extents: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield the regions of a regular grid over `shape`, clipped at its end, in C order."""
    dims = [
        [slice(start, min(start + extent, size)) for start in range(0, size, extent)]
        for size, extent in zip(shape, extents, strict=True)
    ]
    return product(*dims)


def _groups(dim: Sequence[Span], extent: int) -> list[tuple[int, list[Span]]]:
    groups: dict[int, list[Span]] = {}
    for span in dim:
        groups.setdefault(span.number // extent, []).append(span)
    return list(groups.items())


def _bounds(part: slice, size: int, dim: int) -> range:
    try:
        start = 0 if part.start is None else operator.index(part.start)
        stop = size if part.stop is None else operator.index(part.stop)
        step = 1 if part.step is None else operator.index(part.step)
    except (TypeError, AttributeError) as error:
        raise _invalid(f"The selection of dim {dim} is not a slice of integers.") from error
    if step < 1:
        raise _invalid(f"The step of dim {dim} is {step}; it must be at least 1.")
    if not 0 <= start <= stop <= size:
        raise SelectionError(
            f"The selection {start}:{stop} of dim {dim} lies outside 0:{size}.", field="selection"
        )
    return range(start, stop, step)


def _invalid(message: str) -> SelectionError:
    return SelectionError(message, reason="SELECTION_INVALID", field="selection")
