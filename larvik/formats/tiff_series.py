"""Series of a TIFF: from pages in file order to one array with named dims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from larvik.formats.tiff_planes import PageLayout, Plane, PlaneReader


@dataclass(frozen=True, slots=True)
class PageAxes:
    """The dims of one page: which names its depth and its samples have in the array, if any.

    ``depth`` and ``sample`` are positions in the array's dims; None when the page has but one.
    """

    depth: int | None
    row: int
    column: int
    sample: int | None


class TiffPixels:
    """An array whose planes are TIFF pages.

    Parameters
    ----------
    path, series
        What errors name.
    layout : PageLayout
        Of every page.
    planes : sequence of Plane
        In C order of `outer`.
    outer : sequence of (int, int)
        Position in the array's dims, and number of pages along it, of every dim that pages are stacked
        along. A dim that is also the depth or sample of pages has ``pages * extent of a page`` elements.
    shape : tuple of int
        Of the array.
    axes : PageAxes
        Where the dims of a page are in the array.
    """

    def __init__(
        self,
        path: str,
        series: int,
        layout: PageLayout,
        planes: Sequence[Plane],
        outer: Sequence[tuple[int, int]],
        shape: tuple[int, ...],
        axes: PageAxes,
    ) -> None:
        self._reader = PlaneReader(path, series, layout, planes)
        self._layout, self._outer, self._axes = layout, tuple(outer), axes
        self._counts = tuple(count for _, count in outer)
        self.shape = shape
        self.dtype = layout.dtype.newbyteorder("=")
        self._samples = layout.shape[0] * layout.shape[4]

    @property
    def chunks(self) -> tuple[int, ...]:
        """Elements per dim of what is best read together: whole rows of segments, a few planes."""
        chunks = [1] * len(self.shape)
        layout, axes = self._layout, self._axes
        chunks[axes.row] = min(
            layout.segment[1] if not layout.is_raw else layout.shape[2], self.shape[axes.row]
        )
        chunks[axes.column] = layout.segment[2] if layout.is_tiled else layout.shape[3]
        chunks[axes.column] = min(chunks[axes.column], self.shape[axes.column])
        if axes.depth is not None:
            chunks[axes.depth] = layout.segment[0]
        if axes.sample is not None:
            chunks[axes.sample] = self._samples
        return tuple(chunks)

    def read(self, selection: tuple[slice, ...]) -> np.ndarray:
        """Return a region as `larvik.formats.base.SeriesSource.read` defines it."""
        out = np.empty([item.stop - item.start for item in selection], self.dtype)
        if not out.size:
            return out
        ranges = [self._pages(selection, dim) for dim, _ in self._outer]
        # Pages with the same part of depth and samples are read together, by all threads.
        groups: dict[tuple[tuple[int, int], tuple[int, int]], list[tuple[int, np.ndarray]]] = {}
        for index in product(*ranges):
            depth = self._inside(selection, self._axes.depth, index, self._layout.shape[1])
            sample = self._inside(selection, self._axes.sample, index, self._samples)
            target = self._target(out, selection, index, depth, sample)
            number = int(np.ravel_multi_index(index, self._counts)) if index else 0
            groups.setdefault((depth[:2], sample[:2]), []).append((number, target))
        for (depth_part, sample_part), wanted in groups.items():
            self._read_group(selection, depth_part, sample_part, wanted)
        return out

    def _read_group(
        self,
        selection: tuple[slice, ...],
        depth: tuple[int, int],
        sample: tuple[int, int],
        wanted: list[tuple[int, np.ndarray]],
    ) -> None:
        ys, xs = selection[self._axes.row], selection[self._axes.column]
        if self._layout.shape[4] > 1:  # contiguous samples
            region = (slice(0, 1), slice(*depth), ys, xs, slice(*sample))
            blocks = [(number, target[None]) for number, target in wanted]
        else:
            region = (slice(*sample), slice(*depth), ys, xs, slice(0, 1))
            blocks = [(number, np.moveaxis(target, 3, 0)[..., None]) for number, target in wanted]
        self._reader.read(blocks, region)

    def _pages(self, selection: tuple[slice, ...], dim: int) -> range:
        """Return the pages along an outer dim that a selection touches."""
        extent = self._extent(dim)
        item = selection[dim]
        return range(item.start // extent, -(-item.stop // extent))

    def _extent(self, dim: int) -> int:
        """Return the elements of `dim` that one page holds."""
        if dim == self._axes.depth:
            return self._layout.shape[1]
        return self._samples if dim == self._axes.sample else 1

    def _inside(
        self, selection: tuple[slice, ...], dim: int | None, index: tuple[int, ...], extent: int
    ) -> tuple[int, int, int]:
        """Return start and stop within a page along depth or samples, and where that goes in the region."""
        if dim is None:
            return 0, extent, 0
        page = next((index[number] for number, (outer, _) in enumerate(self._outer) if outer == dim), 0)
        item = selection[dim]
        start, stop = max(item.start, page * extent), min(item.stop, (page + 1) * extent)
        return start - page * extent, stop - page * extent, start - item.start

    def _target(
        self,
        out: np.ndarray,
        selection: tuple[slice, ...],
        index: tuple[int, ...],
        depth: tuple[int, int, int],
        sample: tuple[int, int, int],
    ) -> np.ndarray:
        """Return the view of `out` that a page fills, with dims depth, y, x, sample."""
        axes = self._axes
        place: list[Any] = [slice(None)] * out.ndim
        for (dim, _), number in zip(self._outer, index, strict=True):
            if dim not in (axes.depth, axes.sample):
                place[dim] = slice(number - selection[dim].start, number - selection[dim].start + 1)
        for within, (low, high, at) in ((axes.depth, depth), (axes.sample, sample)):
            if within is not None:
                place[within] = slice(at, at + high - low)
        view: np.ndarray = out[tuple(place)]
        order = [dim for dim in (axes.depth, axes.row, axes.column, axes.sample) if dim is not None]
        rest = [dim for dim in range(out.ndim) if dim not in order]
        view = view.transpose(*rest, *order).reshape([view.shape[dim] for dim in order], copy=False)
        if axes.depth is None:
            view = view[None]
        return view if axes.sample is not None else view[..., None]
