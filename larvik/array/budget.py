"""How much is computed at a time: tiles of the result and steps of a reduction that fit in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from larvik.array.expression import Constant, Expression, Operation
from larvik.array.grids import grid_of
from larvik.array.operators import OPERATORS
from larvik.array.operators.reduction import Reduction
from larvik.array.regions import Bounds, Grid, cut_up, grouped, nbytes
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
    """Bytes that computing regions of nodes takes; each estimate is made once."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._peaks: dict[tuple[int, tuple[int, ...]], int] = {}
        self._steps: dict[tuple[int, tuple[int, ...]], tuple[Bounds, ...]] = {}

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

    def steps(
        self, node: Operation, kept: tuple[int, ...], *, whole_chunks: bool = True
    ) -> tuple[Bounds, ...]:
        """Return, per reduced axis, the bounds in which the input of a reduction is read.

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
        tuple of Bounds
            On chunk edges where these fit, following each other in C order.
        """
        key = (id(node), kept)
        found = self._steps.get(key)
        if found is None:
            operator, axes = OPERATORS[node.op], node.parameters["axes"]
            assert isinstance(operator, Reduction)
            assert isinstance(axes, tuple)

            def cost(step: tuple[int, ...]) -> int:
                return operator.step_peak(node, kept, step, self)

            grid = tuple(size for axis, size in enumerate(grid_of(node.inputs[0])) if axis in axes)
            unit = tuple(max(sizes, default=0) for sizes in grid)
            if whole_chunks and max(kept, default=1) > 1 and cost(unit) > self.budget.most_bytes:
                raise ChunkTooLargeError
            found = self._steps[key] = fit(grid, cost, self.budget, in_order=True)
        return found


def fit(
    grid: Grid, cost: Callable[[tuple[int, ...]], int], budget: Budget, *, in_order: bool = False
) -> tuple[Bounds, ...]:
    """Return bounds along each axis of boxes whose cost fits.

    Parameters
    ----------
    grid : Grid
        Chunks; boxes are whole chunks where these fit.
    cost : callable
        Bytes of a box of a shape.
    budget : Budget
        Boxes grow to ``step_bytes``; a single chunk may take ``most_bytes``.
    in_order : bool
        Whether the boxes must follow each other in C order of the elements' chunks.

    Raises
    ------
    ResourceExhaustedError
        ``LIMIT_EXCEEDED``, when not even a single element fits.
    """
    shape = [max(sizes, default=0) for sizes in grid]
    if cost(tuple(shape)) > budget.most_bytes:
        return _shrink(grid, shape, cost, budget)
    counts = [1] * len(grid)
    for axis in reversed(range(len(grid))):
        sizes = grid[axis]

        def fits(count: int, axis: int = axis, sizes: tuple[int, ...] = sizes) -> bool:
            trial = list(shape)
            trial[axis] = min(max(sizes) * count, sum(sizes))
            return cost(tuple(trial)) <= budget.step_bytes

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


def _shrink(
    grid: Grid, shape: list[int], cost: Callable[[tuple[int, ...]], int], budget: Budget
) -> tuple[Bounds, ...]:
    """Cut below chunks, first axes first, until a box fits."""
    for axis in range(len(shape)):
        while shape[axis] > 1 and cost(tuple(shape)) > budget.most_bytes:
            shape[axis] = -(-shape[axis] // 2)
    if cost(tuple(shape)) > budget.most_bytes:
        raise ResourceExhaustedError(
            f"A single element of the result takes more than {budget.memory_bytes:,} bytes, the most that an "
            "evaluation may hold. Select less, reduce earlier, or use .larvik.to_dask().",
            field="memory_bytes",
        )
    return tuple(cut_up(sizes, size) for sizes, size in zip(grid, shape, strict=True))
