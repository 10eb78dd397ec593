"""What records NumPy's functions on lazy arrays: shapes, casts, joins, choices, arrays like others."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from larvik.array import dask_bridge
from larvik.array.dispatch import NO_VALUE, apply_function, apply_ufunc, handles, lazy
from larvik.array.expression import Constant, as_dtype
from larvik.array.lazy import LazyArray, NotRecordedError, apply
from larvik.array.local import MEMORY
from larvik.array.record import record
from larvik.errors import InvalidArgumentError

__all__ = ["apply_function", "apply_ufunc", "astype"]


@handles(np.shape)
def _shape(array: Any) -> tuple[int, ...]:
    return tuple(array.shape)


@handles(np.ndim)
def _ndim(array: Any) -> int:
    return int(array.ndim)


@handles(np.size)
def _size(array: Any, axis: Any = None) -> int:
    if axis is None:
        return int(array.size)
    return int(np.prod([array.shape[item] for item in normalize_axis_tuple(axis, array.ndim)]))


@handles(np.result_type)
def _result_type(*values: Any) -> np.dtype[Any]:
    return np.result_type(*(item.dtype if isinstance(item, LazyArray) else item for item in values))


@handles(np.can_cast)
def _can_cast(value: Any, to: Any, casting: Any = "safe") -> bool:
    return bool(np.can_cast(value.dtype if isinstance(value, LazyArray) else value, to, casting))


@handles(np.iscomplexobj)
def _iscomplexobj(array: Any) -> bool:
    return bool(array.dtype.kind == "c")


@handles(np.isrealobj)
def _isrealobj(array: Any) -> bool:
    return bool(array.dtype.kind != "c")


@handles(np.real)
def _real(array: Any) -> Any:
    return array.real


@handles(np.imag)
def _imag(array: Any) -> Any:
    return array.imag


@handles(np.copy, np.asarray, np.array, np.asanyarray, np.ascontiguousarray)
def _same(array: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
    # Called with like=: NumPy passes what is to become an array like ours.
    if not isinstance(array, LazyArray):
        array = LazyArray(Constant(np.asarray(array)), MEMORY)
    return array if dtype is None or (isinstance(dtype, str) and dtype in "KACF") else array.astype(dtype)


@handles(np.astype)
def _astype(array: LazyArray, dtype: Any, /, *, copy: bool = True, device: Any = None) -> LazyArray:
    return astype(array, dtype)


def astype(array: LazyArray, dtype: Any, casting: Any = "unsafe") -> LazyArray:
    """Record a cast; NumPy's TypeError for one that `casting` forbids."""
    wanted = np.dtype(dtype)
    if not np.can_cast(array.dtype, wanted, casting):
        raise TypeError(
            f"Cannot cast array data from {array.dtype!r} to {wanted!r} according to the rule {casting!r}"
        )
    if wanted == array.dtype:
        return array
    try:
        as_dtype(wanted)
        return apply("astype", [lazy(array)], {"dtype": wanted.name})
    except (NotRecordedError, InvalidArgumentError):
        cast: Callable[[Any], Any] = operator.methodcaller("astype", wanted)
        found: LazyArray = dask_bridge.call(cast, [array], {}, "astype")
        return found


@handles(np.transpose)
def _transpose(array: Any, axes: Any = None) -> LazyArray:
    own = lazy(array)
    if axes is None:
        order = tuple(reversed(range(own.ndim)))
    else:
        order = tuple(normalize_axis_index(operator.index(axis), own.ndim) for axis in axes)
    return own if order == tuple(range(own.ndim)) else apply("transpose", [own], {"axes": order})


@handles(np.swapaxes)
def _swapaxes(array: Any, axis1: int, axis2: int) -> LazyArray:
    order = list(range(array.ndim))
    first, second = normalize_axis_index(axis1, array.ndim), normalize_axis_index(axis2, array.ndim)
    order[first], order[second] = second, first
    return _transpose(array, order)


@handles(np.moveaxis)
def _moveaxis(array: Any, source: Any, destination: Any) -> LazyArray:
    froms = normalize_axis_tuple(source, array.ndim, "source")
    tos = normalize_axis_tuple(destination, array.ndim, "destination")
    if len(froms) != len(tos):
        raise ValueError("moveaxis needs as many destinations as sources")
    order = [axis for axis in range(array.ndim) if axis not in froms]
    for to, axis in sorted(zip(tos, froms, strict=True)):
        order.insert(to, axis)
    return _transpose(array, order)


@handles(np.reshape)
def _reshape(
    array: Any, /, shape: Any = None, order: Any = "C", *, newshape: Any = None, copy: Any = None
) -> LazyArray:
    own = lazy(array)
    if order not in ("C", "A", None):
        raise NotRecordedError
    wanted = _sizes(shape if shape is not None else newshape, own.size)
    return own if wanted == own.shape else apply("reshape", [own], {"shape": wanted})


def _sizes(shape: Any, count: int) -> tuple[int, ...]:
    """Return a shape for `count` elements, its -1 worked out."""
    given = [shape] if hasattr(shape, "__index__") else shape
    sizes = [operator.index(item) for item in given]
    if sizes.count(-1) == 1:
        rest = math.prod(size for size in sizes if size != -1)
        if rest <= 0 or count % rest:
            raise InvalidArgumentError(
                f"{count} elements do not fit the shape {tuple(sizes)}.",
                reason="EXPRESSION_INVALID",
                field="shape",
            )
        sizes[sizes.index(-1)] = count // rest
    return tuple(sizes)


@handles(np.ravel)
def _ravel(array: Any, order: str = "C") -> LazyArray:
    return _reshape(array, -1, order)


@handles(np.squeeze)
def _squeeze(array: Any, axis: Any = None) -> LazyArray:
    ones = [number for number, size in enumerate(array.shape) if size == 1]
    axes = ones if axis is None else list(normalize_axis_tuple(axis, array.ndim))
    if not set(axes) <= set(ones):
        raise InvalidArgumentError(
            f"Axes {axes} of shape {array.shape} cannot be squeezed: they have not one element.",
            reason="EXPRESSION_INVALID",
            field="axis",
        )
    return _reshape(array, tuple(size for number, size in enumerate(array.shape) if number not in axes))


@handles(np.expand_dims)
def _expand_dims(array: Any, axis: Any) -> LazyArray:
    axis = axis if isinstance(axis, tuple | list) else (axis,)
    axes = normalize_axis_tuple(axis, array.ndim + len(axis))
    sizes = iter(array.shape)
    return _reshape(
        array, tuple(1 if number in axes else next(sizes) for number in range(array.ndim + len(axes)))
    )


@handles(np.broadcast_to)
def _broadcast_to(array: Any, shape: Any, subok: bool = False) -> LazyArray:
    own = lazy(array)
    wanted = (shape,) if isinstance(shape, int) else tuple(int(size) for size in shape)
    return own if wanted == own.shape else apply("broadcast_to", [own], {"shape": wanted})


@handles(np.broadcast_arrays)
def _broadcast_arrays(*arrays: Any, subok: bool = False) -> tuple[LazyArray, ...]:
    shape = np.broadcast_shapes(*(np.shape(array) for array in arrays))
    return tuple(_broadcast_to(array, shape) for array in arrays)


@handles(np.concatenate)
def _concatenate(
    arrays: Sequence[Any], axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = None
) -> LazyArray:
    if axis is None:
        arrays, axis = [_ravel(array) for array in arrays], 0
    axis = normalize_axis_index(axis, max(np.ndim(array) for array in arrays))
    result = apply("concatenate", [*arrays], {"axis": axis})
    return result if dtype is None else result.astype(dtype)


@handles(np.stack)
def _stack(
    arrays: Sequence[Any], axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = None
) -> LazyArray:
    axis = normalize_axis_index(axis, np.ndim(arrays[0]) + 1)
    return _concatenate(
        [
            _expand_dims(array if isinstance(array, LazyArray) else np.asarray(array), axis)
            for array in arrays
        ],
        axis,
        dtype=dtype,
    )


@handles(np.flip)
def _flip(array: Any, axis: Any = None) -> Any:
    axes = range(array.ndim) if axis is None else normalize_axis_tuple(axis, array.ndim)
    return array[
        tuple(slice(None, None, -1) if number in axes else slice(None) for number in range(array.ndim))
    ]


@handles(np.take)
def _take(array: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    if mode != "raise":
        raise NotRecordedError
    if axis is None:
        array, axis = _ravel(array), 0
    picked = indices if isinstance(indices, int | np.integer) else np.asarray(indices)
    return lazy(array)[(slice(None),) * normalize_axis_index(axis, array.ndim) + (picked,)]


@handles(np.where)
def _where(condition: Any, x: Any = NO_VALUE, y: Any = NO_VALUE) -> LazyArray:
    if x is NO_VALUE or y is NO_VALUE:
        raise InvalidArgumentError(
            "where() with a condition alone has a result of unknown shape. Compute the condition first.",
            reason="EXPRESSION_INVALID",
            field="x",
        )
    return apply("where", [condition, x, y])


@handles(np.clip)
def _clip(array: Any, a_min: Any = None, a_max: Any = None, out: Any = None, **kwargs: Any) -> LazyArray:
    low = kwargs.pop("min", None) if a_min is None or a_min is NO_VALUE else a_min
    high = kwargs.pop("max", None) if a_max is None or a_max is NO_VALUE else a_max
    low, high = (None if value is NO_VALUE else value for value in (low, high))
    kwargs = {key: value for key, value in kwargs.items() if value is not None and value is not NO_VALUE}
    if kwargs.keys() - {"dtype"}:
        raise NotRecordedError
    parameters = {"dtype": np.dtype(kwargs["dtype"]).name} if "dtype" in kwargs else {}
    if low is None and high is None:
        return lazy(array)
    if low is None or high is None:
        return apply(
            "minimum" if low is None else "maximum", [array, high if low is None else low], parameters
        )
    return apply("clip", [array, low, high], parameters)


@handles(np.round, np.around)
def _round(array: Any, decimals: int = 0, out: Any = None) -> LazyArray:
    return apply("round", [lazy(array)], {"decimals": operator.index(decimals)})


@handles(np.isclose)
def _isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> LazyArray:
    if not all(isinstance(value, int | float | np.number) for value in (rtol, atol)):
        raise NotRecordedError
    return apply("isclose", [a, b], {"rtol": float(rtol), "atol": float(atol), "equal_nan": bool(equal_nan)})


@handles(np.nan_to_num)
def _nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> LazyArray:
    given = {"nan": nan, "posinf": posinf, "neginf": neginf}
    return apply(
        "nan_to_num", [lazy(x)], {name: float(value) for name, value in given.items() if value is not None}
    )


def _filled(array: Any, value: Any, dtype: Any, shape: Any) -> LazyArray:
    wanted = np.dtype(array.dtype if dtype is None else dtype)
    sizes = array.shape if shape is None else tuple(np.atleast_1d(shape).tolist())
    try:
        element = Constant(np.asarray(value).astype(wanted).reshape(()))
    except InvalidArgumentError:
        raise NotRecordedError from None
    return LazyArray(record("broadcast_to", [element], {"shape": tuple(sizes)}), MEMORY)


@handles(np.full_like)
def _full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: Any = True,
    shape: Any = None,
    **_: Any,
) -> LazyArray:
    return _filled(a, fill_value, dtype, shape)


@handles(np.zeros_like, np.empty_like)
def _zeros_like(
    a: Any, dtype: Any = None, order: Any = "K", subok: Any = True, shape: Any = None, **_: Any
) -> LazyArray:
    return _filled(a, 0, dtype, shape)


@handles(np.ones_like)
def _ones_like(
    a: Any, dtype: Any = None, order: Any = "K", subok: Any = True, shape: Any = None, **_: Any
) -> LazyArray:
    return _filled(a, 1, dtype, shape)
