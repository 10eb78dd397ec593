"""Putting stored chunks together: from bytes that arrive in any order to the pixels of one region."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

import numpy as np

from larvik.errors import DataLossError, SelectionError
from larvik.storage.decoder import Bytes, ChunkDecoder
from larvik.storage.regions import Piece, Span, check_selection, spans
from larvik.storage.workers import Tasks, thread_count
from larvik.storage.zarr_metadata import ArrayMetadata

#: Decoded bytes that are handed to a thread at once; less is not worth the hand-over.
TASK_BYTES = 512 << 10

Index = tuple[int, ...]


class Assembly:
    """Decodes the stored chunks of one selection into an array, in threads, while more of them arrive.

    Parameters
    ----------
    metadata : ArrayMetadata
        Of the level that the chunks are of.
    selection : tuple of slice
        One per dim: half-open bounds inside the array, steps >= 1.
    out : numpy.ndarray
        Array of the region's shape and the metadata's dtype to fill, of any strides.
    name : str
        What errors call the array.

    Raises
    ------
    SelectionError
        For a selection outside the array, or an `out` that does not fit it.

    Notes
    -----
    For one thread; it holds no more than a few chunks that have not been decoded. Use it in a ``with``
    block, or leave it by `finish`: no thread writes to `out` after either.
    """

    def __init__(
        self, metadata: ArrayMetadata, selection: tuple[slice, ...], out: np.ndarray, name: str
    ) -> None:
        self._decoder = ChunkDecoder(metadata, name)
        bounds = check_selection(selection, metadata.shape)
        check_output(out, tuple(len(bound) for bound in bounds), self._decoder.dtype)
        dims = [spans(bound, chunk) for bound, chunk in zip(bounds, metadata.chunks, strict=True)]
        self._spans: list[dict[int, tuple[int, Span]]] = [
            {span.number: (order, span) for order, span in enumerate(dim)} for dim in dims
        ]
        self._count = math.prod(len(dim) for dim in dims)
        self._seen = bytearray(self._count)
        self._added = 0
        self._out = out
        self._tasks = Tasks(2 * thread_count())
        self._waiting: list[tuple[Piece, Bytes | None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tasks.cancel()

    def add(self, index: Index, data: Bytes | None) -> None:
        """Take the stored bytes of one chunk, None when it is not stored; it is decoded soon.

        `data` must not change before `finish`. Waits while too much is being decoded.

        Raises
        ------
        DataLossError
            ``STREAM_INVALID``, for a chunk that the selection does not touch or that came before;
            ``CHUNK_CORRUPT`` or ``CHUNK_MISSING``, also of earlier chunks.
        """
        piece = self._piece(tuple(index))
        self._waiting.append((piece, data))
        if len(self._waiting) * self._decoder.chunk_bytes >= TASK_BYTES:
            self._begin()

    def finish(self) -> None:
        """Return when every pixel of `out` is there.

        Raises
        ------
        DataLossError
            ``STREAM_INCOMPLETE``, when chunks did not come; ``CHUNK_CORRUPT`` or ``CHUNK_MISSING``.
        """
        try:
            self._begin()
            self._tasks.wait()
        finally:
            self._tasks.cancel()
        if self._added < self._count:
            raise DataLossError(
                f"{self._count - self._added} of {self._count} chunks of {self._decoder.name} did not come. "
                "Read again.",
                reason="STREAM_INCOMPLETE",
                location=self._decoder.name,
            )

    def _piece(self, index: Index) -> Piece:
        """Return what the selection takes of the chunk `index`, which has not come before."""
        number, found = 0, []
        known = len(index) == len(self._spans)
        for position, dim in zip(index, self._spans, strict=False):
            order, span = dim.get(position, (0, None))
            if span is None:
                known = False
                break
            number = number * len(dim) + order
            found.append(span)
        if not known or not self._count or self._seen[number]:
            raise DataLossError(
                f"Chunk {index} of {self._decoder.name} came twice, or was not asked for. Read again; if it "
                "happens once more, report it: sender and receiver disagree.",
                reason="STREAM_INVALID",
                location=self._decoder.name,
                chunk=",".join(map(str, index)),
            )
        self._seen[number] = 1
        self._added += 1
        return Piece.of(found)

    def _begin(self) -> None:
        """Have what waits decoded: by the pool, or here when it is all there is."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if self._count <= len(waiting):
            self._place(waiting)
        else:
            self._tasks.submit(lambda: self._place(waiting))

    def _place(self, waiting: list[tuple[Piece, Bytes | None]]) -> None:
        for piece, data in waiting:
            self._decoder.place(piece, data, self._out)


def check_output(out: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise `SelectionError` ``SELECTION_INVALID`` when `out` cannot take a region."""
    if out.shape != shape or out.dtype != dtype:
        raise SelectionError(
            f"out has shape {out.shape} and dtype {out.dtype}; the region has {shape} and {dtype}.",
            reason="SELECTION_INVALID",
            field="out",
        )
