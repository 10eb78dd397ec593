"""What every operation of the closed registry can do: infer, cut into chunks, and compute a region."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Expression, Operation
from larvik.array.regions import Bounds, Grid, Region, boxes, cut_box, lengths, nbytes, whole

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Steps:
    """The boxes along the reduced axes in which the input of a reduction is read, in order.

    Attributes
    ----------
    bounds : tuple of Bounds
        Per reduced axis, on edges of chunks.
    inner : tuple of int or None
        Longest parts that each of these boxes is read in, where not even a chunk fits.
    """

    bounds: tuple[Bounds, ...]
    inner: tuple[int, ...] | None = None

    def __iter__(self) -> Iterator[tuple[range, ...]]:
        for box in boxes(self.bounds):
            yield from (box,) if self.inner is None else cut_box(box, self.inner)

    @property
    def longest(self) -> tuple[int, ...]:
        """The longest step along each axis."""
        if self.inner is not None:
            return self.inner
        return tuple(max((stop - start for start, stop in axis), default=0) for axis in self.bounds)


class Context(Protocol):
    """The running evaluation, as operators see it."""

    def read(self, node: Expression, region: Region) -> NDArray[np.generic]:
        """Return the elements of a region of a node; not to be written to."""

    def steps(self, node: Operation, kept: tuple[int, ...]) -> Steps:
        """Return the boxes along the reduced axes in which the input of a reduction is read."""

    def each(
        self, parts: Callable[[Context, tuple[range, ...]], Iterable[Part]], steps: Steps, part_bytes: int
    ) -> Iterator[Part]:
        """Yield what `parts` gives for every step, in order; several steps are taken at once where that pays.

        `parts` reads through the context that it is given. All that it gives for a step takes `part_bytes`.
        """


class Costs(Protocol):
    """The estimate of memory, as operators see it."""

    def peak(self, node: Expression, shape: tuple[int, ...]) -> int:
        """Return the bytes held at most while a region of `shape` is computed, itself included."""

    def steps(self, node: Operation, kept: tuple[int, ...]) -> Steps:
        """Return the boxes along the reduced axes in which the input of a reduction is read."""


class Operator(ABC):
    """One operation of the registry.

    Attributes
    ----------
    name : str
        Name of the operation, in expressions and on the wire.
    least, most : int
        Number of inputs.
    takes : mapping of str to type
        Parameters by name: ``bool``, ``int``, ``float``, ``str``, ``tuple`` (of int) or ``list``
        (of selectors).
    optional : set of str
        Parameters that may be left out.
    """

    takes: Mapping[str, type] = {}
    optional: frozenset[str] = frozenset()

    def __init__(self, name: str, least: int = 1, most: int = 1) -> None:
        self.name = name
        self.least = least
        self.most = most

    @abstractmethod
    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and dtype of the result, or raise what NumPy raises (ValueError, TypeError)."""

    @abstractmethod
    def grid(self, node: Operation) -> Grid:
        """Return the chunks of the result, from those of the inputs."""

    @abstractmethod
    def pull(self, node: Operation, region: Region) -> Sequence[Region | None]:
        """Return the region of each input that `region` needs; None where it needs nothing."""

    @abstractmethod
    def block(self, node: Operation, region: Region, context: Context) -> NDArray[Any]:
        """Return the elements of `region`, which is not empty."""

    def peak(self, node: Operation, shape: tuple[int, ...], costs: Costs) -> int:
        """Return the bytes held at most while a region of `shape` is computed, itself included."""
        held = most = 0
        for item, needed in zip(node.inputs, self.pull(node, whole(shape)), strict=True):
            if needed is not None:
                most = max(most, held + costs.peak(item, lengths(needed)))
                held += nbytes(lengths(needed), item.dtype.itemsize)
        return max(most, held + nbytes(shape, node.dtype.itemsize))
