"""Reading regions of stored arrays: find the chunks, read their bytes, decode them into the output."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from larvik.array.spec import Level
from larvik.errors import DataLossError, NotFoundError, PreconditionError, SelectionError
from larvik.storage.base import ByteRange, Store, join
from larvik.storage.codecs import CorruptChunkError, decode_into
from larvik.storage.regions import Piece, Span, by_shard, check_selection, spans
from larvik.storage.shards import MISSING, index_bytes, parse_index
from larvik.storage.workers import map_threads, scratch, thread_count
from larvik.storage.zarr_metadata import ArrayMetadata, read_array_metadata

#: Chunks up to which the calling thread decodes alone: below it the pool costs more than it saves.
INLINE_CHUNKS = 4
#: Shard indexes that a reader keeps, and those that it reads at once.
KEPT_INDEXES = 1024
INDEXES_AHEAD = 64

Index = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Stored:
    """A piece and where its bytes are; `request` is None when the chunk is not stored."""

    piece: Piece
    request: ByteRange | None


class RegionReader:
    """One level of one stored array, read by region.

    Thread-safe. Holds no descriptor and no pixels, only shard indexes; make it with `open_reader`.

    Attributes
    ----------
    shape : tuple of int
        Elements per dim.
    dtype : numpy.dtype
        Native byte order.
    chunks : tuple of int
        Elements of the unit of decoding.
    """

    def __init__(self, store: Store, location: str, metadata: ArrayMetadata) -> None:
        self._store = store
        self._location = location
        self._metadata = metadata
        dtype = np.dtype("O" if metadata.dtype == "string" else metadata.dtype)
        self._stored_dtype = dtype.newbyteorder(">" if metadata.byteorder == ">" else "<")
        self._shard_grid = tuple(s // c for s, c in zip(metadata.shards, metadata.chunks, strict=True))
        self._chunk_bytes = math.prod(metadata.chunks) * self._stored_dtype.itemsize
        # No codec of ours makes much more of incompressible pixels; a longer object is not a chunk.
        self._longest = self._chunk_bytes * 2 + (1 << 20)
        self._indexes: OrderedDict[Index, np.ndarray | None] = OrderedDict()
        self._lock = threading.Lock()
        self.shape = metadata.shape
        self.dtype = dtype
        self.chunks = metadata.chunks

    def __repr__(self) -> str:
        return f"RegionReader({self._location!r}, shape={self.shape}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[object, ...]:
        return RegionReader, (self._store, self._location, self._metadata)

    def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        """Return the pixels of a region.

        Parameters
        ----------
        selection : tuple of slice
            One per dim: half-open bounds inside the array, steps >= 1.
        out : numpy.ndarray, optional
            Array of the region's shape and this dtype to fill, of any strides; made when not given.

        Returns
        -------
        numpy.ndarray
            `out`. Reads the touched chunks alone.

        Raises
        ------
        SelectionError
            ``SELECTION_OUT_OF_BOUNDS`` or ``SELECTION_INVALID``.
        DataLossError
            ``CHUNK_CORRUPT``, naming location and chunk index; ``CHUNK_MISSING`` in an array that
            Larvik wrote. Elsewhere a missing chunk has the fill value.
        UnavailableError
            ``STORE_UNREACHABLE``.
        """
        bounds = check_selection(selection, self.shape)
        shape = tuple(len(bound) for bound in bounds)
        if out is None:
            out = np.empty(shape, self.dtype)
        elif out.shape != shape or out.dtype != self.dtype:
            raise SelectionError(
                f"out has shape {out.shape} and dtype {out.dtype}; the region has {shape} and {self.dtype}.",
                reason="SELECTION_INVALID",
                field="out",
            )
        if out.size:
            self._fill(bounds, out)
        return out

    def _fill(self, bounds: Sequence[range], out: np.ndarray) -> None:
        dims = [spans(bound, chunk) for bound, chunk in zip(bounds, self.chunks, strict=True)]
        count = math.prod(len(dim) for dim in dims)
        if count <= INLINE_CHUNKS:
            self._decode_batch(list(self._locate(dims)), out)
            return
        batches = self._batches(dims, -(-count // (2 * thread_count())))
        for _ in map_threads(lambda batch: self._decode_batch(batch, out), batches):
            pass

    def _batches(self, dims: Sequence[list[Span]], most: int) -> Iterator[list[_Stored]]:
        """Yield the touched chunks in batches that one thread reads and decodes, at most `most` in each."""
        batch: list[_Stored] = []
        size = 0
        for stored in self._locate(dims):
            batch.append(stored)
            if stored.request is not None:
                size += min(stored.request.length or 0, self._chunk_bytes)
            if size >= self._store.batch_bytes or len(batch) >= most:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _locate(self, dims: Sequence[list[Span]]) -> Iterator[_Stored]:
        """Yield every touched chunk with the bytes to read, those of one shard together."""
        shards = by_shard(dims, self._shard_grid)
        while ahead := list(islice(shards, INDEXES_AHEAD)):
            indexes = self._load_indexes([shard for shard, _ in ahead])
            for shard, pieces in ahead:
                key = join(self._location, self._metadata.key(shard))
                for piece in pieces:
                    yield _Stored(piece, self._request(key, indexes.get(shard), piece.index))

    def _request(self, key: str, index: np.ndarray | None, chunk: Index) -> ByteRange | None:
        if not self._metadata.is_sharded:
            return ByteRange(key, 0, self._longest + 1)
        if index is None:
            return None
        place = [number % extent for number, extent in zip(chunk, self._shard_grid, strict=True)]
        offset, length = (int(value) for value in index[np.ravel_multi_index(place, self._shard_grid)])
        if offset == length == MISSING:
            return None
        if offset >> 62 or length > self._longest:
            raise self._lost("CHUNK_CORRUPT", chunk, "the shard index points beyond the shard")
        return ByteRange(key, offset, length)

    def _load_indexes(self, shards: Sequence[Index]) -> dict[Index, np.ndarray | None]:
        """Return the indexes of `shards`, reading those that are not kept; None where there is no shard."""
        if not self._metadata.is_sharded:
            return {}
        with self._lock:
            found = {shard: self._indexes[shard] for shard in shards if shard in self._indexes}
        wanted = [shard for shard in shards if shard not in found]
        length = index_bytes(math.prod(self._shard_grid))
        start, limit = (0, length) if self._metadata.index_at_start else (-length, None)
        keys = [join(self._location, self._metadata.key(shard)) for shard in wanted]
        answers = self._store.read_many([ByteRange(key, start, limit) for key in keys]) if keys else []
        read = {shard: self._parsed(shard, data) for shard, data in zip(wanted, answers, strict=True)}
        with self._lock:
            self._indexes.update(read)
            while len(self._indexes) > KEPT_INDEXES:
                self._indexes.popitem(last=False)
        return {**found, **read}

    def _parsed(self, shard: Index, data: bytes | None) -> np.ndarray | None:
        first = tuple(number * extent for number, extent in zip(shard, self._shard_grid, strict=True))
        if data is None:
            self._check_may_miss(first)
            return None
        try:
            return parse_index(data, math.prod(self._shard_grid))
        except CorruptChunkError as error:
            raise self._lost("CHUNK_CORRUPT", first, str(error)) from error

    def _decode_batch(self, batch: Sequence[_Stored], out: np.ndarray) -> None:
        requests = [stored.request for stored in batch if stored.request is not None]
        answers = iter(self._store.read_many(requests) if requests else ())
        for stored in batch:
            data = next(answers) if stored.request is not None else None
            if data is None:
                if stored.request is not None:
                    self._check_may_miss(stored.piece.index)
                out[stored.piece.place] = self._metadata.fill_value
            else:
                self._decode(stored.piece, data, out)

    def _decode(self, piece: Piece, data: bytes, out: np.ndarray) -> None:
        target = out[piece.place]
        compressor = self._metadata.compressor
        try:
            if len(data) > self._longest:
                raise CorruptChunkError("more bytes are stored than the chunk can need")
            if compressor == "zarr":
                from larvik.storage.foreign import decode_chunk

                target[...] = decode_chunk(self._metadata, data)[piece.within]
            elif target.shape == self.chunks and target.flags.c_contiguous and self._stored_dtype.isnative:
                decode_into(compressor, data, target.reshape(-1).view(np.uint8))
            else:
                buffer = scratch(self._chunk_bytes)
                decode_into(compressor, data, buffer)
                target[...] = buffer.view(self._stored_dtype).reshape(self.chunks)[piece.within]
        except CorruptChunkError as error:
            raise self._lost("CHUNK_CORRUPT", piece.index, str(error)) from error

    def _check_may_miss(self, chunk: Index) -> None:
        if self._metadata.is_complete:
            raise self._lost("CHUNK_MISSING", chunk, "its bytes are missing")

    def _lost(self, reason: str, chunk: Index, problem: str) -> DataLossError:
        return DataLossError(
            f"Chunk {chunk} of {self._location} cannot be decoded: {problem}. Restore it from a backup, "
            "or import the original again.",
            reason=reason,
            location=self._location,
            chunk=",".join(map(str, chunk)),
        )


def open_reader(store: Store, location: str, level: Level, dtype: str) -> RegionReader:
    """Return a reader of one level of the array group at `location`.

    Raises
    ------
    NotFoundError
        ``ARRAY_NOT_FOUND``, when the store has no such array.
    PreconditionError
        ``SOURCE_CHANGED``, when shape or dtype are no longer those of `level` and `dtype`.
    InvalidArgumentError, UnsupportedError
        For metadata that is wrong or that Larvik cannot read.
    """
    where = join(location, level.path)
    metadata = read_array_metadata(store, where)
    if metadata is None:
        raise NotFoundError(f"The store has no array at {where!r}.", reason="ARRAY_NOT_FOUND", location=where)
    if (metadata.shape, metadata.dtype) != (tuple(level.shape), dtype):
        raise PreconditionError(
            f"The array at {where!r} is now {metadata.dtype} of shape {metadata.shape}, no longer {dtype} of "
            f"{tuple(level.shape)}. Import it again.",
            reason="SOURCE_CHANGED",
            location=where,
        )
    return RegionReader(store, where, metadata)
