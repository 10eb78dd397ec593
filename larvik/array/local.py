"""Evaluation in this process, from readers that are opened when an expression asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from larvik.array.budget import Budget
from larvik.array.evaluate import compute, evaluate
from larvik.array.planner import Plan, plan
from larvik.errors import NotFoundError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from larvik.array.evaluator import Cancelled, Reader
    from larvik.array.expression import Expression, Source

#: URL of arrays that are values in memory and belong to no connection.
MEMORY_URL = "memory:"


class LocalEvaluator:
    """The `Evaluator` of embedded connections.

    Parameters
    ----------
    open_source : callable
        Returns the reader of a stored level; called once per source and evaluation.
    url : str
        URL of the connection, by which pickled arrays find it again.
    budget : Budget, optional
        Memory of one evaluation beside its results.

    Notes
    -----
    Holds no state of its own: thread-safe and safe after ``fork`` where `open_source` is.
    """

    def __init__(
        self, open_source: Callable[[Source], Reader], url: str, *, budget: Budget | None = None
    ) -> None:
        self.url = url
        self._open = open_source
        self._budget = budget or Budget()

    def evaluate(
        self, expressions: Sequence[Expression], *, cancelled: Cancelled | None = None
    ) -> list[NDArray[Any]]:
        """Return the value of each expression; what they share is computed once."""
        return compute(expressions, self._open, budget=self._budget, cancelled=cancelled)

    def blocks(
        self, expression: Expression, block_bytes: int, *, cancelled: Cancelled | None = None
    ) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
        """Yield the value in blocks of about `block_bytes`, with where each begins."""
        return evaluate(
            expression, self._open, budget=self._budget, block_bytes=block_bytes, cancelled=cancelled
        )

    def explain(self, expression: Expression) -> Plan:
        """Return the plan: there is one place, unless Dask is asked for."""
        return plan(expression, remote=False)

    def reader(self, source: Source) -> Reader:
        """Return a reader of a stored level."""
        return self._open(source)


def _nothing_stored(source: Source) -> Reader:
    raise NotFoundError(
        f"The array {source.array_id} belongs to no connection of this process.",
        reason="ARRAY_NOT_FOUND",
        array_id=source.array_id,
    )


#: Evaluates expressions of constants alone.
MEMORY = LocalEvaluator(_nothing_stored, MEMORY_URL)
