"""What a lazy array needs from its connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from larvik.array.expression import Expression, Source
    from larvik.array.planner import Plan


#: Asked now and then; True ends the evaluation with CallCancelledError.
Cancelled = Callable[[], bool]
#: Told how many elements are done, and how many there are.
Progress = Callable[[int, int], object]


class Reader(Protocol):
    """One level of one stored array, read by region."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dim."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements, native byte order."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Elements per dim of the unit of decoding."""

    def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        """Return the region, into `out` when given; one slice with a positive step per dim."""


class Evaluator(Protocol):
    """Evaluates recorded expressions: in this process, or wherever the plan says."""

    url: str

    def evaluate(
        self, expressions: Sequence[Expression], *, cancelled: Cancelled | None = None
    ) -> list[np.ndarray]:
        """Return the value of each expression; sub-expressions that they share are computed once.

        `cancelled` is asked now and then; when it says so, or the program is interrupted, the evaluation
        ends wherever it runs.
        """

    def blocks(
        self, expression: Expression, block_bytes: int, *, cancelled: Cancelled | None = None
    ) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Yield the value in blocks of about `block_bytes`, with where each begins; in bounded memory."""

    def explain(self, expression: Expression) -> Plan:
        """Return where `expression` would be evaluated, and why."""

    def reader(self, source: Source) -> Reader:
        """Return a reader of a stored level."""
