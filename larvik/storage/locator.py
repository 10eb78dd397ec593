"""Locating: which bytes of which object hold a chunk, by its key or by the index of its shard."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from larvik.storage.base import ByteRange, Store, join
from larvik.storage.codecs import CorruptChunkError
from larvik.storage.decoder import ChunkDecoder
from larvik.storage.regions import Piece, Span, by_shard
from larvik.storage.shards import MISSING, index_bytes, parse_index

#: Bytes of shard indexes that a locator keeps, and how many indexes it reads at once.
KEPT_INDEX_BYTES = 64 << 20
INDEXES_AHEAD = 64

Index = tuple[int, ...]


class Located(NamedTuple):
    """A piece, and where the stored bytes of its chunk are.

    Attributes
    ----------
    piece : Piece
        What is selected.
    request : ByteRange or None
        The stored bytes; None when the chunk is not stored.
    part : tuple of int, or None
        Start and stop of the decoded bytes that are needed, when they can be had without the rest.
    """

    piece: Piece
    request: ByteRange | None
    part: tuple[int, int] | None


class ChunkLocator:
    """Finds the stored bytes of the chunks of one array. Thread-safe; keeps the shard indexes it read."""

    def __init__(self, store: Store, location: str, decoder: ChunkDecoder) -> None:
        metadata = decoder.metadata
        self._store = store
        self._location = location
        self._metadata = metadata
        self._decoder = decoder
        self._shard_grid = tuple(s // c for s, c in zip(metadata.shards, metadata.chunks, strict=True))
        self._shard_chunks = math.prod(self._shard_grid)
        self._indexes: OrderedDict[Index, np.ndarray | None] = OrderedDict()
        self._kept = max(1, KEPT_INDEX_BYTES // index_bytes(self._shard_chunks))
        self._lock = threading.Lock()

    def shard_of(self, chunk: Index) -> Index:
        """Return the index, in the grid of stored objects, of the object that holds `chunk`."""
        return tuple(number // extent for number, extent in zip(chunk, self._shard_grid, strict=True))

    def key(self, shard: Index) -> str:
        """Return the key of the stored object at `shard`."""
        return join(self._location, self._metadata.key(shard))

    def find(self, chunk: Index) -> ByteRange | None:
        """Return where the bytes of one chunk are, or None when it is not stored."""
        shard = self.shard_of(chunk)
        return self._request(self.key(shard), self._load_indexes([shard]).get(shard), chunk)

    def locate(self, dims: Sequence[Sequence[Span]]) -> Iterator[Located]:
        """Yield every touched chunk with the bytes to read, those of one shard together.

        Raises
        ------
        DataLossError
            ``CHUNK_CORRUPT`` for a damaged index; ``CHUNK_MISSING`` for a missing shard of ours.
        """
        shards = by_shard(dims, self._shard_grid)
        while ahead := list(islice(shards, INDEXES_AHEAD)):
            indexes = self._load_indexes([shard for shard, _ in ahead])
            for shard, pieces in ahead:
                key = self.key(shard)
                index = indexes.get(shard)
                for piece in pieces:
                    request = self._request(key, index, piece.chunk)
                    yield Located(piece, request, self._decoder.part(piece.within))

    def _request(self, key: str, index: np.ndarray | None, chunk: Index) -> ByteRange | None:
        if not self._metadata.is_sharded:
            return ByteRange(key, 0, self._decoder.longest + 1)
        if index is None:
            return None
        number = 0
        for position, extent in zip(chunk, self._shard_grid, strict=True):
            number = number * extent + position % extent
        offset, length = index[number].tolist()
        if offset == length == MISSING:
            return None
        if offset >> 62 or length > self._decoder.longest:
            raise self._decoder.lost("CHUNK_CORRUPT", chunk, "the shard index points beyond the shard")
        return ByteRange(key, offset, length)

    def _load_indexes(self, shards: Sequence[Index]) -> dict[Index, np.ndarray | None]:
        """Return the indexes of `shards`, reading those that are not kept; None where there is no shard."""
        if not self._metadata.is_sharded:
            return {}
        with self._lock:
            found = {shard: self._indexes[shard] for shard in shards if shard in self._indexes}
            for shard in found:
                self._indexes.move_to_end(shard)
        wanted = [shard for shard in shards if shard not in found]
        return {**found, **self._read_indexes(wanted)} if wanted else found

    def _read_indexes(self, wanted: Sequence[Index]) -> dict[Index, np.ndarray | None]:
        length = index_bytes(self._shard_chunks)
        start, limit = (0, length) if self._metadata.index_at_start else (-length, None)
        answers = self._store.read_many([ByteRange(self.key(shard), start, limit) for shard in wanted])
        read = {shard: self._parsed(shard, data) for shard, data in zip(wanted, answers, strict=True)}
        with self._lock:
            self._indexes.update(read)
            while len(self._indexes) > self._kept:
                self._indexes.popitem(last=False)
        return read

    def _parsed(self, shard: Index, data: bytes | None) -> np.ndarray | None:
        first = tuple(number * extent for number, extent in zip(shard, self._shard_grid, strict=True))
        if data is None:
            self._decoder.check_may_miss(first)
            return None
        try:
            return parse_index(data, self._shard_chunks)
        except CorruptChunkError as error:
            raise self._decoder.lost("CHUNK_CORRUPT", first, str(error)) from error
