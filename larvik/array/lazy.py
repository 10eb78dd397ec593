"""The recording array: looks like a NumPy array, holds an expression, reads when its values are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from larvik.array import dask_bridge
from larvik.array.computing import compute_all
from larvik.array.expression import MAX_DEPTH, Constant, Expression
from larvik.array.grids import grid_of
from larvik.array.local import MEMORY
from larvik.array.record import record
from larvik.array.selection import index
from larvik.array.serial import from_dict, to_dict
from larvik.errors import InvalidArgumentError

if TYPE_CHECKING:
    from larvik.array.evaluator import Evaluator


#: Memory of the host, first device, in DLPack's numbers.
_CPU = (1, 0)
#: Operations that a recorded array leaves room for: Dask's tasks select from what was recorded before.
SPARE_DEPTH = 16


class NotRecordedError(Exception):
    """An operation without a node of its own: it runs in Dask."""


class LazyArray(NDArrayOperatorsMixin):
    """An array that is computed when its values are asked for.

    Parameters
    ----------
    expression : Expression
        What is computed.
    evaluator : Evaluator or str
        What computes it, or the URL of the connection that does.

    Notes
    -----
    Indexing, reductions, arithmetic and the rest of the registry are recorded; what is not recorded
    runs in Dask and comes back as a lazy array too. Values are read by `compute`, ``numpy.asarray``,
    ``float`` and the like, never by anything else. Immutable. A pickle holds the URL and the
    expression, and no token. `copy` gives a plain reader of regions, because Dask's ``from_array``
    asks for one that way; ``dask.compute`` does not know lazy arrays, `to_dask` is the bridge.
    """

    __slots__ = ("__weakref__", "_dask", "_evaluator", "_expression")

    #: Binary operators of NumPy arrays leave the work to this class.
    __array_priority__ = 1000

    def __init__(self, expression: Expression, evaluator: Evaluator | str) -> None:
        self._expression: Expression = expression
        self._evaluator = evaluator
        self._dask: Any = None

    @classmethod
    def wrapping(cls, dask_array: Any) -> LazyArray:
        """Return a lazy array whose values a Dask array gives."""
        array = cls.__new__(cls)
        array._dask = dask_array
        array._evaluator = MEMORY
        return array

    @property
    def dask(self) -> Any:
        """The Dask array behind, when the last operation was not recorded; else None."""
        return self._dask

    @property
    def expression(self) -> Expression | None:
        """What is computed; None when Dask computes it."""
        return self._expression if self._dask is None else None

    @property
    def evaluator(self) -> Evaluator:
        """What computes the expression; found by its URL after unpickling."""
        if isinstance(self._evaluator, str):
            from larvik.connection import evaluator_for

            self._evaluator = evaluator_for(self._evaluator)
        return self._evaluator

    @property
    def url(self) -> str:
        """URL of the connection whose arrays are read."""
        return self._evaluator if isinstance(self._evaluator, str) else self._evaluator.url

    @property
    def token(self) -> str:
        """A hash of what is computed, equal in every process."""
        return str(self._dask.name) if self._dask is not None else f"{self._expression.token}"

    # What it looks like: nothing of this reads.

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dim."""
        return tuple(self._dask.shape) if self._dask is not None else self._expression.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return np.dtype(self._dask.dtype) if self._dask is not None else self._expression.dtype

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of the chunks along each dim, aligned with the stored ones."""
        return self._dask.chunks if self._dask is not None else grid_of(self._expression)

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements in memory."""
        return self.size * self.itemsize

    @property
    def T(self) -> LazyArray:  # noqa: N802  # NumPy's name
        """The array with its dims in reverse order."""
        return self.transpose()

    @property
    def real(self) -> LazyArray:
        """The array itself: recorded dtypes are real."""
        return LazyArray.wrapping(self._dask.real) if self._dask is not None else self

    @property
    def imag(self) -> LazyArray:
        """Zeros, or the imaginary part that Dask computes."""
        return LazyArray.wrapping(self._dask.imag) if self._dask is not None else _call(np.zeros_like, self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without dims")
        return self.shape[0]

    def __iter__(self) -> Iterator[LazyArray]:
        return (self[position] for position in range(len(self)))

    def __repr__(self) -> str:
        origin = "Dask" if self._dask is not None else self.url
        return f"<LazyArray shape={self.shape} dtype={self.dtype} of {origin}>"

    def _repr_inline_(self, max_width: int) -> str:
        chunk = tuple(max(sizes, default=0) for sizes in self.chunks)
        return f"larvik.LazyArray<chunks={chunk}>"[:max_width]

    # Identity.

    def __copy__(self) -> LazyArray:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyArray:
        return self

    def copy(self, order: str = "K") -> dask_bridge.RegionView:
        """Return a reader of regions; Dask's ``from_array`` asks for one by this name."""
        return dask_bridge.RegionView(self)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "larvik", self.token

    def __reduce__(self) -> tuple[Callable[..., LazyArray], tuple[Any, ...]]:
        if self._dask is not None:
            return LazyArray.wrapping, (self._dask,)
        return _reopen, (self.url, to_dict([self._expression]))

    # Values: everything below reads.

    def compute(self) -> NDArray[Any]:
        """Return the values, evaluated where `set_options` or the planner says."""
        return compute_all([self])[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("A lazy array has no values yet that could be shared without a copy.")
        value = self.compute()
        return value if dtype is None else value.astype(dtype, copy=False)

    def __dlpack__(self, *, copy: bool | None = None, **kwargs: Any) -> Any:
        if copy is False:
            raise BufferError("A lazy array has no values yet that could be shared without a copy.")
        return self.compute().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU

    def item(self, *args: int) -> Any:
        """Return one element as a Python scalar."""
        return self.compute().item(*args)

    def __bool__(self) -> bool:
        return bool(self.compute())

    def __float__(self) -> float:
        return float(self.compute())

    def __int__(self) -> int:
        return int(self.compute())

    def __complex__(self) -> complex:
        return complex(self.compute())

    def __index__(self) -> int:
        return self.compute().__index__()

    # Recording.

    def __getitem__(self, key: Any) -> LazyArray:
        if self._dask is not None:
            return LazyArray.wrapping(dask_bridge.getitem(self._dask, key))
        return self._with(index(self._expression, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "Lazy arrays cannot be assigned to: stored pixels are immutable. Compute a copy first."
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from larvik.array.functions import apply_ufunc

        return apply_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        from larvik.array.functions import apply_function

        return apply_function(func, types, args, dict(kwargs))

    def _with(self, expression: Expression) -> LazyArray:
        return self if expression is self._expression else LazyArray(expression, self._evaluator)

    def __pow__(self, other: Any) -> LazyArray:
        return _power(self, other)

    def __rpow__(self, other: Any) -> LazyArray:
        return _power(other, self)

    def astype(
        self, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
    ) -> LazyArray:
        """Return the values as another dtype."""
        from larvik.array.functions import astype

        return astype(self, dtype, casting)

    def transpose(self, *axes: Any) -> LazyArray:
        """Return the array with its dims in another order."""
        return _call(
            np.transpose, self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        )

    def reshape(self, *shape: Any, order: str = "C") -> LazyArray:
        """Return the elements in C order, in another shape."""
        return _call(np.reshape, self, shape[0] if len(shape) == 1 else shape, order=order)

    def ravel(self, order: str = "C") -> LazyArray:
        """Return the elements in C order along one dim."""
        return self.reshape(-1, order=order)

    def squeeze(self, axis: Any = None) -> LazyArray:
        """Return the array without dims of one element."""
        return _call(np.squeeze, self, axis)

    def clip(self, min: Any = None, max: Any = None, **kwargs: Any) -> LazyArray:
        """Return the values limited to an interval."""
        return _call(np.clip, self, min, max, **kwargs)

    def round(self, decimals: int = 0) -> LazyArray:
        """Return the values rounded."""
        return _call(np.round, self, decimals)

    def conj(self) -> LazyArray:
        """Return the values: recorded dtypes are real."""
        return _call(np.conjugate, self)

    conjugate = conj


def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> LazyArray:
    """Call a NumPy function that is dispatched to `LazyArray`."""
    result = function(*args, **kwargs)
    assert isinstance(result, LazyArray)
    return result


def _reduction(name: str) -> Callable[..., LazyArray]:
    def reduce(self: LazyArray, axis: Any = None, **kwargs: Any) -> LazyArray:
        return _call(getattr(np, name), self, axis=axis, **kwargs)

    reduce.__name__ = name
    reduce.__doc__ = f"Return ``numpy.{name}`` of the array, recorded."
    return reduce


for _name in ("max", "min", "sum", "mean", "std", "var", "any", "all", "prod", "argmax", "argmin"):
    setattr(LazyArray, _name, _reduction(_name))


def _rebinding(symbol: str) -> Callable[[LazyArray, Any], Any]:
    def rebind(self: LazyArray, other: Any) -> Any:
        return getattr(self, f"__{symbol}__")(other)

    rebind.__name__ = f"__i{symbol}__"
    return rebind


for _name in (
    "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and",
    "xor", "or",
):  # fmt: skip
    # NumPy's own would write into the left operand; here the name is bound to a new array.
    setattr(LazyArray, f"__i{_name}__", _rebinding(_name))


def apply(op: str, operands: Sequence[Any], parameters: Mapping[str, Any] | None = None) -> LazyArray:
    """Record `op` on operands: lazy arrays, arrays, scalars.

    Raises
    ------
    NotRecordedError
        When an operand belongs to Dask or to another connection, or a dtype is not one of ours.
    """
    expressions = [as_expression(operand) for operand in operands]
    if max(expression.depth for expression in expressions) >= MAX_DEPTH - SPARE_DEPTH:
        raise NotRecordedError
    try:
        return LazyArray(record(op, expressions, parameters), evaluator_of(operands))
    except InvalidArgumentError as error:
        if error.reason == "DTYPE_UNSUPPORTED":
            raise NotRecordedError from error
        raise


def as_expression(operand: Any) -> Expression:
    """Return an operand as a node."""
    if isinstance(operand, LazyArray):
        if operand.expression is None:
            raise NotRecordedError
        return operand.expression
    if hasattr(operand, "__dask_graph__") or operand is None:
        raise NotRecordedError
    try:
        return Constant(operand if type(operand) in (bool, int, float) else np.asarray(operand))
    except InvalidArgumentError:
        raise NotRecordedError from None


def evaluator_of(operands: Sequence[Any]) -> Evaluator | str:
    """Return what evaluates an operation on `operands`; arrays of two connections meet in Dask."""
    found: LazyArray | None = None
    for operand in operands:
        if isinstance(operand, LazyArray) and operand._evaluator is not MEMORY:
            if found is not None and found.url != operand.url:
                raise NotRecordedError
            found = operand
    return found._evaluator if found is not None else MEMORY


def _power(base: Any, exponent: Any) -> LazyArray:
    try:
        return apply("pow", [base, exponent])
    except NotRecordedError:
        return dask_bridge.call(lambda a, b: a**b, [base, exponent], {}, "This power")  # type: ignore[no-any-return]  # a lazy array


def _reopen(url: str, payload: Mapping[str, Any]) -> LazyArray:
    (expression,) = from_dict(payload)
    return LazyArray(expression, MEMORY if url == MEMORY.url else url)
