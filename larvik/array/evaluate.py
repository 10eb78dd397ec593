"""Evaluation of expressions in bounded memory: tile by tile, each read from the stored chunks it needs.

A tile is a box of whole chunks of the result. Reductions stream the axes that they drop. What
several parts of an expression use is computed once per tile, or once for all where it is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.budget import Budget, Estimates, fit
from larvik.array.demand import demand
from larvik.array.evaluator import Reader
from larvik.array.expression import Constant, Expression, Operation, Source, walk
from larvik.array.grids import grid_of
from larvik.array.kept import Kept, repeated_nodes, shared_nodes
from larvik.array.operators import OPERATORS
from larvik.array.reading import read_region
from larvik.array.regions import Bounds, Region, boxes, count, lengths, nbytes
from larvik.errors import CallCancelledError, ResourceExhaustedError

#: Opens the reader of a stored level.
Opener = Callable[[Source], Reader]
#: Asked now and then; True ends the evaluation with CallCancelledError.
Cancelled = Callable[[], bool]
#: A block of a result and the position of its first element.
Block = tuple[tuple[int, ...], NDArray[Any]]

#: Regions that one tile may compute, nodes that are computed again included.
MAX_VISITS = 100_000


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
    run in float64, chunk by chunk.
    """
    evaluation = _Evaluation([expression], open_source, budget or Budget(), cancelled)
    for box in boxes(evaluation.tiles([expression], block_bytes)) if regions is None else regions:
        evaluation.begin_tile([expression], box)
        block = evaluation.read(expression, box)
        yield tuple(int(picks[0]) if len(picks) else 0 for picks in box), block


def compute(
    expressions: Sequence[Expression],
    open_source: Opener,
    *,
    budget: Budget | None = None,
    cancelled: Cancelled | None = None,
) -> list[NDArray[Any]]:
    """Return the values of `expressions`, new arrays that the caller owns.

    Notes
    -----
    Results of one shape are computed together, tile by tile, so that what they share is read once.
    The budget holds beside the results.
    """
    evaluation = _Evaluation(expressions, open_source, budget or Budget(), cancelled)
    values: dict[int, NDArray[Any]] = {}
    for group in _by_shape(expressions):
        outs = [np.empty(node.shape, node.dtype) for node in group]
        bounds = evaluation.tiles(group) if len(group) > 1 or cancelled else evaluation.tiles_of_one(group[0])
        for box in boxes(bounds):
            evaluation.begin_tile(group, box)
            for node, out in zip(group, outs, strict=True):
                evaluation.read_into(node, box, _part(out, [slice(item.start, item.stop) for item in box]))
        values.update((id(node), out) for node, out in zip(group, outs, strict=True))
    results = []
    taken: set[int] = set()
    for node in expressions:
        results.append(values[id(node)].copy() if id(node) in taken else values[id(node)])
        taken.add(id(node))
    return results


def _by_shape(expressions: Sequence[Expression]) -> list[list[Expression]]:
    groups: dict[tuple[int, ...], dict[int, Expression]] = {}
    for node in expressions:
        groups.setdefault(node.shape, {})[id(node)] = node
    return [list(group.values()) for group in groups.values()]


class _Evaluation:
    """One run over one graph."""

    def __init__(
        self, results: Sequence[Expression], open_source: Opener, budget: Budget, cancelled: Cancelled | None
    ) -> None:
        self._open = open_source
        self._budget = budget
        self._cancelled = cancelled
        self._estimates = Estimates(budget)
        self._readers: dict[tuple[object, ...], Reader] = {}
        self._shared = shared_nodes(results)
        self._kept = Kept(budget.kept_bytes, repeated_nodes(results))

    def tiles(self, group: Sequence[Expression], block_bytes: int | None = None) -> tuple[Bounds, ...]:
        """Return the bounds of the tiles in which results of one shape are computed."""
        first = max(group, key=lambda node: sum(len(sizes) for sizes in grid_of(node)))
        most = block_bytes or self._budget.step_bytes

        def cost(shape: tuple[int, ...]) -> int:
            peak = sum(self._estimates.peak(node, shape) for node in group)
            size = sum(nbytes(shape, node.dtype.itemsize) for node in group)
            # A block above its size counts as one that may only be as large as a chunk.
            return peak if size <= most else max(peak, self._budget.step_bytes + 1)

        def cost_shared(shape: tuple[int, ...]) -> int:
            # What is shared and not kept would be computed again for each of its users.
            needed = self._shared_bytes(group, tuple(range(size) for size in shape))
            return cost(shape) if needed <= self._budget.kept_bytes else 2 * self._budget.memory_bytes

        grid = grid_of(first)
        unit = tuple(max(sizes, default=0) for sizes in grid)
        fits_shared = bool(self._shared) and cost_shared(unit) <= self._budget.most_bytes
        return fit(grid, cost_shared if fits_shared else cost, self._budget)

    def tiles_of_one(self, node: Expression) -> tuple[Bounds, ...]:
        """Return one tile for what a reader writes straight into the result; else those of `tiles`."""
        return tuple(((0, size),) for size in node.shape) if is_stored(node) else self.tiles([node])

    def _shared_bytes(self, group: Sequence[Expression], region: Region) -> int:
        needed = demand([(node, region) for node in group], joined=True)
        return sum(
            nbytes(lengths(parts[0]), node.dtype.itemsize)
            for node, parts in needed.items()
            if node in self._shared
        )

    def begin_tile(self, group: Sequence[Expression], box: Region) -> None:
        """Compute what this tile uses more than once, where there is room to keep it."""
        self._kept.forget_shared()
        if not self._shared:
            return
        needed = demand([(node, box) for node in group], joined=True)
        self._check_visits(group, needed)
        for node in walk(group):
            if node in self._shared and node in needed and count(needed[node][0]):
                shape = lengths(needed[node][0])
                fits = self._estimates.peak(node, shape) <= self._budget.most_bytes
                if fits and self._kept.has_room(nbytes(shape, node.dtype.itemsize)):
                    self._kept.keep_shared(node, needed[node][0], self.read(node, needed[node][0]))

    def _check_visits(self, group: Sequence[Expression], needed: dict[Expression, list[Region]]) -> None:
        """Refuse graphs whose shared nodes are so many and large that computing them again never ends."""
        room = self._budget.kept_bytes
        visits: dict[Expression, int] = dict.fromkeys(group, 1)
        for node in reversed(walk(group)):
            visited = visits.get(node, 0)
            shape = lengths(needed[node][0]) if node in needed else (0,)
            size = nbytes(shape, node.dtype.itemsize)
            fits = size <= room and self._estimates.peak(node, shape) <= self._budget.most_bytes
            if node in self._shared and fits:
                room -= size
                visited = 1
            if visited > MAX_VISITS:
                raise ResourceExhaustedError(
                    "The expression uses large parts of itself too often. Compute a part of it first.",
                    field="expression",
                )
            for item in node.inputs:
                visits[item] = visits.get(item, 0) + visited

    def steps(self, node: Operation, kept: tuple[int, ...]) -> tuple[Bounds, ...]:
        """Return the bounds in which the input of a reduction is read."""
        return self._estimates.steps(node, kept, whole_chunks=False)

    def read_into(self, node: Expression, region: Region, out: NDArray[Any]) -> None:
        """Write the elements of a region into `out`."""
        if not out.size:
            return
        if not is_stored(node) or self._kept.find(node, region) is not None:
            out[...] = self.read(node, region)
        elif isinstance(node, Source):
            read_region(self._reader(node), region, out)
        else:
            assert isinstance(node, Operation)
            source, selection = node.inputs[0], node.parameters["selection"]
            assert isinstance(source, Source)
            assert isinstance(selection, tuple)
            (needed,) = OPERATORS["select"].pull(node, region)
            assert needed is not None
            view = _part(out, [None if isinstance(item, int) else slice(None) for item in selection])
            read_region(self._reader(source), needed, view)

    def read(self, node: Expression, region: Region) -> NDArray[Any]:
        """Return the elements of a region, kept or computed; not to be written to."""
        if self._cancelled is not None and self._cancelled():
            raise CallCancelledError("The evaluation was cancelled.")
        if not count(region):
            return np.empty(lengths(region), node.dtype)
        if isinstance(node, Constant):
            return _constant(node, region)
        found = self._kept.find(node, region)
        if found is not None:
            return found
        if isinstance(node, Source):
            return read_region(self._reader(node), region)
        assert isinstance(node, Operation)
        with np.errstate(all="ignore"):
            block = OPERATORS[node.op].block(node, region, self)
        self._kept.keep_repeated(node, region, block)
        return block

    def _reader(self, node: Source) -> Reader:
        key = (node.array_id, node.version, node.level)
        if key not in self._readers:
            self._readers[key] = self._open(node)
        return self._readers[key]


def _part(array: NDArray[Any], keys: Sequence[slice | None]) -> NDArray[Any]:
    """Return a view of part of an array, also of one without dims."""
    key: Any = (*keys, ...)
    view: NDArray[Any] = array[key]
    return view


def is_stored(node: Expression) -> bool:
    """Return whether a node's elements are stored ones in their order, which a reader can write by itself."""
    if isinstance(node, Operation) and node.op == "select" and isinstance(node.inputs[0], Source):
        selection = node.parameters["selection"]
        assert isinstance(selection, tuple)
        return all(isinstance(item, int) or (isinstance(item, range) and item.step > 0) for item in selection)
    return isinstance(node, Source)


def _constant(node: Constant, region: Region) -> NDArray[Any]:
    value = np.asarray(node.value, dtype=node.dtype)
    if lengths(region) == node.shape:
        return value
    return value[np.ix_(*(np.asarray(picks, dtype=np.int64) for picks in region))]
