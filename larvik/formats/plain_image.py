"""Series of TIFFs without OME-XML: ImageJ's, and any other that tifffile can group into series."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from larvik.biometa.ome_read import SAMPLE_NAMES
from larvik.biometa.tables import Biometa, Row, make_row
from larvik.errors import UnsupportedError
from larvik.formats.base import SeriesInfo, SeriesSource, file_name, inconsistent, unreadable
from larvik.formats.kinds import guess_kind
from larvik.formats.tiff_axes import (
    Calibration,
    as_json,
    imagej_calibration,
    imagej_text,
    name_axes,
    plain_calibration,
    resolution_of,
)
from larvik.formats.tiff_file import FORMAT, TiffImage, dtype_name, make_axes, page_plane, stem
from larvik.formats.tiff_planes import PageLayout, Plane, page_layout
from larvik.formats.tiff_series import PageAxes, TiffPixels


def plain_images(path: str, tiff: Any) -> list[TiffImage]:
    """Return the series that tifffile finds in a file without OME-XML."""
    return [PlainImage(path, index, series, tiff) for index, series in enumerate(tiff.series)]


@dataclass
class PlainImage:
    """One series of a TIFF without OME-XML: its axes as tifffile names them."""

    path: str
    index: int
    series: Any
    tiff: Any

    def info(self) -> SeriesInfo:
        """Return what the series is."""
        layout = page_layout(self.series.keyframe, self.path)
        dims, shape, _, _, warnings = self._layout(layout)
        spacing = dict(self._calibration().spacing)
        dtype = dtype_name(layout, self.path)
        title = str(self.series.name or "")
        return SeriesInfo(
            index=self.index,
            name=title
            or (stem(self.path) if len(self.tiff.series) == 1 else f"{stem(self.path)} {self.index}"),
            format=FORMAT,
            axes=make_axes(dims, spacing),
            shape=shape,
            dtype=dtype,
            spacing=tuple(spacing.get(dim, 1.0) for dim in dims),
            origin=(0.0,) * len(dims),
            channel_names=tuple(row["name"] or "" for row in self._channels(dims, shape))
            if "c" in dims
            else (),
            kind=guess_kind(dtype, title, stem(self.path)),
            warnings=tuple(warnings),
        )

    def source(self) -> SeriesSource:
        """Find every plane, and return the series open for reading."""
        layout = page_layout(self.series.keyframe, self.path)
        dims, shape, outer, axes, _ = self._layout(layout)
        planes = self._planes(layout, math.prod(count for _, count in outer))
        pixels = TiffPixels(self.path, self.index, layout, planes, outer, shape, axes)
        return SeriesSource(self.info(), self._biometa(dims, shape), pixels.chunks, pixels.read)

    def _layout(
        self, layout: PageLayout
    ) -> tuple[list[str], tuple[int, ...], list[tuple[int, int]], PageAxes, list[str]]:
        """Return dims in canonical order, shape, dims that pages are stacked along, page axes, warnings."""
        letters, sizes = str(self.series.axes), tuple(int(size) for size in self.series.shape)
        within = len(self.series.keyframe.shape)
        names, warnings = name_axes(letters, sizes)
        if letters[len(letters) - within :] != self.series.keyframe.axes:
            raise UnsupportedError(
                f"{file_name(self.path)} stores its planes ({self.series.keyframe.axes}) in an"
                " order that does not "
                f"fit its axes ({letters}).",
                reason="FORMAT_UNSUPPORTED",
                field="axes",
            )
        outer_names, outer_sizes = names[: len(names) - within], sizes[: len(sizes) - within]
        extents = {
            "c": layout.shape[0] * layout.shape[4],
            "z": layout.shape[1],
            "y": layout.shape[2],
            "x": layout.shape[3],
        }
        total = {dim: size for dim, size in extents.items() if size > 1 or dim in "yx"}
        for dim, size in zip(outer_names, outer_sizes, strict=True):
            total[dim] = total.get(dim, 1) * size
        known = [dim for dim in "tczyx" if dim in total]
        dims = [dim for dim in total if dim not in known] + known
        outer = [(dims.index(dim), size) for dim, size in zip(outer_names, outer_sizes, strict=True)]
        axes = PageAxes(
            dims.index("z") if layout.shape[1] > 1 else None, dims.index("y"), dims.index("x"),
            dims.index("c") if extents["c"] > 1 else None,
        )  # fmt: skip
        return dims, tuple(total[dim] for dim in dims), outer, axes, warnings

    def _planes(self, layout: PageLayout, count: int) -> list[Plane]:
        pages = [page for page in self.series.pages if page is not None]
        if len(pages) >= count:
            return [page_plane(page, self.path) for page in pages[:count]]
        start = self.series.dataoffset
        if start is None or not layout.is_raw:
            raise inconsistent(
                self.path, f"series {self.index} has {len(pages)} of its {count} planes", "ImageDescription"
            )
        # ImageJ and tifffile write one directory, and all planes in a row behind the first.
        size = layout.nbytes
        if start + count * size > os.path.getsize(self.path):
            raise unreadable(self.path, f"it ends before the last of its {count} planes", self.index)
        return [Plane(self.path, (start + number * size,), (size,)) for number in range(count)]

    @property
    def _imagej(self) -> dict[str, Any]:
        found = self.tiff.imagej_metadata if self.tiff.is_imagej else None
        return dict(found or {})

    def _calibration(self) -> Calibration:
        page = self.series.keyframe
        if self.tiff.is_imagej:
            return imagej_calibration(self._imagej, resolution_of(page))
        tag = page.tags.get("ResolutionUnit")
        unit = int(tag.value) if tag is not None and isinstance(tag.value, int) else 2
        return plain_calibration(resolution_of(page), unit)

    def _channels(self, dims: Sequence[str], shape: Sequence[int]) -> list[Row]:
        if "c" not in dims:
            return [make_row("channels", index=0)]
        count = shape[dims.index("c")]
        names: list[str | None] = [None] * count
        photometric = getattr(self.series.keyframe.photometric, "name", "")
        if photometric in ("RGB", "YCBCR") and count in (3, 4):
            names = list(SAMPLE_NAMES[:count])
        labels = self._imagej.get("Labels")
        if (
            isinstance(labels, list)
            and len(labels) == count
            and all(isinstance(item, str) for item in labels)
        ):
            names = [str(label)[:200] for label in labels]
        return [make_row("channels", index=index, name=name) for index, name in enumerate(names)]

    def _biometa(self, dims: Sequence[str], shape: Sequence[int]) -> Biometa:
        info = self.info()
        sizes = dict(zip(dims, shape, strict=True))
        steps = dict(self._calibration().spacing)
        scan = make_row(
            "scan", name=info.name, **{f"size_{dim}": sizes.get(dim, 1) for dim in "xyzct"},
            **{f"physical_size_{dim}": steps.get(dim) for dim in "xyz"}, time_increment=steps.get("t"),
            acquisition_date=_date(self.series.keyframe),
        )  # fmt: skip
        imagej = imagej_text(self._imagej)
        text = self.series.keyframe.description or as_json(imagej)
        original = make_row(
            "original",
            format="imagej" if self.tiff.is_imagej else "tiff",
            text=text,
            attributes=imagej or None,
        )
        return Biometa((scan,), tuple(self._channels(dims, shape)), original=(original,) if text else ())


def _date(page: Any) -> str | None:
    """Return the DateTime tag (``2024:05:01 12:00:00``, without a zone) as ISO 8601."""
    tag = page.tags.get("DateTime")
    found = (
        re.fullmatch(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)\0?", str(tag.value))
        if tag is not None
        else None
    )
    return f"{found[1]}-{found[2]}-{found[3]}T{found[4]}" if found else None
