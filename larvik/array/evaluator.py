"""What a lazy array needs from its connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from larvik.array.expression import Expression, Source
    from larvik.array.planner import Plan


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

    def evaluate(self, expressions: Sequence[Expression]) -> list[np.ndarray]:
        """Return the value of each expression; sub-expressions that they share are computed once."""

    def explain(self, expression: Expression) -> Plan:
        """Return where `expression` would be evaluated, and why."""

    def reader(self, source: Source) -> Reader:
        """Return a reader of a stored level."""
