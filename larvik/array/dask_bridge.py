"""Between lazy arrays and Dask: what is not recorded runs there, over blocks that are NumPy arrays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Operation, Source, walk
from larvik.array.options import evaluating, options
from larvik.array.selection import index
from larvik.errors import LarvikError, UnsupportedError

if TYPE_CHECKING:
    from larvik.array.lazy import LazyArray


class RegionView:
    """A lazy array as Dask's ``from_array`` wants it: shape, dtype and regions as NumPy arrays.

    Has no ``__array_function__``, so Dask turns every block into a real array inside its task.

    Parameters
    ----------
    array : LazyArray
        What is viewed.
    place : str
        Where a task evaluates its block: wherever that is cheapest, or, with "client", itself.
    """

    def __init__(self, array: LazyArray, place: str = "auto") -> None:
        self._array = array
        self._place = place
        self.shape = array.shape
        self.dtype = array.dtype
        self.ndim = array.ndim
        self.chunks = array.chunks

    def __getitem__(self, key: Any) -> NDArray[Any]:
        with evaluating(self._place):
            return self._array[key].compute()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        value = self[...]
        return value if dtype is None else value.astype(dtype, copy=False)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "larvik-region", self._array.token

    def __len__(self) -> int:
        return len(self._array)


def require_dask(what: str) -> Any:
    """Return the module ``dask.array``.

    Raises
    ------
    UnsupportedError
        ``OPERATION_UNSUPPORTED``, when Dask is not installed; names the extra.
    """
    try:
        import dask.array
    except ImportError:
        raise UnsupportedError(
            f"{what} runs in Dask, which is not installed. Install larvik[dask], or load the array first "
            "with .compute()."
        ) from None
    return dask.array


def to_dask(array: LazyArray, what: str = "A Dask array") -> Any:
    """Return a Dask array with the chunks of `array`; its blocks are NumPy arrays.

    Notes
    -----
    Lazy. What was recorded so far is evaluated block by block inside Dask's tasks.
    """
    dask_array = require_dask(what)
    if array.dask is not None:
        return array.dask
    view = RegionView(array, "client" if options().evaluate == "dask" else "auto")
    meta = np.empty((0,) * array.ndim, array.dtype)
    return dask_array.from_array(view, chunks=array.chunks, name=f"larvik-{array.token}", meta=meta)


def call(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], what: str) -> Any:
    """Call `function` with Dask arrays for the lazy ones in its arguments; wrap what Dask returns.

    Raises
    ------
    UnsupportedError
        ``OPERATION_UNSUPPORTED``, when Dask cannot do it without reading everything.
    """
    from larvik.array.lazy import LazyArray

    dask_array = require_dask(what)

    def unwrap(value: Any) -> Any:
        if isinstance(value, LazyArray):
            return to_dask(value)
        if type(value) in (list, tuple):
            return type(value)(unwrap(item) for item in value)
        if type(value) is dict:
            return {key: unwrap(item) for key, item in value.items()}
        return value

    def wrap(value: Any) -> Any:
        if isinstance(value, dask_array.Array):
            return LazyArray.wrapping(value)
        if type(value) in (list, tuple):
            return type(value)(wrap(item) for item in value)
        return value

    try:
        with warnings.catch_warnings():
            # Dask's stand-in for what it lacks is to compute its operands, at once and without being asked.
            warnings.filterwarnings(
                "error", message=".*is not implemented by Dask array", category=FutureWarning
            )
            return wrap(function(*unwrap(list(args)), **unwrap(kwargs)))
    except LarvikError:
        raise
    except (NotImplementedError, FutureWarning, AttributeError) as error:
        raise UnsupportedError(
            f"{what} is neither recorded nor known to Dask. Load the array first, with .compute()."
        ) from error


def compute_dask(arrays: Sequence[Any], **settings: Any) -> list[NDArray[Any]]:
    """Return the values of Dask arrays, computed together."""
    require_dask("This array")
    from larvik.array.cluster import compute_graphs

    return compute_graphs(arrays, **settings)


def getitem(array: Any, key: Any) -> Any:
    """Index a Dask array as a lazy array is indexed: NumPy's order of axes, our errors."""
    if any(math.isnan(size) for size in array.shape):
        return array[key]  # sizes that only computing tells, such as those of a boolean selection
    shape = tuple(int(size) for size in array.shape)
    for node in walk([index(Source("dask", 0, 0, shape, "bool", (1,) * len(shape)), key)]):
        if isinstance(node, Operation):
            array = _INDEXING[node.op](array, node.parameters)
    return array


def _select(array: Any, parameters: Mapping[str, Any]) -> Any:
    selection = parameters["selection"]
    for axis, item in enumerate(selection):
        if isinstance(item, np.ndarray):
            array = array[(slice(None),) * axis + (item,)]
    return array[tuple(_basic(item) for item in selection)]


def _basic(item: Any) -> int | slice:
    if isinstance(item, range):
        return slice(item.start, item.stop if item.stop >= 0 else None, item.step)
    return item if isinstance(item, int) else slice(None)


def _pointwise(array: Any, parameters: Mapping[str, Any]) -> Any:
    axes, points, at = parameters["axes"], parameters["points"], parameters["at"]
    positions = dict(zip(axes, np.split(parameters["positions"], len(axes)), strict=True))
    picked = array.vindex[
        tuple(
            positions[axis].reshape(points) if axis in positions else slice(None)
            for axis in range(array.ndim)
        )
    ]
    return np.moveaxis(picked, range(len(points)), range(at, at + len(points)))


#: What `larvik.array.selection.index` records, done by Dask.
_INDEXING: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "select": _select,
    "pointwise": _pointwise,
    "transpose": lambda array, parameters: array.transpose(parameters["axes"]),
    "reshape": lambda array, parameters: array.reshape(parameters["shape"]),
}
