"""Pixels of TIFF pages: where the segments (strips, tiles) of a plane are, and regions of planes decoded.

tifffile parses the directories and decodes segments; which bytes are read, when, and how much of them
is decided here, so that memory stays bounded and a file that lies is refused.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from larvik.errors import UnsupportedError
from larvik.formats.base import file_name, typed_errors, unreadable
from larvik.storage.workers import map_threads

#: Largest strip or tile that is decoded at once; uncompressed planes have no such limit.
MAX_SEGMENT_BYTES = 1 << 30
#: Decoded segments that are kept because a region took only part of them.
KEPT_BYTES = 128 << 20
#: A file that declares more than this times its size, and more than this many bytes, is a bomb.
MAX_RATIO, MIN_BOMB_BYTES = 10_000, 1 << 30

#: Region of a page in tifffile's normalized axes: separate samples, depth, y, x, contiguous samples.
PageRegion = tuple[slice, slice, slice, slice, slice]


@dataclass(frozen=True, slots=True)
class PageLayout:
    """What the planes of a series have in common, taken from one page.

    Attributes
    ----------
    shape : tuple of 5 int
        Separate samples, depth, y, x, contiguous samples.
    dtype : numpy.dtype
        In the byte order of the file.
    segment : tuple of 3 int
        Depth, y and x of a full segment.
    is_raw : bool
        Whether pixels are stored as they are: no compression, predictor or bit packing.
    decode : callable
        tifffile's decoder of a segment.
    """

    shape: tuple[int, int, int, int, int]
    dtype: np.dtype[Any]
    segment: tuple[int, int, int]
    is_tiled: bool
    is_raw: bool
    decode: Any

    @property
    def nbytes(self) -> int:
        """Bytes of a plane in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def segment_bytes(self) -> int:
        """Bytes of a full segment in memory."""
        return math.prod(self.segment) * self.shape[4] * self.dtype.itemsize

    @property
    def segments(self) -> int:
        """Number of segments of a plane."""
        counts = [-(-size // part) for size, part in zip(self.shape[1:4], self.segment, strict=True)]
        return self.shape[0] * math.prod(counts)

    def touched(self, region: PageRegion) -> Iterator[int]:
        """Yield the numbers of the segments that a region overlaps."""
        counts = [-(-size // part) for size, part in zip(self.shape[1:4], self.segment, strict=True)]
        ranges = [
            range(item.start // part, -(-item.stop // part))
            for item, part in zip(region[1:4], self.segment, strict=True)
        ]
        for sample, depth, row, column in product(range(region[0].start, region[0].stop), *ranges):
            yield ((sample * counts[0] + depth) * counts[1] + row) * counts[2] + column


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one plane is: a file, and the places of its segments. ``jpegtables`` belong to the page."""

    path: str
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    jpegtables: bytes | None = None


def page_layout(page: Any, path: str) -> PageLayout:
    """Return the layout of a tifffile page.

    Raises
    ------
    UnsupportedError
        ``FORMAT_UNSUPPORTED``, for segments too large to decode, or a compression that is not known.
    """
    if page.dtype is None:
        raise UnsupportedError(
            f"{file_name(path)} has pixels of {page.bitspersample} bits in a sample format that"
            " Larvik does not read.",
            reason="DTYPE_UNSUPPORTED",
            field="dtype",
        )
    is_tiled = bool(page.is_tiled)
    samples, depth, rows, columns, contig = (int(size) for size in page.shaped)
    segment = (1, max(1, min(int(page.rowsperstrip), rows)), columns)
    if is_tiled:
        segment = (max(1, int(page.tiledepth)), max(1, int(page.tilelength)), max(1, int(page.tilewidth)))
    is_raw = (
        page.compression == 1 and page.predictor == 1 and page.fillorder == 1 and not page.is_subsampled
        and page.bitspersample in (8, 16, 32, 64) and page.sampleformat != 5
    )  # fmt: skip
    dtype = np.dtype(page.parent.byteorder + page.dtype.char)
    layout = PageLayout(
        (samples, depth, rows, columns, contig), dtype, segment, is_tiled, is_raw, page.decode
    )
    if not is_raw and layout.segment_bytes > MAX_SEGMENT_BYTES:
        raise UnsupportedError(
            f"{file_name(path)} is compressed in pieces of {layout.segment_bytes >> 20} MiB, too"
            " large to decode in "
            "bounded memory. Convert it to a tiled TIFF.",
            reason="FORMAT_UNSUPPORTED",
            field="RowsPerStrip",
        )
    return layout


class PlaneReader:
    """Reads regions of the planes of one series.

    Parameters
    ----------
    path : str
        File that errors name.
    series : int
        Series that errors name.
    layout : PageLayout
        Of every plane.
    planes : sequence of Plane
        In the order by which `read` numbers them.

    Raises
    ------
    InvalidArgumentError
        ``FILE_UNREADABLE``, when a segment lies outside its file, or the file declares absurdly more
        pixels than it has bytes.
    """

    def __init__(self, path: str, series: int, layout: PageLayout, planes: Sequence[Plane]) -> None:
        self._path, self._series = path, series
        self._layout, self._planes = layout, planes
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._check()

    def _check(self) -> None:
        sizes: dict[str, int] = {}
        stored = 0
        for number, plane in enumerate(self._planes):
            if plane.path not in sizes:
                with typed_errors(plane.path, self._series):
                    sizes[plane.path] = os.stat(plane.path).st_size
            end = max(
                (offset + count for offset, count in zip(plane.offsets, plane.counts, strict=True) if count),
                default=0,
            )
            if end > sizes[plane.path]:
                raise unreadable(
                    plane.path,
                    f"plane {number} ends at byte {end}, but the file has {sizes[plane.path]}"
                    " bytes: it is truncated",
                    self._series,
                )
            if not self._is_contiguous(plane) and len(plane.offsets) < self._layout.segments:
                raise unreadable(plane.path, f"plane {number} lacks strips or tiles", self._series)
            stored += sum(plane.counts)
        declared = self._layout.nbytes * len(self._planes)
        if declared > MIN_BOMB_BYTES and declared > MAX_RATIO * max(1, stored):
            raise unreadable(
                self._path,
                f"it declares {declared} bytes of pixels and stores {stored}, which cannot be",
                self._series,
            )

    def _is_contiguous(self, plane: Plane) -> bool:
        """Tell whether a plane is one run of raw rows."""
        layout = self._layout
        if not layout.is_raw or not plane.offsets or sum(plane.counts) < layout.nbytes:
            return False
        if layout.is_tiled and layout.segment != layout.shape[1:4]:
            return False
        return all(
            offset + count == after
            for offset, count, after in zip(plane.offsets, plane.counts, plane.offsets[1:], strict=False)
        )

    def read(self, wanted: Sequence[tuple[int, np.ndarray]], region: PageRegion) -> None:
        """Read the same region of several planes.

        Parameters
        ----------
        wanted : sequence of (int, ndarray)
            Number of the plane, and where the region goes: an array of its shape (five dims) and of the
            series' dtype in native byte order.
        region : tuple of 5 slices
            In the axes of `PageLayout.shape`.
        """

        def one(item: tuple[int, np.ndarray]) -> None:
            with typed_errors(self._path, self._series):
                self._read_plane(*item, region)

        if len(wanted) == 1:
            one(wanted[0])
            return
        for _ in map_threads(one, wanted):
            pass

    def _read_plane(self, number: int, out: np.ndarray, region: PageRegion) -> None:
        plane = self._planes[number]
        descriptor = os.open(plane.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self._is_contiguous(plane):
                self._read_raw(descriptor, plane, out, region)
                return
            numbers = list(self._layout.touched(region))
            if len(numbers) < 4:
                for segment in numbers:
                    self._place(descriptor, number, segment, out, region)
            else:
                for _ in map_threads(lambda one: self._place(descriptor, number, one, out, region), numbers):
                    pass
        finally:
            os.close(descriptor)

    def _read_raw(self, descriptor: int, plane: Plane, out: np.ndarray, region: PageRegion) -> None:
        """Read rows straight into `out` where it is laid out like the file, else row by row."""
        _, depth, rows, columns, contig = self._layout.shape
        native = self._layout.dtype.isnative
        row_bytes = columns * contig * self._layout.dtype.itemsize
        samples, depths, ys, xs, _ = region
        full_rows = (xs.stop - xs.start) * 2 > columns
        for (i, sample), (j, z) in product(enumerate(_range(samples)), enumerate(_range(depths))):
            start = plane.offsets[0] + ((sample * depth + z) * rows + ys.start) * row_bytes
            target = out[i, j]
            if (
                native
                and out.dtype == self._layout.dtype
                and target.flags.c_contiguous
                and xs.stop - xs.start == columns
                and target.shape[2] == contig
            ):
                self._fill(descriptor, target, start)
            elif full_rows:
                block = np.empty((ys.stop - ys.start, columns, contig), self._layout.dtype)
                self._fill(descriptor, block, start)
                target[...] = block[:, xs, region[4]]
            else:
                self._fill_columns(descriptor, target, start, row_bytes, region)

    def _fill_columns(
        self, descriptor: int, target: np.ndarray, start: int, row_bytes: int, region: PageRegion
    ) -> None:
        xs, contig = region[3], self._layout.shape[4]
        row = np.empty((xs.stop - xs.start, contig), self._layout.dtype)
        first = start + xs.start * contig * self._layout.dtype.itemsize
        for line in range(target.shape[0]):
            self._fill(descriptor, row, first + line * row_bytes)
            target[line] = row[:, region[4]]

    def _fill(self, descriptor: int, block: np.ndarray, offset: int) -> None:
        """Read exactly `block` from `offset`."""
        view = memoryview(block.reshape(-1).view(np.uint8).data)
        while view:
            count = os.preadv(descriptor, [view[: 1 << 30]], offset)
            if count == 0:
                raise unreadable(self._path, "it ends before its last pixel", self._series)
            view, offset = view[count:], offset + count

    def _place(self, descriptor: int, number: int, segment: int, out: np.ndarray, region: PageRegion) -> None:
        """Decode one segment and copy what of it lies in the region."""
        data, first = self._segment(descriptor, number, segment, region)
        inside, place = [], []
        for start, size, wanted in zip(first, data.shape, region[1:4], strict=False):
            low, high = max(start, wanted.start), min(start + size, wanted.stop)
            inside.append(slice(low - start, high - start))
            place.append(slice(low - wanted.start, high - wanted.start))
        sample = segment // (self._layout.segments // self._layout.shape[0]) - region[0].start
        out[(sample, *place)] = data[(*inside, region[4])]

    def _segment(
        self, descriptor: int, number: int, segment: int, region: PageRegion
    ) -> tuple[np.ndarray, tuple[int, int, int]]:
        layout = self._layout
        plane = self._planes[number]
        counts = [-(-size // part) for size, part in zip(layout.shape[1:4], layout.segment, strict=True)]
        rest, column = divmod(segment, counts[2])
        rest, row = divmod(rest, counts[1])
        first = (rest % counts[0] * layout.segment[0], row * layout.segment[1], column * layout.segment[2])
        with self._lock:
            kept = self._kept.get((number, segment))
        if kept is not None:
            return kept, first
        data = self._decode(descriptor, plane, segment, first)
        is_partial = any(
            wanted.start > start or wanted.stop < min(start + size, whole)
            for wanted, start, size, whole in zip(
                region[1:4], first, data.shape, layout.shape[1:4], strict=False
            )
        )
        if is_partial:
            self._keep((number, segment), data)
        return data, first

    def _decode(self, descriptor: int, plane: Plane, segment: int, first: tuple[int, int, int]) -> np.ndarray:
        layout = self._layout
        count = plane.counts[segment]
        size = tuple(
            min(part, whole - start)
            for part, whole, start in zip(layout.segment, layout.shape[1:4], first, strict=True)
        )
        if count == 0:  # a sparse file leaves out what is empty
            return np.zeros((*size, layout.shape[4]), layout.dtype)
        data = os.pread(descriptor, count, plane.offsets[segment])
        if len(data) < count:
            raise unreadable(self._path, "it ends inside a strip or tile", self._series)
        decoded, _, shape = layout.decode(data, segment, jpegtables=plane.jpegtables)
        found = np.asarray(decoded).reshape(shape)
        return found[: size[0], : size[1], : size[2]]

    def _keep(self, key: tuple[int, int], data: np.ndarray) -> None:
        size = math.prod(data.shape) * data.dtype.itemsize
        if size > KEPT_BYTES // 2:
            return
        with self._lock:
            if key not in self._kept:
                self._kept[key] = data
                self._kept_bytes += size
            while self._kept_bytes > KEPT_BYTES:
                _, old = self._kept.popitem(last=False)
                self._kept_bytes -= old.nbytes


def _range(item: slice) -> range:
    return range(item.start, item.stop)
