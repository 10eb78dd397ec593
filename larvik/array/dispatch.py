"""Where NumPy's calls on lazy arrays go: to what records them, else to Dask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from larvik.array import dask_bridge
from larvik.array.expression import Constant
from larvik.array.lazy import LazyArray, NotRecordedError, apply, evaluator_of
from larvik.array.operators import OPERATORS
from larvik.array.operators.elementwise import BINARY, UNARY
from larvik.array.operators.reduction import Reduction

#: What NumPy calls when a parameter was not given.
NO_VALUE = getattr(np, "_NoValue", None)
_UFUNC_REDUCTIONS = {
    "add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "fmax": "nanmax", "fmin": "nanmin",
    "logical_and": "all", "logical_or": "any",
}  # fmt: skip
_RECORDED_UFUNCS = {getattr(np, name): name for name in (*UNARY, *BINARY)}

Handler = TypeVar("Handler", bound=Callable[..., Any])

HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {}


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Record a ufunc or its ``reduce``; hand anything else to Dask."""
    if not all(_is_operand(item) for item in inputs):
        return NotImplemented
    _refuse_out(kwargs.pop("out", None))
    name = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    try:
        if method == "__call__" and ufunc in _RECORDED_UFUNCS and _is_recorded_call(kwargs):
            dtype = kwargs.get("dtype")
            parameters = {} if dtype is None else {"dtype": np.dtype(dtype).name}
            return apply(_RECORDED_UFUNCS[ufunc], inputs, parameters)
        if method == "reduce" and ufunc.__name__ in _UFUNC_REDUCTIONS:
            return reduce(_UFUNC_REDUCTIONS[ufunc.__name__], *inputs, **{"axis": 0, **kwargs})
    except NotRecordedError:
        pass
    return dask_bridge.call(getattr(ufunc, method), inputs, kwargs, name)


def apply_function(
    function: Callable[..., Any], types: Sequence[type], args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """Record a NumPy function; hand it to Dask where there is no node for it."""
    if not all(issubclass(kind, LazyArray | np.ndarray) or hasattr(kind, "__dask_graph__") for kind in types):
        return NotImplemented
    _refuse_out(kwargs.get("out"))
    handler = HANDLERS.get(function)
    if handler is not None:
        try:
            return handler(*args, **kwargs)
        except NotRecordedError:
            pass
    return dask_bridge.call(function, args, kwargs, f"numpy.{function.__name__}")


def _is_recorded_call(kwargs: Mapping[str, Any]) -> bool:
    return kwargs.keys() <= {"dtype", "casting"} and kwargs.get("casting", "same_kind") == "same_kind"


def _is_operand(item: Any) -> bool:
    plain = (LazyArray, np.ndarray, np.generic, bool, int, float, complex, list)
    return isinstance(item, plain) or (
        hasattr(item, "__dask_graph__") and hasattr(item, "chunks") and hasattr(item, "dask")
    )


def _refuse_out(out: Any) -> None:
    given = out if isinstance(out, tuple) else (out,)
    if any(item is not None and item is not NO_VALUE for item in given):
        raise TypeError("A lazy array has no values to write into out=. Compute it first, with .compute().")


def handles(*functions: Callable[..., Any]) -> Callable[[Handler], Handler]:
    """Register what records NumPy `functions`."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(functions, handler))
        return handler

    return register


def lazy(value: Any) -> LazyArray:
    """Return a recorded array; others belong to Dask."""
    if not isinstance(value, LazyArray):
        return LazyArray(Constant(np.asarray(value)), evaluator_of([]))
    if value.dask is not None:
        raise NotRecordedError
    return value


def reduce(name: str, array: Any, axis: Any = None, **kwargs: Any) -> LazyArray:
    """Record a reduction, called as NumPy's function of that name is."""
    array = lazy(array)
    kept = {key: value for key, value in kwargs.items() if value is not None and value is not NO_VALUE}
    kept.pop("out", None)
    operator_ = OPERATORS[name]
    assert isinstance(operator_, Reduction)
    if "correction" in kept:
        kept["ddof"] = kept.pop("correction")
    if kept.keys() - {"keepdims", "dtype", "ddof"}:
        raise NotRecordedError
    axes = tuple(range(array.ndim)) if axis is None else normalize_axis_tuple(axis, array.ndim)
    parameters: dict[str, Any] = {"axes": tuple(sorted(axes)), "keepdims": bool(kept.get("keepdims", False))}
    if operator_.has_ddof:
        parameters["ddof"] = float(kept.get("ddof", 0))
    if "dtype" in kept:
        parameters["dtype"] = np.dtype(kept["dtype"]).name
    return apply(name, [array], parameters)


#: What NumPy's reductions take by position after the array and the axis.
_POSITIONAL = {
    **dict.fromkeys(("sum", "nansum", "prod", "nanprod", "mean", "nanmean"), ("dtype", "out", "keepdims")),
    **dict.fromkeys(("var", "nanvar", "std", "nanstd"), ("dtype", "out", "ddof", "keepdims")),
}


def _reducer(name: str) -> Callable[..., LazyArray]:
    order = _POSITIONAL.get(name, ("out", "keepdims"))

    def record_reduction(array: Any, axis: Any = None, *args: Any, **kwargs: Any) -> LazyArray:
        if len(args) > len(order):
            raise NotRecordedError
        return reduce(name, array, axis, **dict(zip(order, args, strict=False)), **kwargs)

    return record_reduction


for _name, _operator in OPERATORS.items():
    if isinstance(_operator, Reduction):
        HANDLERS[getattr(np, _name)] = _reducer(_name)
