"""Reading regions through a reader, which takes one slice per dim."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.evaluator import Reader
from larvik.array.regions import Picks, Region, lengths

#: What one read gives along one axis: where it goes, what is read, and which of that is wanted.
Run = tuple[slice, slice, NDArray[np.int64] | None]


def read_region(reader: Reader, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the elements of a region, in `out` where it is given.

    Notes
    -----
    Positions without a regular distance are read chunk by chunk, so that chunks between them are not.
    """
    if all(isinstance(picks, range) for picks in region):
        return reader.read(tuple(slice(picks.start, picks.stop, picks.step) for picks in region), out)  # type: ignore[union-attr]  # ranges, as just checked
    if out is None:
        out = np.empty(lengths(region), reader.dtype)
    runs = [_runs(picks, chunk) for picks, chunk in zip(region, reader.chunks, strict=True)]
    for combination in product(*runs):
        block = reader.read(tuple(run[1] for run in combination))
        for axis, (_, _, wanted) in enumerate(combination):
            if wanted is not None:
                block = np.take(block, wanted, axis=axis)
        out[tuple(run[0] for run in combination)] = block
    return out


def _runs(picks: Picks, chunk: int) -> list[Run]:
    if isinstance(picks, range):
        return [(slice(None), slice(picks.start, picks.stop, picks.step), None)]
    changes = np.flatnonzero(np.diff(picks // chunk)) + 1
    edges = [0, *(int(edge) for edge in changes), picks.size]
    runs: list[Run] = []
    for first, last in pairwise(edges):
        part = picks[first:last]
        begin = int(part[0])
        runs.append((slice(first, last), slice(begin, int(part[-1]) + 1, 1), part - begin))
    return runs
