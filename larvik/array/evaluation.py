"""One thread's run over an expression: reading regions of nodes, kept or computed, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from larvik.array.budget import Budget, Estimates
from larvik.array.demand import demand
from larvik.array.evaluator import Cancelled, Reader
from larvik.array.expression import Constant, Expression, Operation, Source, walk
from larvik.array.kept import Kept, Repeated, repeated_nodes, shared_nodes
from larvik.array.operators import OPERATORS
from larvik.array.operators.base import Context, Steps
from larvik.array.pool import in_order
from larvik.array.reading import read_region
from larvik.array.regions import Region, count, lengths, nbytes
from larvik.errors import CallCancelledError, ResourceExhaustedError

#: Opens the reader of a stored level.
Opener = Callable[[Source], Reader]
Part = TypeVar("Part")

#: Regions that one tile may compute, nodes that are computed again included.
MAX_VISITS = 100_000


class Run:
    """What the threads of one evaluation have in common. Thread-safe.

    Parameters
    ----------
    results : sequence of Expression
        What is computed.
    open_source : callable
        Returns the reader of a source.
    budget : Budget
        Of all threads together.
    cancelled : callable, optional
        Asked before every read, by any thread.
    """

    def __init__(
        self, results: Sequence[Expression], open_source: Opener, budget: Budget, cancelled: Cancelled | None
    ) -> None:
        self.budget = budget
        self.shared = shared_nodes(results)
        self.repeated = Repeated(budget.kept_bytes, repeated_nodes(results))
        self._open = open_source
        self._cancelled = cancelled
        self._readers: dict[tuple[object, ...], Reader] = {}
        self._lock = threading.Lock()
        self._is_stopped = False

    def stop(self) -> None:
        """Have every thread end at its next read."""
        self._is_stopped = True

    def check(self) -> None:
        """Raise CallCancelledError when the evaluation shall end."""
        if self._is_stopped or (self._cancelled is not None and self._cancelled()):
            raise CallCancelledError("The evaluation was cancelled.")

    def reader(self, node: Source) -> Reader:
        """Return the reader of a source, opened once."""
        key = (node.array_id, node.version, node.level)
        with self._lock:
            if key not in self._readers:
                self._readers[key] = self._open(node)
            return self._readers[key]


class Evaluation:
    """Computes regions, one after the other, in one thread.

    Parameters
    ----------
    run : Run
        What it belongs to.
    estimates : Estimates
        With the share of the budget that one thread has.
    helpers : int
        Threads that take steps of a reduction for this one.
    parent : Evaluation, optional
        Whose tile this one helps with.
    """

    def __init__(
        self, run: Run, estimates: Estimates, *, helpers: int = 0, parent: Evaluation | None = None
    ) -> None:
        self._run = run
        self._budget = estimates.budget
        self._estimates = estimates
        self._helpers = helpers
        self._kept: Kept = parent._kept if parent is not None else Kept(estimates.budget.kept_bytes)

    def begin_tile(self, group: Sequence[Expression], box: Region) -> None:
        """Compute what this tile uses more than once, where there is room to keep it."""
        self._kept.forget()
        if not self._run.shared:
            return
        needed = demand([(node, box) for node in group], joined=True)
        self._check_visits(group, needed)
        for node in walk(group):
            if node in self._run.shared and node in needed and count(needed[node][0]):
                shape = lengths(needed[node][0])
                fits = self._estimates.peak(node, shape) <= self._budget.most_bytes
                if fits and self._kept.has_room(nbytes(shape, node.dtype.itemsize)):
                    self._kept.keep(node, needed[node][0], self.read(node, needed[node][0]))

    def _check_visits(self, group: Sequence[Expression], needed: dict[Expression, list[Region]]) -> None:
        """Refuse graphs whose shared nodes are so many and large that computing them again never ends."""
        room = self._budget.kept_bytes
        visits: dict[Expression, int] = dict.fromkeys(group, 1)
        for node in reversed(walk(group)):
            visited = visits.get(node, 0)
            shape = lengths(needed[node][0]) if node in needed else (0,)
            size = nbytes(shape, node.dtype.itemsize)
            fits = size <= room and self._estimates.peak(node, shape) <= self._budget.most_bytes
            if node in self._run.shared and fits:
                room -= size
                visited = 1
            if visited > MAX_VISITS:
                raise ResourceExhaustedError(
                    "The expression uses large parts of itself too often. Compute a part of it first.",
                    field="expression",
                )
            for item in node.inputs:
                visits[item] = visits.get(item, 0) + visited

    def steps(self, node: Operation, kept: tuple[int, ...]) -> Steps:
        """Return the boxes along the reduced axes in which the input of a reduction is read."""
        return self._estimates.steps(node, kept, whole_chunks=False)

    def each(
        self, parts: Callable[[Context, tuple[range, ...]], Iterable[Part]], steps: Steps, part_bytes: int
    ) -> Iterator[Part]:
        """Yield what `parts` gives for every step, in order; helpers take steps ahead."""
        if not self._helpers or part_bytes > self._budget.step_bytes:
            for box in steps:
                yield from parts(self, box)
            return
        helper = Evaluation(self._run, self._estimates, parent=self)

        def take(box: tuple[range, ...]) -> list[Part]:
            return list(parts(helper, box))

        for found in in_order(take, steps, self._helpers, self._run.stop):
            yield from found

    def read_into(self, node: Expression, region: Region, out: NDArray[Any]) -> None:
        """Write the elements of a region into `out`."""
        if not out.size:
            return
        if not is_stored(node) or self._kept.find(node, region) is not None:
            out[...] = self.read(node, region)
            return
        self._run.check()
        if isinstance(node, Source):
            read_region(self._run.reader(node), region, out)
        else:
            assert isinstance(node, Operation)
            source, selection = node.inputs[0], node.parameters["selection"]
            assert isinstance(source, Source)
            assert isinstance(selection, tuple)
            (needed,) = OPERATORS["select"].pull(node, region)
            assert needed is not None
            view = part_of(out, [None if isinstance(item, int) else slice(None) for item in selection])
            read_region(self._run.reader(source), needed, view)

    def read(self, node: Expression, region: Region) -> NDArray[Any]:
        """Return the elements of a region, kept or computed; not to be written to."""
        self._run.check()
        if not count(region):
            return np.empty(lengths(region), node.dtype)
        if isinstance(node, Constant):
            return _constant(node, region)
        found = self._kept.find(node, region)
        if found is not None:
            return found
        if isinstance(node, Source):
            return read_region(self._run.reader(node), region)
        return self._run.repeated.get(node, region, lambda: self._compute(node, region))

    def _compute(self, node: Expression, region: Region) -> NDArray[Any]:
        assert isinstance(node, Operation)
        with np.errstate(all="ignore"):
            return OPERATORS[node.op].block(node, region, self)


def part_of(array: NDArray[Any], keys: Sequence[slice | None]) -> NDArray[Any]:
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
