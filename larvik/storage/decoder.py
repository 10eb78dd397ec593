"""Decoding: from the stored bytes of a chunk to its place in an array, by the metadata alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from larvik.errors import DataLossError
from larvik.storage.blosc_frames import Blocks
from larvik.storage.codecs import (
    WORTH_SPARING,
    CorruptChunkError,
    decode_blocks,
    decode_into,
    decode_part,
    part_of,
)
from larvik.storage.foreign import ForeignDecoder
from larvik.storage.regions import Piece
from larvik.storage.workers import scratch
from larvik.storage.zarr_metadata import ArrayMetadata

Bytes = bytes | memoryview


class ChunkDecoder:
    """Decodes chunks of one array, wherever their stored bytes came from. Thread-safe.

    Parameters
    ----------
    metadata : ArrayMetadata
        How they are encoded.
    name : str
        What errors call the array.

    Attributes
    ----------
    dtype : numpy.dtype
        Of decoded elements, native byte order.
    chunk_bytes : int
        Bytes of a decoded chunk.
    longest : int
        Stored bytes that a chunk can have: no codec of ours makes much more of incompressible pixels, and
        those that write numbers as text make less than eight times as much.
    """

    def __init__(self, metadata: ArrayMetadata, name: str) -> None:
        self.metadata = metadata
        self.name = name
        self.dtype = np.dtype("O" if metadata.dtype == "string" else metadata.dtype)
        self.chunk_bytes = math.prod(metadata.chunks) * self.dtype.itemsize
        self.longest = self.chunk_bytes * (8 if metadata.compressor == "zarr" else 2) + (1 << 20)
        self._stored_dtype = self.dtype.newbyteorder(">" if metadata.byteorder == ">" else "<")
        self._foreign = ForeignDecoder(metadata)
        self._strides = _strides(metadata.chunks, self.dtype.itemsize)

    def place(self, piece: Piece, data: Bytes | None, out: np.ndarray) -> None:
        """Decode what `piece` selects of a chunk to its place in `out`; the fill value without `data`.

        Raises
        ------
        DataLossError
            ``CHUNK_CORRUPT``; ``CHUNK_MISSING`` for None in an array that Larvik wrote.
        """
        target = out[piece.place]
        if data is None:
            self.check_may_miss(piece.chunk)
            target[...] = self.metadata.fill_value
            return
        try:
            self._decode(piece, data, target)
        except CorruptChunkError as error:
            raise self.lost("CHUNK_CORRUPT", piece.chunk, str(error)) from error

    def whole(self, index: Sequence[int], data: Bytes) -> np.ndarray:
        """Return a whole chunk, padding included, as an array of its own; raises as `place`."""
        chunk = np.empty(self.metadata.chunks, self.dtype)
        everything = tuple(slice(0, extent, 1) for extent in chunk.shape)
        self.place(Piece(tuple(index), everything, everything), data, chunk)
        return chunk

    def is_whole(self, piece: Piece) -> bool:
        """Tell whether `piece` takes all of its chunk that lies in the array."""
        extents = zip(piece.chunk, piece.within, self.metadata.chunks, self.metadata.shape, strict=True)
        return all(
            part.step == 1 and part.stop - part.start == min(chunk, size - number * chunk)
            for number, part, chunk, size in extents
        )

    def part(self, within: Sequence[slice]) -> tuple[int, int] | None:
        """Return the bytes of the decoded chunk that are needed, when they can be had without the rest."""
        if self.metadata.compressor not in (None, "blosc"):
            return None
        start, stop = self._selected_bytes(within)
        return (start, stop) if self.chunk_bytes - (stop - start) >= WORTH_SPARING else None

    def blocks(self, piece: Piece, head: Bytes, stored: int | None, part: tuple[int, int]) -> Blocks | None:
        """Return which stored bytes hold a part of a chunk that begins with `head`; see `part_of`.

        Raises
        ------
        DataLossError
            ``CHUNK_CORRUPT``.
        """
        try:
            return part_of(self.metadata.compressor, head, stored, self.chunk_bytes, *part)
        except CorruptChunkError as error:
            raise self.lost("CHUNK_CORRUPT", piece.chunk, str(error)) from error

    def place_blocks(self, piece: Piece, blocks: Blocks, stored: Bytes, out: np.ndarray) -> None:
        """Decode what `piece` selects from `blocks` to its place in `out`; raises as `place`."""
        buffer = scratch(self.chunk_bytes)
        try:
            if len(stored) != blocks.length:
                raise CorruptChunkError("its bytes are cut")
            decode_blocks(self.metadata.compressor, blocks, stored, buffer)
        except CorruptChunkError as error:
            raise self.lost("CHUNK_CORRUPT", piece.chunk, str(error)) from error
        self._take(piece, buffer, out[piece.place])

    def _take(self, piece: Piece, buffer: np.ndarray, target: np.ndarray) -> None:
        target[...] = buffer.view(self._stored_dtype).reshape(self.metadata.chunks)[piece.within]

    def _selected_bytes(self, within: Sequence[slice]) -> tuple[int, int]:
        """Return the bytes of the decoded chunk from the first selected element to the last."""
        first, last = 0, self.dtype.itemsize
        for part, stride in zip(within, self._strides, strict=True):
            first += part.start * stride
            last += (part.start + (part.stop - 1 - part.start) // part.step * part.step) * stride
        return first, last

    def check_may_miss(self, chunk: Sequence[int]) -> None:
        """Raise `DataLossError` ``CHUNK_MISSING`` when every chunk of the array is stored."""
        if self.metadata.is_complete:
            raise self.lost("CHUNK_MISSING", chunk, "its bytes are missing")

    def lost(self, reason: str, chunk: Sequence[int], problem: str) -> DataLossError:
        """Return the error for one chunk."""
        return DataLossError(
            f"Chunk {tuple(chunk)} of {self.name} cannot be decoded: {problem}. Restore it from a backup, "
            "or import the original again.",
            reason=reason,
            location=self.name,
            chunk=",".join(map(str, chunk)),
        )

    def _decode(self, piece: Piece, data: Bytes, target: np.ndarray) -> None:
        metadata = self.metadata
        if len(data) > self.longest:
            raise CorruptChunkError("more bytes are stored than the chunk can need")
        if metadata.compressor == "zarr":
            target[...] = self._foreign.decode(bytes(data))[piece.within]
        elif target.shape == metadata.chunks and target.flags.c_contiguous and self._stored_dtype.isnative:
            decode_into(metadata.compressor, data, target.reshape(-1).view(np.uint8))
        else:
            buffer = scratch(self.chunk_bytes)
            decode_part(metadata.compressor, data, buffer, *self._selected_bytes(piece.within))
            self._take(piece, buffer, target)


def _strides(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    strides = [itemsize] * len(shape)
    for dim in range(len(shape) - 1, 0, -1):
        strides[dim - 1] = strides[dim] * shape[dim]
    return tuple(strides)
