"""Recorded expressions: immutable graphs of sources, constants and operations on them.

A node knows shape and dtype without any pixel. Nodes are shared, never copied, and compare by
identity; `Expression.token` tells whether two of them mean the same.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from larvik.array.spec import DTYPES
from larvik.errors import InvalidArgumentError

if TYPE_CHECKING:
    from larvik.array.regions import Grid

#: What is taken along one axis, in any order: a position (the axis is dropped), a range, or positions.
Selector = int | range | NDArray[np.int64]
#: A parameter of an operation.
Parameter = bool | int | float | str | tuple[int, ...] | tuple[Selector, ...]
#: A Python scalar, which takes the dtype of what it meets.
Weak = bool | int | float

#: Deepest chain of operations that one expression may hold.
MAX_DEPTH = 128
#: Most nodes of one expression.
MAX_NODES = 10_000
#: Most dims, and most elements of any node.
MAX_DIMS = 32
MAX_ELEMENTS = 2**50

DTYPE_OBJECTS = {name: np.dtype(name) for name in DTYPES}


class Expression(ABC):
    """A value that can be computed: its shape and dtype are known, its elements are not.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        One of `DTYPES`, native byte order.
    inputs : tuple of Expression
        What it is computed from.
    depth : int
        Length of the longest chain of operations below, 1 for a leaf.
    """

    __slots__ = ("__weakref__", "_grid", "_token", "depth", "dtype", "inputs", "shape")

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    inputs: tuple[Expression, ...]
    depth: int
    _token: str | None
    _grid: Grid | None

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[np.generic], inputs: tuple[Expression, ...] = ()
    ) -> None:
        check_shape(shape)
        self.shape = shape
        self.dtype = dtype
        self.inputs = inputs
        self.depth = 1 + max((node.depth for node in inputs), default=0)
        self._token = None
        self._grid = None

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements in memory."""
        return self.size * self.dtype.itemsize

    @property
    def token(self) -> str:
        """A hash of what is computed: equal for equal expressions, in every process."""
        for node in walk([self]) if self._token is None else ():
            if node._token is None:
                digest = hashlib.blake2b(digest_size=16)
                node._feed(digest)
                for item in node.inputs:
                    digest.update(str(item._token).encode())
                node._token = digest.hexdigest()
        assert self._token is not None
        return self._token

    @abstractmethod
    def _feed(self, digest: hashlib.blake2b) -> None:
        """Add what the node itself means, inputs apart, to the hash."""


class Source(Expression):
    """One level of a stored array.

    Parameters
    ----------
    array_id : str
        Id of the array.
    version : int
        Version of its pixels.
    level : int
        Index of the level, 0 for the finest.
    shape, chunks : tuple of int
        Elements per dim of the level, and of its inner chunks.
    dtype : str or numpy.dtype
        One of `DTYPES`.
    siblings : tuple of Source
        The other levels, where the caller knows them; not part of what the expression means.
    """

    __slots__ = ("array_id", "chunks", "level", "siblings", "version")

    def __init__(
        self,
        array_id: str,
        version: int,
        level: int,
        shape: Iterable[int],
        dtype: str | np.dtype[np.generic],
        chunks: Iterable[int],
        siblings: tuple[Source, ...] = (),
    ) -> None:
        super().__init__(tuple(shape), as_dtype(dtype))
        self.array_id = array_id
        self.version = version
        self.level = level
        self.chunks = tuple(chunks)
        self.siblings = siblings
        if len(self.chunks) != len(self.shape) or any(chunk < 1 for chunk in self.chunks):
            raise invalid(
                f"chunks are {self.chunks} for shape {self.shape}: one of at least 1 per dim is needed",
                "chunks",
            )

    def __repr__(self) -> str:
        return f"Source({self.array_id!r}, {self.version}, level={self.level}, {self.shape}, {self.dtype})"

    def _feed(self, digest: hashlib.blake2b) -> None:
        parts = (self.array_id, self.version, self.level, self.shape, self.dtype.name, self.chunks)
        digest.update(repr(("source", *parts)).encode())


class Constant(Expression):
    """A value in memory.

    Parameters
    ----------
    value : bool, int, float or numpy.ndarray
        A Python scalar is weak: it takes the dtype of what it meets. An array is copied unless
        `owned` says that nobody else will change it.
    """

    __slots__ = ("value", "weak")

    value: NDArray[np.generic] | Weak

    def __init__(self, value: Weak | NDArray[np.generic], *, owned: bool = False) -> None:
        self.weak = isinstance(value, bool | int | float) and not isinstance(value, np.generic)
        if self.weak:
            assert isinstance(value, bool | int | float)
            self.value = value
            super().__init__((), _weak_dtype(value))
            return
        array = np.asarray(value)
        dtype = as_dtype(array.dtype)
        array = array.astype(dtype, copy=not owned)
        array.flags.writeable = False
        self.value = array
        super().__init__(array.shape, dtype)

    def __repr__(self) -> str:
        return f"Constant({self.value!r})" if self.weak else f"Constant(shape={self.shape}, {self.dtype})"

    def _feed(self, digest: hashlib.blake2b) -> None:
        if isinstance(self.value, np.ndarray):
            digest.update(repr(("constant", self.shape, self.dtype.name)).encode())
            digest.update(np.ascontiguousarray(self.value).data)
        else:
            digest.update(repr(("weak", type(self.value).__name__, self.value)).encode())


class Operation(Expression):
    """What is computed from other expressions; made by `larvik.array.record.record`.

    Attributes
    ----------
    op : str
        Name in the closed registry of `larvik.array.operators`.
    parameters : mapping of str to Parameter
        Checked and normalised: axes count from 0, selectors lie inside.
    """

    __slots__ = ("op", "parameters")

    def __init__(
        self,
        op: str,
        inputs: tuple[Expression, ...],
        parameters: Mapping[str, Parameter],
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
    ) -> None:
        super().__init__(shape, as_dtype(dtype), inputs)
        self.op = op
        self.parameters = parameters

    def __repr__(self) -> str:
        return f"Operation({self.op!r}, shape={self.shape}, {self.dtype})"

    def _feed(self, digest: hashlib.blake2b) -> None:
        digest.update(repr(("operation", self.op)).encode())
        for name, value in sorted(self.parameters.items()):
            for item in (name, *value) if isinstance(value, tuple) else (name, value):
                # With its length first, or (2, 22) and (22, 2) would read the same.
                part = item.tobytes() if isinstance(item, np.ndarray) else repr(item).encode()
                digest.update(len(part).to_bytes(8, "little") + part)


def walk(roots: Iterable[Expression]) -> list[Expression]:
    """Return every node below `roots` once, inputs before what uses them."""
    order: list[Expression] = []
    seen: set[int] = set()
    stack = [(root, False) for root in roots][::-1]
    while stack:
        node, is_open = stack.pop()
        if is_open:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(item, False) for item in node.inputs if id(item) not in seen]
    return order


def sources(roots: Iterable[Expression]) -> list[Source]:
    """Return the stored levels that `roots` read, each node once."""
    return [node for node in walk(roots) if isinstance(node, Source)]


def as_dtype(dtype: object) -> np.dtype[np.generic]:
    """Return `dtype` as one that expressions hold.

    Raises
    ------
    InvalidArgumentError
        ``DTYPE_UNSUPPORTED``, for anything but the dtypes that Larvik stores.
    """
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", str(dtype))
    found = DTYPE_OBJECTS.get(name)
    if found is None:
        raise InvalidArgumentError(
            f"The dtype {name[:80]!r} cannot be recorded. There are: {', '.join(DTYPES)}.",
            reason="DTYPE_UNSUPPORTED",
            field="dtype",
        )
    return found


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse shapes that no array of ours has.

    Raises
    ------
    InvalidArgumentError
        ``EXPRESSION_INVALID``, for negative sizes, too many dims or too many elements.
    """
    if len(shape) > MAX_DIMS:
        raise invalid(f"has {len(shape)} dims; at most {MAX_DIMS} fit", "shape")
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise invalid(f"has the shape {shape}; at most 2**50 elements fit", "shape")


def invalid(problem: str, field: str) -> InvalidArgumentError:
    """Return the error of a malformed expression."""
    return InvalidArgumentError(f"The expression {problem}.", reason="EXPRESSION_INVALID", field=field)


def _weak_dtype(value: Weak) -> np.dtype[np.generic]:
    if isinstance(value, bool):
        return DTYPE_OBJECTS["bool"]
    if isinstance(value, float):
        return DTYPE_OBJECTS["float64"]
    if not -(2**63) <= value < 2**64:
        raise invalid("holds a whole number that does not fit 64 bits", "constant")
    return DTYPE_OBJECTS["int64" if value < 2**63 else "uint64"]
