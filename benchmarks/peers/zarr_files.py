"""zarr-python reading files: what most people do today."""

from __future__ import annotations

import time
from typing import Any


class Reader:
    """An opened array.

    Parameters
    ----------
    path : str
        Folder of the array.
    concurrency : int, optional
        Of zarr-python's reads; the number of cores is its fastest, 10 its default.
    """

    def __init__(self, path: str, concurrency: int | None = None) -> None:
        import zarr

        if concurrency is not None:
            zarr.config.set({"async.concurrency": concurrency})
        self._array = zarr.open_array(path, mode="r")

    def read(self, selection: tuple[slice, ...]) -> Any:
        """Return the pixels of a region."""
        return self._array[selection]

    def maximum(self, axis: int) -> Any:
        """Read everything, then compute."""
        return self._array[...].max(axis)

    def write(self, pixels: Any, path: str) -> dict[str, Any]:
        """Write an image into the same grid and codec, a shard at a time, which is its fastest way."""
        import zarr
        from pixels import blocks

        like = self._array
        parts = list(blocks(pixels, like.shards or like.chunks))
        cpu, start = time.process_time(), time.perf_counter()
        array = zarr.create_array(
            path, shape=like.shape, chunks=like.chunks, shards=like.shards, dtype=like.dtype, filters=None,
            compressors=list(like.compressors),
        )  # fmt: skip
        for at, block in parts:
            array[tuple(slice(a, a + n) for a, n in zip(at, block.shape, strict=True))] = block
        return {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
