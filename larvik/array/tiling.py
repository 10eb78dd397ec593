"""How an evaluation is cut up: into tiles of the result, for as many threads as its budget feeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeVar

from larvik.array.budget import Budget, Estimates, fit
from larvik.array.demand import demand
from larvik.array.evaluation import Evaluation, Run, is_stored
from larvik.array.expression import Constant, Expression, Operation, Source, walk
from larvik.array.grids import grid_of
from larvik.array.pool import core_count, in_order
from larvik.array.regions import Bounds, Region, lengths, nbytes
from larvik.errors import ResourceExhaustedError

Result = TypeVar("Result")

#: Bytes below which one thread is done before others have begun.
INLINE_BYTES = 4 << 20


class Tiling:
    """Results of one shape, and the threads that compute them.

    Parameters
    ----------
    run : Run
        The evaluation.
    group : sequence of Expression
        Results of one shape.
    block_bytes : int, optional
        Size that tiles aim at.

    Notes
    -----
    Where there are tiles for all threads, each computes tiles; else they take the steps of a reduction.
    The values are the same in either case.
    """

    def __init__(self, run: Run, group: Sequence[Expression], block_bytes: int | None = None) -> None:
        self._run = run
        self._group = group
        self._block_bytes = block_bytes
        self._grid = grid_of(max(group, key=lambda node: sum(len(sizes) for sizes in grid_of(node))))
        self._unit = tuple(max(sizes, default=0) for sizes in self._grid)

    def tiles(self) -> tuple[Estimates, int, tuple[Bounds, ...]]:
        """Return the estimates of one thread, the number of threads, and the bounds of the tiles."""
        most = self._most_threads()
        alone = Estimates(self._run.budget)
        shares = most > 1 and self._shares(alone, self._unit)
        while most > 1:
            estimates = Estimates(Budget(self._run.budget.memory_bytes // most))
            if self._takes(estimates, self._unit) and (not shares or self._shares(estimates, self._unit)):
                return estimates, most, self._fit(estimates, most)
            most //= 2
        return alone, 1, self._fit(alone, 1)

    def threads_for(self, box: Region) -> tuple[Estimates, int]:
        """Return the estimates of one thread and the number of threads, for tiles like `box`."""
        most = self._most_threads()
        while most > 1:
            estimates = Estimates(Budget(self._run.budget.memory_bytes // most))
            if self._takes(estimates, lengths(box)):
                return estimates, most
            most //= 2
        return Estimates(self._run.budget), 1

    def _most_threads(self) -> int:
        return core_count() if worked_bytes(self._group) > INLINE_BYTES else 1

    def _takes(self, estimates: Estimates, shape: tuple[int, ...]) -> bool:
        try:
            return self._peak(estimates, shape) <= estimates.budget.most_bytes and not estimates.cuts_pieces
        except ResourceExhaustedError:
            return False

    def _peak(self, estimates: Estimates, shape: tuple[int, ...]) -> int:
        return sum(estimates.peak(node, shape) for node in self._group)

    def _shares(self, estimates: Estimates, shape: tuple[int, ...]) -> bool:
        """Return whether tiles of a shape can keep what they use more than once."""
        if not self._run.shared:
            return False
        needed = self._shared_bytes(tuple(range(size) for size in shape))
        return needed <= estimates.budget.kept_bytes and self._takes(estimates, shape)

    def _shared_bytes(self, region: Region) -> int:
        needed = demand([(node, region) for node in self._group], joined=True)
        return sum(
            nbytes(lengths(parts[0]), node.dtype.itemsize)
            for node, parts in needed.items()
            if node in self._run.shared
        )

    def _fit(self, estimates: Estimates, threads: int) -> tuple[Bounds, ...]:
        budget = estimates.budget
        most = self._block_bytes or budget.step_bytes
        if threads > 1:
            # Every thread shall have some tiles, so that all end at about the same time.
            most = min(most, sum(node.nbytes for node in self._group) // (2 * threads))

        def cost(shape: tuple[int, ...]) -> int:
            peak = self._peak(estimates, shape)
            size = sum(nbytes(shape, node.dtype.itemsize) for node in self._group)
            # A block above its size counts as one that may only be as large as a chunk.
            return peak if size <= most else max(peak, budget.step_bytes + 1)

        def cost_shared(shape: tuple[int, ...]) -> int:
            # What is shared and not kept would be computed again for each of its users.
            needed = self._shared_bytes(tuple(range(size) for size in shape))
            return cost(shape) if needed <= budget.kept_bytes else 2 * budget.memory_bytes

        return fit(self._grid, cost_shared if self._shares(estimates, self._unit) else cost, budget)


def run_tiles(
    run: Run,
    group: Sequence[Expression],
    estimates: Estimates,
    threads: int,
    tiles: Iterable[Region],
    work: Callable[[Evaluation, Region], Result],
) -> Iterator[Result]:
    """Yield ``work(evaluation, tile)`` for every tile, in order, computed by `threads` threads."""
    tiles = iter(tiles)
    first = list(islice(tiles, threads))
    if threads == 1 or len(first) < threads:
        evaluation = Evaluation(run, estimates, helpers=threads if threads > 1 else 0)
        for tile in chain(first, tiles):
            evaluation.begin_tile(group, tile)
            yield work(evaluation, tile)
        return
    idle = [Evaluation(run, estimates) for _ in range(threads)]

    def take(tile: Region) -> Result:
        try:
            evaluation = idle.pop()
        except IndexError:  # the caller computes too, when the pool is busy
            evaluation = Evaluation(run, estimates)
        evaluation.begin_tile(group, tile)
        result = work(evaluation, tile)
        idle.append(evaluation)
        return result

    yield from in_order(take, chain(first, tiles), threads + 1, run.stop)


def worked_bytes(results: Iterable[Expression]) -> int:
    """Return about how many bytes evaluating `results` goes through."""
    nodes = walk(results)
    size = sum(node.nbytes for node in nodes if isinstance(node, Operation))
    read = {
        item
        for node in nodes
        if isinstance(node, Operation) and node.op not in ("select", "pointwise")
        for item in node.inputs
        if isinstance(item, Source)
    }
    return size + sum(node.nbytes for node in read)


def tiles_of_one(node: Expression) -> tuple[Bounds, ...] | None:
    """Return one tile for what a reader writes straight into the result."""
    if is_stored(node) or isinstance(node, Constant):
        return tuple(((0, size),) for size in node.shape)
    return None
