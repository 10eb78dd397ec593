"""Writing one new array: whole shards, then the levels below, then the group that makes it one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product

import numpy as np

from larvik import faults
from larvik.array.spec import ArraySpec, Level
from larvik.errors import CallCancelledError, InvalidArgumentError, PreconditionError, SelectionError
from larvik.storage.base import Store, join
from larvik.storage.codecs import Codec, default_codec
from larvik.storage.documents import write_json
from larvik.storage.engine import open_reader
from larvik.storage.group import GroupMetadata
from larvik.storage.inventory import stored_bytes
from larvik.storage.layout import averages
from larvik.storage.ngff import write_group
from larvik.storage.pyramid import coarser
from larvik.storage.regions import regions
from larvik.storage.shards import join_shard
from larvik.storage.workers import map_threads
from larvik.storage.zarr_metadata import COMPLETE, array_document

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
    store which shards exist. Thread-safe: callers may write several shards at once. A shard is encoded by
    as many threads as there are cores; beside the caller's block it takes its encoded bytes twice.
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
        self._averages = averages(kind, spec.dtype)
        self._dtype = np.dtype(spec.dtype)

    def regions(self) -> Iterator[Region]:
        """Yield the region of every shard of the finest level, in C order, clipped at the edge."""
        return regions(self.spec.shape, self.spec.levels[0].shards)

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
        level = self.spec.levels[0]
        self._check_block(level, start, block)

        def pixels(region: Region) -> np.ndarray:
            return block[tuple(slice(p.start - s, p.stop - s) for p, s in zip(region, start, strict=True))]

        self._write_shard(level, start, pixels)

    def missing(self) -> Iterator[Region]:
        """Yield the regions of the finest level that have not been written."""
        level = self.spec.levels[0]
        prefix = join(self.location, level.path)
        stored = {key for key, size in self.store.list(prefix) if size > 0}
        for region in self.regions():
            if self._shard_key(level, [part.start for part in region]) not in stored:
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
        faults.reach("storage.group.before")
        write_group(self.store, self.location, self.spec, metadata, kind=self.kind)
        faults.reach("storage.group.written")
        return stored_bytes(self.store, self.location)

    def _build_levels(
        self, progress: Callable[[int, int], object] | None, cancelled: Callable[[], bool] | None
    ) -> None:
        levels = self.spec.levels
        total = sum(_shard_count(level) for level in levels[1:])
        done = 0
        for finer, level in pairwise(levels):
            reader = open_reader(self.store, self.location, finer, self.spec.dtype)
            pixels = coarser(reader, self.spec.dims, averages=self._averages)
            for region in regions(level.shape, level.shards):
                if cancelled is not None and cancelled():
                    raise CallCancelledError("Writing the array was cancelled.")
                self._write_shard(level, [part.start for part in region], pixels)
                done += 1
                if progress is not None:
                    progress(done, total)
            self._write_level_metadata(level)
            faults.reach("storage.level.written")

    def _write_shard(
        self, level: Level, start: Sequence[int], pixels: Callable[[Region], np.ndarray]
    ) -> None:
        """Encode the chunks of the shard at `start`, each from ``pixels(region)``, and store it."""
        extents = zip(start, level.shards, level.chunks, strict=True)
        corners = product(*(range(first, first + shard, chunk) for first, shard, chunk in extents))

        def encode(corner: tuple[int, ...]) -> bytes | None:
            if any(c >= size for c, size in zip(corner, level.shape, strict=True)):
                return None  # beyond the edge of the array
            region = tuple(
                slice(c, min(c + chunk, size))
                for c, chunk, size in zip(corner, level.chunks, level.shape, strict=True)
            )
            return self.codec.encode(self._whole_chunk(pixels(region), level.chunks))

        encoded = list(map_threads(encode, corners))
        data = join_shard(encoded) if level.shards != level.chunks else encoded[0]
        assert data is not None  # the first chunk of a shard is never beyond the edge
        self.store.write(self._shard_key(level, start), data)
        faults.reach("storage.shard.written")

    def _whole_chunk(self, pixels: np.ndarray, chunks: tuple[int, ...]) -> np.ndarray:
        """Return `pixels` as a contiguous little-endian chunk, with zeros beyond the array's edge."""
        little = self._dtype.newbyteorder("<")
        if pixels.shape == chunks:
            return np.ascontiguousarray(pixels, dtype=little)
        whole = np.zeros(chunks, little)
        whole[tuple(slice(size) for size in pixels.shape)] = pixels
        return whole

    def _shard_key(self, level: Level, start: Sequence[int]) -> str:
        index = [str(s // extent) for s, extent in zip(start, level.shards, strict=True)]
        return join(self.location, level.path, "c", *index)

    def _write_level_metadata(self, level: Level) -> None:
        document = array_document(
            level, self.spec.dtype, self.spec.dims, self.codec, {"larvik": {COMPLETE: True}}
        )
        write_json(self.store, join(self.location, level.path, "zarr.json"), document)

    def _check_block(self, level: Level, start: tuple[int, ...], block: np.ndarray) -> None:
        expected = tuple(
            min(extent, size - s) for s, extent, size in zip(start, level.shards, level.shape, strict=False)
        )
        aligned = len(start) == len(level.shape) and all(
            0 <= s < size and s % extent == 0
            for s, extent, size in zip(start, level.shards, level.shape, strict=True)
        )
        if not aligned or block.shape != expected:
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


def _shard_count(level: Level) -> int:
    return math.prod(-(-size // extent) for size, extent in zip(level.shape, level.shards, strict=True))
