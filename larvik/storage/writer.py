"""Writing one new array: whole shards, then the levels below, then the group that makes it one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from larvik import faults
from larvik.array.spec import ArraySpec, Level
from larvik.errors import CallCancelledError, InvalidArgumentError, PreconditionError, SelectionError
from larvik.storage.base import Store, join
from larvik.storage.codecs import Codec, default_codec
from larvik.storage.documents import write_json
from larvik.storage.encoded import Index, encoding_of
from larvik.storage.engine import RegionReader
from larvik.storage.group import GroupMetadata
from larvik.storage.inventory import delete_partial, stored_bytes
from larvik.storage.layout import averages
from larvik.storage.ngff import write_group
from larvik.storage.pyramid import coarser
from larvik.storage.regions import regions
from larvik.storage.shards import join_shard
from larvik.storage.stored_shards import Pyramid, Shard
from larvik.storage.workers import map_threads
from larvik.storage.zarr_metadata import COMPLETE, array_document, parse_v3

Region = tuple[slice, ...]


class ArrayWriter:
    """Writes the shards of one new array, which stays invisible until `finish` and its row's commit.

    Parameters
    ----------
    store : Store
        Where to.
    location : str
        Key of the new group.
    spec : ArraySpec
        From `plan_layout`.
    kind : str
        ``intensity``, ``label`` or ``mask``.
    codec : Codec, optional
        `default_codec` of the kind when not given.

    Notes
    -----
    Holds no state: another process may make a writer of the same array and go on, and `finish` asks the
    store which shards exist. Thread-safe: callers may write several shards at once, but each shard by one
    alone, and nothing while one is written anew or `finish` runs. A shard is encoded by as many threads as
    there are cores; beside the caller's block it takes its encoded bytes twice.

    A shard of a coarser level that exists is made from the shards below it that exist: writing one of these
    anew removes it first.
    """

    def __init__(
        self,
        store: Store,
        location: str,
        spec: ArraySpec,
        *,
        kind: str = "intensity",
        codec: Codec | None = None,
    ) -> None:
        if spec.format not in ("ome-zarr", "zarr"):
            raise InvalidArgumentError(
                f"Larvik does not write {spec.format}.", reason="FORMAT_UNSUPPORTED", field="format"
            )
        self.store = store
        self.location = location
        self.spec = spec
        self.kind = kind
        self.codec = codec or default_codec(kind)
        self.pyramid = Pyramid(spec)
        self.encodings = [encoding_of(level, spec.dtype, self.codec) for level in spec.levels]
        self._averages = averages(kind, spec.dtype)
        self._dtype = np.dtype(spec.dtype)

    @property
    def document(self) -> dict[str, Any]:
        """The metadata of the finest level, which tells how its chunks are encoded."""
        return self._document(self.spec.levels[0])

    def regions(self) -> Iterator[Region]:
        """Yield the region of every shard of the finest level, in C order, clipped at the edge."""
        return regions(self.spec.shape, self.spec.levels[0].shards)

    def shard(self, start: Sequence[int]) -> Shard:
        """Return the shard of the finest level whose first element is at `start`.

        Raises
        ------
        SelectionError
            ``REGION_UNALIGNED``.
        """
        grid = self.pyramid.grids[0]
        is_aligned = len(start) == len(grid.shape) and all(
            0 <= s < size and s % extent == 0
            for s, extent, size in zip(start, grid.shards, grid.shape, strict=True)
        )
        if not is_aligned:
            raise SelectionError(
                f"No shard begins at {tuple(start)}: shards are {grid.shards}, in an array of {grid.shape}.",
                reason="REGION_UNALIGNED",
                field="start",
            )
        return Shard(0, tuple(s // extent for s, extent in zip(start, grid.shards, strict=True)))

    def write(self, start: tuple[int, ...], block: np.ndarray) -> None:
        """Write one shard of the finest level; durable when this returns. Writing it again replaces it.

        Parameters
        ----------
        start : tuple of int
            First element of a region of `regions`.
        block : numpy.ndarray
            Its pixels: the shape of the region, the dtype of the spec in any byte order.

        Raises
        ------
        SelectionError
            ``REGION_UNALIGNED``, when `start` and the shape of `block` are no region of `regions`.
        InvalidArgumentError
            ``DTYPE_MISMATCH``.
        ResourceExhaustedError
            ``STORE_FULL``.
        """
        shard = self.shard(start)
        self._check_block(start, block)

        def pixels(region: Region) -> np.ndarray:
            return block[tuple(slice(p.start - s, p.stop - s) for p, s in zip(region, start, strict=True))]

        self._replace(shard, self._encode(shard, pixels))

    def write_chunks(self, index: Index, chunks: Sequence[bytes | None]) -> None:
        """Write one shard of the finest level from chunks that are encoded already, as `write` does.

        Parameters
        ----------
        index : tuple of int
            Of the shard in the grid of shards.
        chunks : sequence of bytes or None
            In C order, each as ``encodings[0].check`` wants it; None beyond the edges of the array.
        """
        self._replace(Shard(0, index), chunks)

    def build(self, shard: Shard) -> None:
        """Write a shard of a coarser level from its sources, in this thread; nothing happens when it exists.

        Raises
        ------
        DataLossError
            ``CHUNK_MISSING``, when a source is not stored.
        """
        if not self.is_stored(shard):
            self._store(shard, self._encode(shard, self._coarser(shard.level), map))

    def is_stored(self, shard: Shard) -> bool:
        """Ask the store whether a shard exists."""
        return bool(self.store.size(self._key(shard)))

    def stored(self, level: int) -> set[int]:
        """Return the numbers, in C order of the grid, of the shards of a level that the store lists."""
        grid = self.pyramid.grids[level]
        prefix = join(self.location, self.spec.levels[level].path, "c")
        found = set()
        for key, size in self.store.list(prefix):
            index = _index(key[len(prefix) + 1 :], len(grid.shape)) if size > 0 else None
            if index is not None and all(i < n for i, n in zip(index, grid.shard_counts, strict=True)):
                found.add(grid.number_of(index))
        return found

    def missing(self) -> Iterator[Region]:
        """Yield the regions of the finest level that have not been written."""
        stored = self.stored(0)
        for number, region in enumerate(self.regions()):
            if number not in stored:
                yield region

    def finish(
        self,
        *,
        metadata: GroupMetadata,
        progress: Callable[[int, int], object] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> int:
        """Build the coarser levels, write the group, and return the stored bytes.

        Parameters
        ----------
        metadata : GroupMetadata
            The copy of the row's metadata.
        progress : callable, optional
            Called with shards done and shards in all, after each shard of the coarser levels.
        cancelled : callable, optional
            Asked before each shard.

        Raises
        ------
        PreconditionError
            ``ARRAY_INCOMPLETE``, when regions have not been written.
        CallCancelledError
            When `cancelled` says so; the caller may go on later.
        """
        missing = self.missing()
        if (first := next(missing, None)) is not None:
            count = 1 + sum(1 for _ in missing)
            raise PreconditionError(
                f"{count} regions of the array have not been written, the first is "
                f"{[(part.start, part.stop) for part in first]}. Write them, then finish.",
                reason="ARRAY_INCOMPLETE",
                missing=count,
            )
        self._write_level_metadata(self.spec.levels[0])
        self._build_levels(progress, cancelled)
        delete_partial(self.store, self.location)
        faults.reach("storage.group.before")
        write_group(self.store, self.location, self.spec, metadata, kind=self.kind)
        faults.reach("storage.group.written")
        return stored_bytes(self.store, self.location)

    def _build_levels(
        self, progress: Callable[[int, int], object] | None, cancelled: Callable[[], bool] | None
    ) -> None:
        grids = self.pyramid.grids
        stored = [self.stored(level) for level in range(1, len(grids))]
        total = sum(math.prod(grid.shard_counts) for grid in grids[1:])
        done = sum(map(len, stored))
        if progress is not None and done:
            progress(done, total)
        for level, known in enumerate(stored, start=1):
            pixels = self._coarser(level)
            for number in range(math.prod(grids[level].shard_counts)):
                if number in known:
                    continue
                if cancelled is not None and cancelled():
                    raise CallCancelledError("Writing the array was cancelled.")
                shard = Shard(level, grids[level].shard_at(number))
                self._store(shard, self._encode(shard, pixels))
                done += 1
                if progress is not None:
                    progress(done, total)
            self._write_level_metadata(self.spec.levels[level])
            faults.reach("storage.level.written")

    def _coarser(self, level: int) -> Callable[[Region], np.ndarray]:
        """Return a function from a region of a coarser level to its pixels.

        Its reader is a new one, because one that is kept would remember shards that were written anew.
        """
        finer = self.spec.levels[level - 1]
        where = join(self.location, finer.path)
        reader = RegionReader(self.store, where, parse_v3(self._document(finer), where))
        return coarser(reader, self.spec.dims, averages=self._averages)

    def _encode(
        self, shard: Shard, pixels: Callable[[Region], np.ndarray], in_order: Callable[..., Any] = map_threads
    ) -> list[bytes | None]:
        """Return the encoded chunks of a shard, each from ``pixels(region)``; None beyond the edges."""
        encoding, grid = self.encodings[shard.level], self.pyramid.grids[shard.level]
        chunks: list[bytes | None] = [None] * grid.slot_count
        places, regions = [], []
        for chunk, region in grid.chunks_of(shard.index):
            places.append(grid.slot_of(chunk))
            regions.append(region)
        for place, data in zip(places, in_order(lambda r: encoding.encode(pixels(r)), regions), strict=True):
            chunks[place] = data
        return chunks

    def _replace(self, shard: Shard, chunks: Sequence[bytes | None]) -> None:
        """Store a shard of the finest level; of one that exists, first remove what was made from it."""
        if self.is_stored(shard):
            for made in self.pyramid.descendants(shard):
                self.store.delete(self._key(made))
        self._store(shard, chunks)

    def _store(self, shard: Shard, chunks: Sequence[bytes | None]) -> None:
        level = self.spec.levels[shard.level]
        data = join_shard(chunks) if level.shards != level.chunks else chunks[0]
        assert data is not None  # the first chunk of a shard is never beyond the edge
        self.store.write(self._key(shard), data)
        faults.reach("storage.shard.written")

    def _key(self, shard: Shard) -> str:
        return join(self.location, self.spec.levels[shard.level].path, "c", *map(str, shard.index))

    def _document(self, level: Level) -> dict[str, Any]:
        attributes = {"larvik": {COMPLETE: True}}
        return array_document(level, self.spec.dtype, self.spec.dims, self.codec, attributes)

    def _write_level_metadata(self, level: Level) -> None:
        write_json(self.store, join(self.location, level.path, "zarr.json"), self._document(level))

    def _check_block(self, start: tuple[int, ...], block: np.ndarray) -> None:
        level = self.spec.levels[0]
        expected = tuple(
            min(extent, size - s) for s, extent, size in zip(start, level.shards, level.shape, strict=True)
        )
        if block.shape != expected:
            raise SelectionError(
                f"A block of shape {block.shape} at {tuple(start)} is not a whole shard: shards are "
                f"{level.shards}, clipped to the array's {level.shape}.",
                reason="REGION_UNALIGNED",
                field="start",
            )
        if block.dtype.newbyteorder("=") != self._dtype:
            raise InvalidArgumentError(
                f"The block has dtype {block.dtype}, the array {self._dtype}.",
                reason="DTYPE_MISMATCH",
                field="dtype",
            )


def _index(text: str, rank: int) -> Index | None:
    """Return the index in the last part of a shard's key, None when there is none: a partial file."""
    parts = text.split("/")
    if len(parts) != rank or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(map(int, parts))
