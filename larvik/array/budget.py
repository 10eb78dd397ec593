"""How much is computed at a time: tiles of the result and steps of a reduction that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from larvik.array.expression import Constant, Expression, Operation
from larvik.array.operators import OPERATORS
from larvik.array.operators.base import Steps
from larvik.array.operators.reduction import Reduction
from larvik.array.regions import Bounds, Cuts, Grid, grouped, nbytes
from larvik.errors import ResourceExhaustedError

#: Estimates after which an expression counts as too entangled.
MAX_ESTIMATES = 100_000
#: The estimate of what cannot be computed at once at all.
UNBOUNDED = 2**62


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that one evaluation may hold beside its result.

    Attributes
    ----------
    memory_bytes : int
        Most bytes at any moment.
    """

    memory_bytes: int = 256 * 2**20

    @property
    def step_bytes(self) -> int:
        """What one tile or step aims at: large enough for decoding in parallel."""
        return self.memory_bytes // 8

    @property
    def most_bytes(self) -> int:
        """What one tile or step takes at most."""
        return self.memory_bytes // 2

    @property
    def kept_bytes(self) -> int:
        """What is kept of shared nodes."""
        return self.memory_bytes // 4


class ChunkTooLargeError(Exception):
    """One chunk along the reduced axes does not fit for the region that is kept."""


class Estimates:
    """Bytes that computing regions of nodes takes; each estimate is made once.

    Attributes
    ----------
    cuts_pieces : bool
        Whether the budget is so small that not even the pieces fit which chunks are summed in: floating point
        sums may then differ in their last bits.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.cuts_pieces = False
        self._peaks: dict[tuple[int, tuple[int, ...]], int] = {}
        self._steps: dict[tuple[int, tuple[int, ...]], Steps] = {}

    def peak(self, node: Expression, shape: tuple[int, ...]) -> int:
        """Return the bytes held at most while a region of `shape` is computed, itself included."""
        if isinstance(node, Constant) or 0 in shape:
            return 0
        if not isinstance(node, Operation):
            return nbytes(shape, node.dtype.itemsize)
        key = (id(node), shape)
        found = self._peaks.get(key)
        if found is None:
            if len(self._peaks) >= MAX_ESTIMATES:
                raise ResourceExhaustedError(
                    "The expression uses its parts in too many different ways. Compute a part of it first.",
                    field="expression",
                )
            try:
                found = OPERATORS[node.op].peak(node, shape, self)
            except ChunkTooLargeError:
                found = UNBOUNDED
            self._peaks[key] = found
        return found

    def steps(self, node: Operation, kept: tuple[int, ...], *, whole_chunks: bool = True) -> Steps:
        """Return the boxes along the reduced axes in which the input of a reduction is read.

        Parameters
        ----------
        node : Operation
            A reduction.
        kept : tuple of int
            Shape of the region of its input, 1 along reduced axes.
        whole_chunks : bool
            Whether to refuse, with ChunkTooLargeError, rather than to cut chunks of regions of several
            elements: computing fewer elements at once is better than reading parts of chunks.

        Returns
        -------
        Steps
            On chunk edges where these fit, following each other in C order; else piece by piece of each
            chunk, which are the same whatever fits.
        """
        key = (id(node), kept)
        found = self._steps.get(key)
        if found is None:
            operator = OPERATORS[node.op]
            assert isinstance(operator, Reduction)

            def cost(step: tuple[int, ...]) -> int:
                return operator.step_peak(node, kept, step, self)

            grid = operator.reduced_grid(node)
            unit = tuple(max(sizes, default=0) for sizes in grid)
            if cost(unit) <= self.budget.most_bytes:
                # What is gathered takes the same however long the steps are.
                aim = self.budget.step_bytes + operator.gathered_bytes(node, kept)
                found = Steps(
                    fit(grid, cost, self.budget, aim=min(aim, self.budget.most_bytes), in_order=True)
                )
            elif whole_chunks and max(kept, default=1) > 1:
                raise ChunkTooLargeError
            else:
                pieces = tuple(max(sizes, default=0) for sizes in operator.pieces(node))
                chunks = tuple(grouped(sizes, 1) for sizes in grid)
                found = Steps(chunks, _shrunk(pieces, cost, self.budget))
                self.cuts_pieces |= found.inner != pieces
            self._steps[key] = found
        return found


def fit(
    grid: Grid,
    cost: Callable[[tuple[int, ...]], int],
    budget: Budget,
    *,
    aim: int | None = None,
    in_order: bool = False,
) -> tuple[Bounds, ...]:
    """Return bounds along each axis of boxes whose cost fits.

    Parameters
    ----------
    grid : Grid
        Chunks; boxes are whole chunks where these fit.
    cost : callable
        Bytes of a box of a shape.
    budget : Budget
        A single chunk may take ``most_bytes``.
    aim : int, optional
        Bytes that boxes grow to, ``step_bytes`` when not given.
    in_order : bool
        Whether the boxes must follow each other in C order of the elements' chunks.

    Raises
    ------
    ResourceExhaustedError
        ``LIMIT_EXCEEDED``, when not even a single element fits.
    """
    most = budget.step_bytes if aim is None else aim
    shape = [max(sizes, default=0) for sizes in grid]
    if cost(tuple(shape)) > budget.most_bytes:
        cut = _shrunk(shape, cost, budget)
        return tuple(Cuts(sizes, length) for sizes, length in zip(grid, cut, strict=True))
    counts = [1] * len(grid)
    for axis in reversed(range(len(grid))):
        sizes = grid[axis]

        def fits(count: int, axis: int = axis, sizes: tuple[int, ...] = sizes) -> bool:
            trial = list(shape)
            trial[axis] = min(max(sizes) * count, sum(sizes))
            return cost(tuple(trial)) <= most

        counts[axis] = _most(len(sizes), fits)
        shape[axis] = min(max(sizes, default=0) * counts[axis], sum(sizes))
        if in_order and counts[axis] < len(sizes):
            break
    return tuple(grouped(sizes, count) for sizes, count in zip(grid, counts, strict=True))


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """Return a large count up to `limit` that fits: all, or a power of two, at least 1."""
    if limit <= 1 or fits(limit):
        return max(limit, 1)
    count = 1
    while 2 * count < limit and fits(2 * count):
        count *= 2
    return count


def _shrunk(shape: Sequence[int], cost: Callable[[tuple[int, ...]], int], budget: Budget) -> tuple[int, ...]:
    """Return `shape` cut, first axes first, until a box of it fits."""
    lengths = list(shape)
    for axis in range(len(lengths)):
        while lengths[axis] > 1 and cost(tuple(lengths)) > budget.most_bytes:
            lengths[axis] = -(-lengths[axis] // 2)
    if cost(tuple(lengths)) > budget.most_bytes:
        raise ResourceExhaustedError(
            f"A single element of the result takes more than {budget.memory_bytes:,} bytes, the most that an "
            "evaluation may hold. Select less, reduce earlier, or use .larvik.to_dask().",
            field="memory_bytes",
        )
    return tuple(lengths)
