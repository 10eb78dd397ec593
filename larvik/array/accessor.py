"""The accessor ``da.larvik``: what is recorded, where it would run, and the way to Dask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from larvik.array.dask_bridge import compute_dask, to_dask
from larvik.array.lazy import LazyArray
from larvik.array.options import options
from larvik.array.planner import Plan, plan
from larvik.array.regions import boxes, grouped
from larvik.errors import InvalidArgumentError, PreconditionError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from larvik.array.expression import Expression

#: Size that blocks of `LarvikAccessor.blocks` aim at.
BLOCK_BYTES = 16 << 20


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

    def blocks(
        self, block_bytes: int = BLOCK_BYTES
    ) -> Iterator[tuple[tuple[slice, ...], np.ndarray[Any, Any]]]:
        """Yield the values block by block, for what is larger than memory.

        Parameters
        ----------
        block_bytes : int
            Size that blocks aim at; a block is made of whole chunks where these are smaller.

        Yields
        ------
        (slices, block)
            Where the block belongs, one slice per dim, and its values. Blocks cover the array once.

        Raises
        ------
        InvalidArgumentError
            ``ARGUMENT_INVALID``, for a size below 1.

        Notes
        -----
        Holds a few blocks, and what computing them takes (at most 256 MiB), however large the array is;
        some are computed, or fetched, ahead. Blocks may be read-only. To write a stored array to disk as it
        is, ``row.export(folder)`` does the same and keeps levels and metadata.

        Examples
        --------
        ``for where, block in row.array.max("z").larvik.blocks(): target[where] = block``
        """
        if block_bytes < 1:
            raise InvalidArgumentError("block_bytes is a number of bytes above 0.", field="block_bytes")
        return _blocks(self._lazy, block_bytes)

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


def _blocks(array: LazyArray, block_bytes: int) -> Iterator[tuple[tuple[slice, ...], np.ndarray[Any, Any]]]:
    if array.expression is None or options().evaluate == "dask":
        chunks = [grouped(sizes, 1) for sizes in array.chunks]
        graph = to_dask(array)
        for box in boxes(chunks):
            where = tuple(slice(part.start, part.stop) for part in box)
            yield where, compute_dask([graph[where]])[0]
        return
    for start, block in array.evaluator.blocks(array.expression, block_bytes):
        yield tuple(slice(at, at + size) for at, size in zip(start, block.shape, strict=True)), block
