"""Which part of every node a result needs: what the planner counts and the evaluation keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from larvik.array.expression import Expression, Operation, Source, walk
from larvik.array.operators import OPERATORS
from larvik.array.regions import Picks, Region, count, hull, same

#: Regions of one node that are told apart; more are joined to one that holds them all.
MAX_REGIONS = 64


def demand(
    results: Iterable[tuple[Expression, Region]], *, joined: bool = False
) -> dict[Expression, list[Region]]:
    """Return the regions of every node that regions of `results` need.

    Parameters
    ----------
    results : iterable of (Expression, Region)
        What is asked for.
    joined : bool
        Whether the regions of a node become the one that holds them all.

    Notes
    -----
    Linear in the nodes: each is visited once, after all that use it.
    """
    wanted = list(results)
    needed: dict[Expression, list[Region]] = {}
    for node, region in wanted:
        _add(needed, node, region, joined)
    for node in reversed(walk(node for node, _ in wanted)):
        if not isinstance(node, Operation):
            continue
        for region in needed.get(node, ()):
            for item, part in zip(node.inputs, OPERATORS[node.op].pull(node, region), strict=True):
                if part is not None and count(part):
                    _add(needed, item, part, joined)
    return needed


def _add(needed: dict[Expression, list[Region]], node: Expression, region: Region, joined: bool) -> None:
    regions = needed.setdefault(node, [])
    if any(all(same(a, b) for a, b in zip(region, other, strict=True)) for other in regions):
        return
    regions.append(region)
    if len(regions) > (1 if joined else MAX_REGIONS):
        needed[node] = [join(regions)]


def join(regions: Sequence[Region]) -> Region:
    """Return one region that holds all of `regions`."""
    first = regions[0]
    for region in regions[1:]:
        first = tuple(hull(a, b) for a, b in zip(first, region, strict=True))
    return first


def touched_chunks(source: Source, region: Region) -> int:
    """Return the number of stored chunks that a region lies in."""
    return math.prod(len(touched(picks, chunk)) for picks, chunk in zip(region, source.chunks, strict=True))


def touched(picks: Picks, chunk: int) -> range | set[int]:
    """Return the chunks along one axis that hold one of `picks`."""
    if isinstance(picks, range) and len(picks) and picks.step <= chunk:
        return range(picks[0] // chunk, picks[-1] // chunk + 1)
    return {int(position) // chunk for position in picks}


def decoded_bytes(source: Source, region: Region) -> int:
    """Return the bytes of the chunks that a region lies in, clipped at the array's edge."""
    elements = 1
    for picks, chunk, size in zip(region, source.chunks, source.shape, strict=True):
        elements *= sum(min(chunk, size - index * chunk) for index in touched(picks, chunk))
    return elements * source.dtype.itemsize
