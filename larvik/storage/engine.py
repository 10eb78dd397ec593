"""Reading regions of stored arrays: find the chunks, read their bytes, decode them into the output."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import NamedTuple

import numpy as np

from larvik.array.spec import Level
from larvik.errors import LarvikError, NotFoundError, PreconditionError
from larvik.storage.assembly import check_output
from larvik.storage.base import Store, join
from larvik.storage.cache import ChunkCache
from larvik.storage.decoder import ChunkDecoder
from larvik.storage.fetching import fetch_ahead
from larvik.storage.locator import ChunkLocator, Index, Located
from larvik.storage.parts import place_parts
from larvik.storage.regions import Span, check_selection, spans
from larvik.storage.workers import map_threads, run_threads, thread_count
from larvik.storage.zarr_metadata import ArrayMetadata, read_array_metadata

#: Bytes that the calling thread decodes alone: below it the pool costs more than it saves.
INLINE_BYTES = 4 << 20
INLINE_CHUNKS = 64
#: Chunks up to which it also copies alone what is in the cache.
CACHED_CHUNKS = 32
#: Stores that ask for batches up to this size are near: a request costs microseconds, not a round trip.
NEAR_BATCH_BYTES = 4 << 20
#: Stored bytes that are read from a near store before they are decoded: they are still in the core's cache.
CACHED_BYTES = 1 << 20
#: Stored bytes of one read from a far store that are under way or wait to be decoded.
FAR_BYTES = 64 << 20
#: Stored bytes of the chunks that `stored_chunks` gives at once, and that it reads at once from afar.
LIST_BYTES = 2 << 20
REMOTE_LIST_BYTES = 8 << 20

StoredChunks = list[tuple[Index, bytes | None]]


class RegionReader:
    """One level of one stored array, read by region.

    Thread-safe. Holds no descriptor and no pixels, only shard indexes; make it with `open_reader`. Decoded
    chunks of which parts are used go to its cache, if it has one; a pickled copy has none.

    Attributes
    ----------
    metadata : ArrayMetadata
        Of the level.
    shape : tuple of int
        Elements per dim.
    dtype : numpy.dtype
        Native byte order.
    chunks : tuple of int
        Elements of the unit of decoding.
    """

    def __init__(
        self, store: Store, location: str, metadata: ArrayMetadata, *, cache: ChunkCache | None = None
    ) -> None:
        self._store = store
        self._location = location
        self._is_near = store.batch_bytes <= NEAR_BATCH_BYTES
        self._decoder = ChunkDecoder(metadata, location)
        self._locator = ChunkLocator(store, location, self._decoder)
        # Objects cannot be kept: their references are not bytes that a cache could count.
        self._cache = None if cache is None or metadata.dtype == "string" else cache
        self._key = object()  # a reader made later may find other pixels under the same name
        self.metadata = metadata
        self.shape = metadata.shape
        self.dtype = self._decoder.dtype
        self.chunks = metadata.chunks

    def __repr__(self) -> str:
        return f"RegionReader({self._location!r}, shape={self.shape}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[object, ...]:
        return RegionReader, (self._store, self._location, self.metadata)

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
        else:
            check_output(out, shape, self.dtype)
        if out.size:
            self._fill(self._spans(bounds), out)
        return out

    def stored_chunks(self, selection: tuple[slice, ...]) -> Iterator[StoredChunks]:
        """Yield the stored bytes of the chunks that a region touches, each once, 1 to 4 MiB at a time.

        Returns
        -------
        iterator of list of (index, bytes)
            Index of the chunk in the grid of `chunks`, and its bytes as they are stored; None for a chunk
            that is not stored and has the fill value. The next list is read ahead.

        Raises
        ------
        SelectionError
            Before the first list.
        DataLossError
            ``CHUNK_CORRUPT`` for a damaged shard index, ``CHUNK_MISSING`` in an array that Larvik wrote.
        UnavailableError
            ``STORE_UNREACHABLE``.
        """
        bounds = check_selection(selection, self.shape)
        return self._stored_lists(self._spans(bounds))

    def stored_chunk(self, index: Index) -> bytes | None:
        """Return the stored bytes of one chunk, or None when it is not stored; raises as `stored_chunks`."""
        grid = tuple(-(-size // chunk) for size, chunk in zip(self.shape, self.chunks, strict=True))
        # A chunk is selected as one element of an array whose elements are chunks.
        check_selection([slice(number, number + 1) for number in index], grid)
        request = self._locator.find(tuple(index))
        data = self._store.read_many([request])[0] if request is not None else None
        if data is None:
            self._decoder.check_may_miss(index)
        return data

    def shard_key(self, index: Index) -> str:
        """Return the key of the stored object at `index` of the grid of ``metadata.shards``."""
        return self._locator.key(tuple(index))

    def prefetch(self, selection: tuple[slice, ...]) -> None:
        """Decode the chunks of which a region needs parts into the cache, in the background.

        Best effort: nothing happens without a cache, while other chunks are prefetched, for more than a
        quarter of the cache, and where chunks cannot be read.

        Raises
        ------
        SelectionError
            As `read`.
        """
        dims = self._spans(check_selection(selection, self.shape))
        count = math.prod(len(dim) for dim in dims)
        cache = self._cache
        if cache is not None and 0 < count * self._decoder.chunk_bytes <= cache.most_bytes // 4:
            cache.in_background(lambda: self._prefetch(cache, dims))

    def _prefetch(self, cache: ChunkCache, dims: Sequence[list[Span]]) -> None:
        with suppress(LarvikError):  # whoever reads the chunk is told
            wanted = [
                located
                for located in self._locator.locate(dims)
                if not self._decoder.is_whole(located.piece) and cache.get(self._cached(located)) is None
            ]
            for located, data in zip(wanted, self._read(wanted), strict=True):
                if data is not None:
                    self._keep(cache, located, data)

    def _spans(self, bounds: Sequence[range]) -> list[list[Span]]:
        return [spans(bound, chunk) for bound, chunk in zip(bounds, self.chunks, strict=True)]

    def _fill(self, dims: Sequence[list[Span]], out: np.ndarray) -> None:
        count = math.prod(len(dim) for dim in dims)
        located = self._locator.locate(dims)
        if count <= CACHED_CHUNKS:
            few = list(located)
            if self._fill_cached(few, out):
                return
            if count <= INLINE_CHUNKS and sum(self._decoded_bytes(one) for one in few) <= INLINE_BYTES:
                self._place(few, out)
                return
            located = iter(few)
        if self._is_near:
            batches = self._batches(located, CACHED_BYTES, -(-count // (2 * thread_count())))
            run_threads(lambda batch: self._place(batch, out), batches)
        else:  # as many bytes as pay for the round trip, decoded while others are under way
            batches = self._batches(located, self._store.batch_bytes, count)
            most = max(2, FAR_BYTES // self._store.batch_bytes)
            with closing(fetch_ahead(lambda batch: self._fetch(batch, out), batches, most)) as fetched:
                run_threads(lambda one: self._decode(one, out), (one for found in fetched for one in found))

    def _fill_cached(self, few: Sequence[Located], out: np.ndarray) -> bool:
        """Fill `out` where every chunk is in the cache; tell whether that was so."""
        if self._cache is None:
            return False
        chunks = []
        for located in few:
            chunk = self._cache.get(self._cached(located))
            if chunk is None:
                return False
            chunks.append(chunk)
        for located, chunk in zip(few, chunks, strict=True):
            out[located.piece.place] = chunk[located.piece.within]
        return True

    def _decoded_bytes(self, located: Located) -> int:
        if located.part is None or not self._is_near:
            return self._decoder.chunk_bytes
        return located.part[1] - located.part[0]

    def _stored_lists(self, dims: Sequence[list[Span]]) -> Iterator[StoredChunks]:
        batches = self._batches(
            self._locator.locate(dims), LIST_BYTES if self._is_near else REMOTE_LIST_BYTES, 4096
        )
        for found in map_threads(self._read_list, batches, ahead=1):
            yield from _cut(found)

    def _batches(self, chunks: Iterable[Located], most_bytes: int, most: int) -> Iterator[list[Located]]:
        """Yield chunks in batches of at most `most`, which have at least `most_bytes`."""
        batch: list[Located] = []
        size = 0
        for located in chunks:
            batch.append(located)
            if located.request is not None:
                size += min(located.request.length or 0, self._decoder.chunk_bytes)
            if size >= most_bytes or len(batch) >= most:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _read(self, batch: Sequence[Located]) -> list[bytes | None]:
        """Return the stored bytes of each chunk of a batch, None where not stored."""
        requests = [located.request for located in batch if located.request is not None]
        answers = iter(self._store.read_many(requests) if requests else ())
        return [None if located.request is None else next(answers) for located in batch]

    def _read_list(self, batch: Sequence[Located]) -> StoredChunks:
        found = [(located.piece.chunk, data) for located, data in zip(batch, self._read(batch), strict=True)]
        for chunk, data in found:
            if data is None:
                self._decoder.check_may_miss(chunk)
        return found

    def _place(self, batch: Sequence[Located], out: np.ndarray) -> None:
        """Put a batch of chunks into `out`: from the cache, by decoding parts, or whole."""
        for one in self._fetch(batch, out):
            self._decode(one, out)

    def _fetch(self, batch: Sequence[Located], out: np.ndarray) -> list[_Fetched]:
        """Put what needs no whole chunk into `out`; return the rest, read and still to be decoded."""
        cache = self._cache
        kept: list[Located] = []
        if cache is not None:
            batch, kept = self._place_cached(cache, batch, out)
        if batch and self._is_near:
            batch = place_parts(self._store, self._decoder, batch, out)
        work = [*((located, None) for located in batch), *((located, cache) for located in kept)]
        answers = self._read([located for located, _ in work])
        return [_Fetched(*one, data) for one, data in zip(work, answers, strict=True)]

    def _decode(self, fetched: _Fetched, out: np.ndarray) -> None:
        """Put one chunk into `out`, by way of the cache that is to keep it."""
        located, keeper, data = fetched
        if keeper is None or data is None:
            self._decoder.place(located.piece, data, out)
        else:
            out[located.piece.place] = self._keep(keeper, located, data)[located.piece.within]

    def _place_cached(
        self, cache: ChunkCache, batch: Sequence[Located], out: np.ndarray
    ) -> tuple[list[Located], list[Located]]:
        """Put what is in the cache into `out`; return what is left, and what is left and should be kept."""
        rest: list[Located] = []
        kept: list[Located] = []
        for located in batch:
            chunk = cache.get(self._cached(located))
            if chunk is not None:
                out[located.piece.place] = chunk[located.piece.within]
            else:
                (kept if self._is_kept(cache, located) else rest).append(located)
        return rest, kept

    def _is_kept(self, cache: ChunkCache, located: Located) -> bool:
        """Tell whether a chunk that is not in the cache goes there now: see the notes of `ChunkCache`."""
        if located.request is None or self._decoder.is_whole(located.piece):
            return False
        if self._decoder.chunk_bytes > cache.most_bytes:
            return False
        return located.part is None or not self._is_near or cache.is_wanted(self._cached(located))

    def _keep(self, cache: ChunkCache, located: Located, data: bytes) -> np.ndarray:
        chunk = self._decoder.whole(located.piece.chunk, data)
        cache.put(self._cached(located), chunk)
        return chunk

    def _cached(self, located: Located) -> tuple[object, Index]:
        return self._key, located.piece.chunk


class _Fetched(NamedTuple):
    """A chunk to decode: the cache that is to keep it, if one is, and its stored bytes."""

    located: Located
    keeper: ChunkCache | None
    data: bytes | None


def _cut(found: StoredChunks) -> Iterator[StoredChunks]:
    """Yield chunks that were read at once in lists of about `LIST_BYTES`."""
    part: StoredChunks = []
    size = 0
    for index, data in found:
        part.append((index, data))
        size += len(data or b"")
        if size >= LIST_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def open_reader(
    store: Store, location: str, level: Level, dtype: str, *, cache: ChunkCache | None = None
) -> RegionReader:
    """Return a reader of one level of the array group at `location`.

    Parameters
    ----------
    store : Store
        Where it is.
    location : str
        Key of the group.
    level : Level
        Which level; its shape must be the stored one.
    dtype : str
        NumPy name that the level must have.
    cache : ChunkCache, optional
        Of this process, for decoded chunks of which parts are used.

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
    return RegionReader(store, where, metadata, cache=cache)
