"""The accessor ``da.larvik``: what is recorded, where it would run, and the way to Dask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from larvik.array.dask_bridge import to_dask
from larvik.array.lazy import LazyArray
from larvik.array.options import options
from larvik.array.planner import Plan, plan
from larvik.errors import PreconditionError, UnsupportedError

if TYPE_CHECKING:
    import xarray as xr

    from larvik.array.expression import Expression


class LarvikAccessor:
    """What Larvik knows of a DataArray.

    Parameters
    ----------
    array : DataArray
        Whose data is a lazy array.
    """

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    @property
    def _lazy(self) -> LazyArray:
        data = self._array.variable._data
        if not isinstance(data, LazyArray):
            raise PreconditionError(
                f"The data is a {type(data).__name__}, not a lazy array of Larvik: it is computed already, "
                "or never was ours."
            )
        return data

    @property
    def is_lazy(self) -> bool:
        """Whether the values are still to be computed by Larvik."""
        return isinstance(self._array.variable._data, LazyArray)

    @property
    def expression(self) -> Expression:
        """What was recorded.

        Raises
        ------
        PreconditionError
            ``PRECONDITION_FAILED``, for data that is not lazy.
        UnsupportedError
            ``OPERATION_UNSUPPORTED``, when the last operation runs in Dask.
        """
        expression = self._lazy.expression
        if expression is None:
            raise UnsupportedError("This array is computed by Dask: there is no recorded expression of it.")
        return expression

    @property
    def token(self) -> str:
        """A hash of what is computed: equal for equal recordings of the same stored pixels."""
        return self._lazy.token

    def to_dask(self) -> xr.DataArray:
        """Return the array over a plain Dask array with the same chunks, whose blocks are NumPy arrays."""
        return self._array.copy(data=to_dask(self._lazy))

    def explain(self) -> Plan:
        """Return where the array would be computed, why, and the bytes that decide it."""
        data = self._lazy
        if data.expression is None:
            chunks = math.prod(len(sizes) for sizes in data.chunks)
            return Plan(
                "dask", "The last operation is not recorded, so Dask runs it.", data.nbytes, 0, 0, chunks
            )
        if options().evaluate == "dask":
            return plan(data.expression, remote=False)
        return data.evaluator.explain(data.expression)
