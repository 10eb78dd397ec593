"""Evaluation of expressions in bounded memory: tile by tile, each read from the stored chunks it needs.

A tile is a box of whole chunks of the result. Reductions stream the axes that they drop. What
several parts of an expression use is computed once per tile, or once for all where it is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.budget import Budget, Estimates
from larvik.array.evaluation import Evaluation, Opener, Run, part_of
from larvik.array.evaluator import Cancelled, Progress
from larvik.array.expression import Expression
from larvik.array.regions import Region, boxes
from larvik.array.tiling import Tiling, run_tiles, tiles_of_one

#: A block of a result and the position of its first element.
Block = tuple[tuple[int, ...], NDArray[Any]]


def evaluate(
    expression: Expression,
    open_source: Opener,
    *,
    budget: Budget | None = None,
    block_bytes: int | None = None,
    regions: Iterable[Region] | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[Block]:
    """Yield the value of `expression` block by block, in C order of the blocks.

    Parameters
    ----------
    expression : Expression
        What is computed.
    open_source : callable
        Returns the reader of a source; called once for each.
    budget : Budget, optional
        Bytes that may be held at any moment, the block that was yielded included.
    block_bytes : int, optional
        Size that blocks aim at; a block is at least one chunk of the result where that fits.
    regions : iterable of Region, optional
        The blocks to yield, instead of blocks of the evaluation's own choice.
    cancelled : callable, optional
        Asked before every read.

    Yields
    ------
    (start, block)
        Position of the first element per dim, and the elements. Without `regions` blocks cover the
        result once. Blocks may be read-only and of any strides.

    Raises
    ------
    ResourceExhaustedError
        ``LIMIT_EXCEEDED``, when the budget does not hold what a single element needs.
    CallCancelledError
        When `cancelled` said so.

    Notes
    -----
    Equal to NumPy bit by bit for whole numbers, truth and order; sums of floating point numbers
    run in float64, chunk by chunk, in the same order however many threads there are. Blocks are
    computed ahead by as many threads as there are cores, which share the budget.
    """
    run = Run([expression], open_source, budget or Budget(), cancelled)
    tiling = Tiling(run, [expression], block_bytes)
    if regions is None:
        estimates, threads, bounds = tiling.tiles()
        tiles: Iterator[Region] = boxes(bounds)
    else:
        tiles = iter(regions)
        first = list(islice(tiles, 1))
        if not first:
            return
        estimates, threads = tiling.threads_for(first[0])
        tiles = chain(first, tiles)

    def read(evaluation: Evaluation, box: Region) -> Block:
        start = tuple(int(picks[0]) if len(picks) else 0 for picks in box)
        return start, evaluation.read(expression, box)

    yield from run_tiles(run, [expression], estimates, threads, tiles, read)


def compute(
    expressions: Sequence[Expression],
    open_source: Opener,
    *,
    budget: Budget | None = None,
    cancelled: Cancelled | None = None,
    progress: Progress | None = None,
) -> list[NDArray[Any]]:
    """Return the values of `expressions`, new arrays that the caller owns.

    Parameters
    ----------
    expressions, open_source, budget, cancelled
        As of `evaluate`.
    progress : callable, optional
        Told, after each tile, the elements that are done and those in all.

    Notes
    -----
    Results of one shape are computed together, tile by tile, so that what they share is read once.
    The budget holds beside the results.
    """
    run = Run(expressions, open_source, budget or Budget(), cancelled)
    values: dict[int, NDArray[Any]] = {}
    groups = _by_shape(expressions)
    done, total = 0, sum(node.size for group in groups for node in group)
    for group in groups:
        outs = [np.empty(node.shape, node.dtype) for node in group]
        for size in _fill(run, group, outs, in_one=cancelled is None and progress is None):
            done += size
            if progress is not None:
                progress(done, total)
        values.update((id(node), out) for node, out in zip(group, outs, strict=True))
    results = []
    taken: set[int] = set()
    for node in expressions:
        results.append(values[id(node)].copy() if id(node) in taken else values[id(node)])
        taken.add(id(node))
    return results


def _fill(
    run: Run, group: Sequence[Expression], outs: Sequence[NDArray[Any]], *, in_one: bool
) -> Iterator[int]:
    """Compute results of one shape into `outs`, yielding the elements that each tile had."""

    def read_into(evaluation: Evaluation, box: Region) -> int:
        size = 0
        for node, out in zip(group, outs, strict=True):
            part = part_of(
                out, [slice(int(picks[0]), int(picks[-1]) + 1) if len(picks) else slice(0) for picks in box]
            )
            evaluation.read_into(node, box, part)
            size += part.size
        return size

    whole = tiles_of_one(group[0]) if in_one and len(group) == 1 else None
    if whole is not None:
        evaluation = Evaluation(run, Estimates(run.budget))
        for box in boxes(whole):
            yield read_into(evaluation, box)
        return
    estimates, threads, bounds = Tiling(run, group).tiles()
    yield from run_tiles(run, group, estimates, threads, boxes(bounds), read_into)


def _by_shape(expressions: Sequence[Expression]) -> list[list[Expression]]:
    groups: dict[tuple[int, ...], dict[int, Expression]] = {}
    for node in expressions:
        groups.setdefault(node.shape, {})[id(node)] = node
    return [list(group.values()) for group in groups.values()]
