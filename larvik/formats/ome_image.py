"""Images of OME-TIFF: one file, or a set of them, by what the OME-XML says."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from larvik.biometa.document import OmeDocument, OmeImage
from larvik.biometa.ome_read import biometa_of, channel_names, physical_size, positive, quantity
from larvik.biometa.tables import Biometa
from larvik.errors import UnsupportedError
from larvik.formats.base import SeriesInfo, SeriesSource, file_name, inconsistent, unreadable
from larvik.formats.kinds import guess_kind, times_of
from larvik.formats.ome_planes import PlaneTable, find_planes
from larvik.formats.tiff_file import (
    FORMAT,
    TiffFiles,
    TiffImage,
    dtype_name,
    full_page,
    make_axes,
    page_planes,
    stem,
)
from larvik.formats.tiff_planes import PageLayout, page_layout
from larvik.formats.tiff_series import PageAxes, TiffPixels


def ome_images(path: str, document: OmeDocument, files: TiffFiles) -> list[TiffImage]:
    """Return the images of an OME-TIFF set."""
    images = [OmeTiffImage(path, image, files) for image in document.images]
    if not images:
        raise unreadable(path, "its OME-XML names no image")
    return list(images)


class OmeTiffImage:
    """One image of an OME-TIFF set. Dims are always ``t c z y x``."""

    def __init__(self, path: str, image: OmeImage, files: TiffFiles) -> None:
        self._path, self._image, self._files = path, image, files
        self.index = image.index
        self._warnings: list[str] = []

    def info(self) -> SeriesInfo:
        """Return what the image is, from the OME-XML and its first page."""
        return self._info(*self._find()[:2])

    def source(self) -> SeriesSource:
        """Find every plane, and return the image open for reading."""
        layout, shape, samples, table, page = self._find()
        planes = page_planes(self._files, table, page, self._path, self.index)
        outer = [(0, table.places.shape[0]), (1, table.places.shape[1]), (2, table.places.shape[2])]
        axes = PageAxes(None, 3, 4, 1 if samples > 1 else None)
        pixels = TiffPixels(self._path, self.index, layout, planes, outer, shape, axes)
        info = self._info(layout, shape)
        biometa = self._matching(biometa_of(self._image), shape)
        return SeriesSource(info, biometa, pixels.chunks, pixels.read)

    def _find(self) -> tuple[PageLayout, tuple[int, ...], int, PlaneTable, Any]:
        image, sizes = self._image, self._image.sizes
        self._warnings.clear()
        samples = self._samples()
        image = self._image
        table = find_planes(image, self._path, sizes["C"] // samples, self._files.page_count)
        self._warnings.extend(table.warnings)
        table = self._without_missing(table)
        self._check_unused(table)
        first = table.places[0, 0, 0]
        page = full_page(self._files.open(table.files[first[0]]), int(first[1]))
        layout = page_layout(page, self._path)
        if (layout.shape[2], layout.shape[3]) != (sizes["Y"], sizes["X"]) or layout.shape[1] != 1:
            raise inconsistent(
                self._path,
                f"image {self.index} is {sizes['X']} x {sizes['Y']} pixels by its metadata, and"
                " its pages are "
                f"{layout.shape[3]} x {layout.shape[2]}",
                "SizeX",
            )
        if layout.shape[0] * layout.shape[4] != samples:
            raise inconsistent(
                self._path,
                f"its pages have {layout.shape[0] * layout.shape[4]} samples per pixel, its"
                f" metadata say {samples}",
                "SamplesPerPixel",
            )
        t, c, z = table.places.shape[:3]
        return layout, (t, c * samples, z, sizes["Y"], sizes["X"]), samples, table, page

    def _samples(self) -> int:
        """Return samples per pixel: as the pages have them, where that is the only thing that fits."""
        image, sizes = self._image, self._image.sizes
        declared = set(image.samples)
        if len(declared) > 1:
            raise UnsupportedError(
                f"{file_name(self._path)} mixes channels of {sorted(declared)} samples per pixel in image "
                f"{self.index}, which Larvik does not read.",
                reason="FORMAT_UNSUPPORTED",
                field="SamplesPerPixel",
            )
        samples = declared.pop()
        entry = image.tiff_data[0] if image.tiff_data else None
        if entry is not None and entry.file_name not in (None, os.path.basename(self._path)):
            return samples
        tiff = self._files.open(self._path)
        stored = int(full_page(tiff, entry.ifd if entry and entry.ifd is not None else 0).samplesperpixel)
        if stored == samples or sizes["C"] % stored:
            return samples
        if stored > 1 and stored != sizes["C"]:
            return samples
        self._image = _Resampled(image, stored)
        self._warnings.append(
            f"Pages have {stored} samples per pixel, the metadata say {samples}; the pages are right."
        )
        return stored

    def _without_missing(self, table: PlaneTable) -> PlaneTable:
        """Return the table without the last times or sections when these, and nothing else, are missing."""
        missing = table.places[..., 1] < 0
        if not missing.any():
            return table
        whole = missing.size
        for axis, dim in ((0, "T"), (2, "Z")):
            others = tuple(number for number in range(3) if number != axis)
            kept = int((~missing.any(axis=others)).cumprod().sum())
            places = np.take(table.places, range(kept), axis=axis)
            if (
                kept
                and not (places[..., 1] < 0).any()
                and np.take(missing, range(kept, missing.shape[axis]), axis=axis).all()
            ):
                self._warnings.append(
                    f"Size{dim} is {missing.shape[axis]}, but only {kept} were acquired; the"
                    " others are left out."
                )
                return PlaneTable(table.files, places)
        size = self._image.sizes
        raise inconsistent(
            self._path,
            f"image {self.index} declares {whole} planes (SizeZ={size['Z']}, SizeC={size['C']},"
            f" SizeT={size['T']}), "
            f"and {int(missing.sum())} of them are in no file",
            "SizeC",
        )

    def _check_unused(self, table: PlaneTable) -> None:
        """Refuse a file of one image with more pages than it declares: the sizes are wrong."""
        if len(self._image.document.images) > 1 or len(table.files) > 1:
            return
        pages = self._files.page_count(table.files[0])
        used = np.unique(table.places[..., 1])
        unused = sorted(set(range(pages)) - set(used.tolist()))
        if not unused:
            return
        tiff = self._files.open(table.files[0])
        first, other = full_page(tiff, int(used[0])), full_page(tiff, unused[0])
        if first.shape == other.shape and first.dtype == other.dtype:
            size = self._image.sizes
            raise inconsistent(
                self._path,
                f"it declares {len(used)} planes (SizeZ={size['Z']}, SizeC={size['C']},"
                f" SizeT={size['T']}), and has "
                f"{pages} pages",
                "SizeC",
            )
        self._warnings.append(
            f"{len(unused)} pages belong to no image (a thumbnail or label) and are left out."
        )

    def _info(self, layout: PageLayout, shape: tuple[int, ...]) -> SeriesInfo:
        image = self._image
        dtype = dtype_name(layout, self._path)
        spacing: dict[str, float | None] = {axis.lower(): physical_size(image, axis) for axis in "XYZ"}
        times = times_of(biometa_of(image).planes if shape[0] > 1 else (), shape[0])
        spacing["t"] = times.spacing or positive(quantity(image.pixels, "TimeIncrement", "second", "s"))
        position = image.position
        name = image.name or f"{stem(self._path)} {self.index}"
        if position is not None:
            name = f"{position.well}/{position.field} {image.name}".strip()
        return SeriesInfo(
            index=self.index,
            name=name,
            format=FORMAT,
            axes=make_axes("tczyx", spacing, has_times=bool(times.coordinates)),
            shape=shape,
            dtype=dtype,
            spacing=tuple(1.0 if dim == "c" else spacing[dim] or 1.0 for dim in "tczyx"),
            origin=(0.0,) * 5,
            coordinates={"t": times.coordinates} if times.coordinates else {},
            channel_names=tuple(channel_names(image)),
            kind=guess_kind(dtype, image.name, stem(self._path)),
            plate=position.plate if position else None,
            well=position.well if position else None,
            field=position.field if position else None,
            warnings=tuple(self._warnings),
        )

    def _matching(self, found: Biometa, shape: tuple[int, ...]) -> Biometa:
        """Return the tables without planes that were left out."""
        kept = tuple(row for row in found.planes if row["the_t"] < shape[0] and row["the_z"] < shape[2])
        return found if len(kept) == len(found.planes) else Biometa(
            found.scan, found.channels, kept, found.objective, found.detector, found.original
        )  # fmt: skip


class _Resampled(OmeImage):
    """An image whose channels have other samples per pixel than its document says."""

    def __init__(self, image: OmeImage, samples: int) -> None:
        super().__init__(image.document, image.index, image.element)
        self.samples = (samples,) * (self.sizes["C"] // samples)
