"""The chunk manager by which xarray computes, loads and stores lazy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from xarray.namedarray.parallelcompat import ChunkManagerEntrypoint

from larvik.array import dask_bridge
from larvik.array.computing import compute_all
from larvik.array.expression import Constant
from larvik.array.lazy import LazyArray
from larvik.array.local import MEMORY
from larvik.array.origins import remember
from larvik.array.regions import regular
from larvik.errors import InvalidArgumentError


class LarvikChunkManager(ChunkManagerEntrypoint[Any]):
    """Entry point ``larvik`` of the group ``xarray.chunkmanagers``.

    Notes
    -----
    Computing is one evaluation for everything that xarray asks for at once. What has no recorded
    form (scans, block functions, rechunking, storing) is delegated to Dask over the same chunks.
    """

    array_cls = LazyArray
    available = True

    def __init__(self) -> None:
        """Make the manager; xarray does, once."""

    def chunks(self, data: Any) -> tuple[tuple[int, ...], ...]:
        """Return the chunks of a lazy array."""
        return tuple(data.chunks)

    @property
    def array_api(self) -> Any:
        """NumPy, whose functions are dispatched to lazy arrays, with what makes lazy arrays."""
        return _Namespace()

    def normalize_chunks(
        self,
        chunks: Any,
        shape: tuple[int, ...] | None = None,
        limit: int | None = None,
        dtype: Any = None,
        previous_chunks: Any = None,
    ) -> Any:
        """Return chunks as lengths along each dim; "auto" and limits in bytes are Dask's."""
        if shape is not None and isinstance(chunks, tuple) and all(isinstance(item, int) for item in chunks):
            return regular(
                shape, [size if item == -1 else item for item, size in zip(chunks, shape, strict=True)]
            )
        return self._dask("Choosing chunks").normalize_chunks(
            chunks, shape=shape, limit=limit, dtype=dtype, previous_chunks=previous_chunks
        )

    def from_array(self, data: Any, chunks: Any, **kwargs: Any) -> Any:
        """Return a lazy array as it is, anything else as a Dask array.

        Notes
        -----
        xarray's ``idxmax`` chunks a coordinate here to index it by a lazy array, which only Dask allows;
        the index is computed then.
        """
        if isinstance(data, LazyArray):
            return data
        return self._dask("Chunking").from_array(data, chunks, **kwargs)

    def rechunk(self, data: Any, chunks: Any, **kwargs: Any) -> Any:
        """Return a Dask array with other chunks, wrapped."""
        manager = self._dask("Rechunking")
        return LazyArray.wrapping(manager.rechunk(dask_bridge.to_dask(data), chunks, **kwargs))

    def compute(self, *data: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return the values of all arguments, evaluated together; what is not lazy passes through."""
        lazies = [item for item in data if isinstance(item, LazyArray)]
        found = compute_all(lazies)
        for lazy, value in zip(lazies, found, strict=True):
            if lazy.expression is not None:
                remember(value, lazy.expression)
        values = iter(found)
        return tuple(next(values) if isinstance(item, LazyArray) else item for item in data)

    def persist(self, *data: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return lazy arrays whose values are in memory."""
        return tuple(map(_in_memory, self.compute(*data, **kwargs)))

    def reduction(self, arr: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Reduce by a function of blocks, in Dask."""
        return self._delegate("reduction", arr, func, *args, **kwargs)

    def scan(
        self,
        func: Callable[..., Any],
        binop: Callable[..., Any],
        ident: float,
        arr: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Accumulate along an axis, in Dask."""
        return self._delegate("scan", func, binop, ident, arr, *args, **kwargs)

    def apply_gufunc(self, func: Callable[..., Any], signature: str, *args: Any, **kwargs: Any) -> Any:
        """Apply a generalized ufunc to blocks, in Dask."""
        return self._delegate("apply_gufunc", func, signature, *args, **kwargs)

    def map_blocks(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Apply a function to blocks, in Dask."""
        return self._delegate("map_blocks", func, *args, **kwargs)

    def blockwise(self, func: Callable[..., Any], out_ind: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """Apply a function to blocks by index pattern, in Dask."""
        return self._delegate("blockwise", func, out_ind, *args, **kwargs)

    def unify_chunks(self, *args: Any, **kwargs: Any) -> Any:
        """Bring arrays to common chunks, in Dask."""
        chunks, arrays = self._dask("Unifying chunks").unify_chunks(
            *(_unwrap(item) for item in args), **kwargs
        )
        return chunks, [_wrap(item) for item in arrays]

    def store(self, sources: Any, targets: Any, **kwargs: Any) -> Any:
        """Write lazy arrays into targets region by region, in Dask."""
        manager = self._dask("Writing lazy arrays")
        many = [_unwrap(item) for item in sources] if isinstance(sources, Sequence) else _unwrap(sources)
        return manager.store(many, targets, **kwargs)

    def shuffle(self, x: Any, indexer: list[list[int]], axis: int, chunks: Any) -> Any:
        """Reorder along an axis, in Dask."""
        return self._delegate("shuffle", x, indexer, axis, chunks)

    def get_auto_chunk_size(self) -> int:
        """Return the bytes that "auto" chunks aim at."""
        return int(self._dask("Choosing chunks").get_auto_chunk_size())

    def _dask(self, what: str) -> Any:
        dask_bridge.require_dask(what)
        from xarray.namedarray.daskmanager import DaskManager

        return DaskManager()

    def _delegate(self, name: str, *args: Any, **kwargs: Any) -> Any:
        method = getattr(self._dask(f"xarray's {name}"), name)
        return dask_bridge.call(method, args, kwargs, f"xarray's {name}")


class _Namespace:
    """NumPy, except that `full` is lazy."""

    def full(self, shape: tuple[int, ...], fill_value: Any, dtype: Any = None, **_: Any) -> LazyArray:
        """Return a lazy array of one value."""
        element = LazyArray(Constant(np.asarray(fill_value, dtype=dtype)), MEMORY)
        found: Any = np.broadcast_to(element, shape)
        assert isinstance(found, LazyArray)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _in_memory(value: Any) -> LazyArray:
    try:
        return LazyArray(Constant(value, owned=True), MEMORY)
    except InvalidArgumentError:  # of a dtype that only Dask computes with
        dask_array = dask_bridge.require_dask("Persisting this dtype")
        return LazyArray.wrapping(dask_array.from_array(value, chunks=-1))


def _unwrap(item: Any) -> Any:
    return dask_bridge.to_dask(item) if isinstance(item, LazyArray) else item


def _wrap(item: Any) -> Any:
    return LazyArray.wrapping(item) if hasattr(item, "__dask_graph__") else item
