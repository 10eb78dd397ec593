from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import tifffile
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_types import from_xml, validate_xml

from larvik.array.spec import DTYPES, ArraySpec, default_axis
from larvik.biometa.ome_write import PIXEL_TYPES
from larvik.biometa.tables import Biometa, make_row
from larvik.errors import (
    AlreadyExistsError,
    CallCancelledError,
    NotFoundError,
    ResourceExhaustedError,
    UnsupportedError,
)
from larvik.formats.base import inspect_file, open_series
from larvik.formats.export_tiff import export_ome_tiff
from larvik.formats.export_zarr import LabelImage, export_ome_zarr
from larvik.storage.layout import plan_layout
from larvik.storage.pyramid import mean_2x2
from larvik.testing.images import cells, nuclei_labels

SIZES = {"t": 2, "c": 2, "z": 3, "y": 40, "x": 50}


class Pixels:
    """An array in memory as a reader."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.shape

    def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        return self.array[selection]


def plan(
    pixels: np.ndarray, dims: Sequence[str] = "tczyx", names: Sequence[str] = ("DAPI", "GFP", "Cy5")
) -> ArraySpec:
    spacing = [{"t": 2.0, "z": 0.5, "y": 0.25, "x": 0.25}.get(dim, 1.0) for dim in dims]
    axes = [default_axis(dim) for dim in dims]
    channels = names if "c" in dims else ()
    return plan_layout(
        dims, pixels.shape, pixels.dtype.name, axes, spacing, [0.0] * pixels.ndim, {}, channels
    )


def levels_of(pixels: np.ndarray, spec: ArraySpec) -> list[Pixels]:
    found = [pixels]
    while len(found) < len(spec.levels):
        found.append(mean_2x2(found[-1]))
    return [Pixels(level) for level in found]


def read_all(path: Path, index: int = 0) -> np.ndarray:
    with open_series(path, index) as series:
        return series.read(tuple(slice(None) for _ in series.shape))


ROWS = Biometa(
    scan=(make_row("scan", acquisition_date="2024-05-01T12:00:00Z"),),
    channels=(
        make_row("channels", index=0, name="DAPI", emission_wavelength=461.0, color="#0000ff"),
        make_row(
            "channels",
            index=1,
            name="µ & <GFP>",
            emission_wavelength=510.0,
            window_start=10.0,
            window_end=99.0,
        ),
    ),
)


def test_a_tiff_reads_back_with_pixels_names_and_sizes(tmp_path: Path) -> None:
    pixels = cells(SIZES)
    path = tmp_path / "cells.ome.tiff"
    export_ome_tiff(str(path), [Pixels(pixels)], plan(pixels), ROWS, name="cells")
    np.testing.assert_array_equal(read_all(path), pixels)
    with open_series(path) as series:
        assert series.info.spacing == (2.0, 1.0, 0.5, 0.25, 0.25)
        assert series.info.channel_names == ("DAPI", "µ & <GFP>")
        assert series.biometa.channels[1]["emission_wavelength"] == 510.0
        assert str(series.acquired_at) == "2024-05-01 12:00:00+00:00"
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert tiff.series[0].axes == "TCZYX"
        np.testing.assert_array_equal(tiff.asarray(), pixels)
        xml = tiff.ome_metadata
    assert xml is not None
    validate_xml(xml)
    assert from_xml(xml).images[0].pixels.physical_size_z == 0.5
    assert list(tmp_path.iterdir()) == [path]


def test_large_planes_are_tiled_with_a_pyramid(tmp_path: Path) -> None:
    pixels = cells({"c": 2, "y": 1100, "x": 1300})
    spec = plan(pixels, "cyx")
    levels = levels_of(pixels, spec)
    assert len(levels) == 2
    path = tmp_path / "large.ome.tif"
    export_ome_tiff(str(path), levels, spec, Biometa(), name="large")
    np.testing.assert_array_equal(read_all(path), pixels[None, :, None])
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].is_tiled
        assert len(tiff.series[0].levels) == 2
        np.testing.assert_array_equal(tiff.series[0].levels[1].asarray(), levels[1].array)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(sorted(set(PIXEL_TYPES) - {"bool"})),
    st.sampled_from(["yx", "zyx", "cyx", "tyx", "tczyx", "czyx", "tzyx"]),
    st.sampled_from([None, "zlib", "lzw", "zstd"]),
    st.data(),
)
def test_tiffs_of_every_dtype_and_dims_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    dims: str,
    compression: str | None,
    data: st.DataObject,
) -> None:
    shape = [data.draw(st.integers(1, 3)) if dim in "tcz" else data.draw(st.integers(1, 40)) for dim in dims]
    pixels = (
        np.random.default_rng(1)
        .integers(0, 256, (*shape, np.dtype(dtype).itemsize), "u1")
        .view(dtype)[..., 0]
    )
    pixels = np.nan_to_num(pixels)
    path = tmp_path_factory.mktemp("tiff") / "a.ome.tif"
    spec = plan(pixels, dims)
    export_ome_tiff(str(path), levels_of(pixels, spec), spec, Biometa(), name="a", compression=compression)
    sizes = dict(zip(dims, shape, strict=True))
    np.testing.assert_array_equal(read_all(path), pixels.reshape([sizes.get(dim, 1) for dim in "tczyx"]))


def test_masks_become_bytes_that_every_reader_knows(tmp_path: Path) -> None:
    mask = cells({"y": 30, "x": 40}, "bool")
    export_ome_tiff(str(tmp_path / "mask.ome.tif"), [Pixels(mask)], plan(mask, "yx"), Biometa(), name="mask")
    found = read_all(tmp_path / "mask.ome.tif")[0, 0, 0]
    np.testing.assert_array_equal(found != 0, mask)
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as tiff:
        validate_xml(tiff.ome_metadata or "")
        np.testing.assert_array_equal(tiff.asarray() != 0, mask)


@pytest.mark.parametrize("dtype", ["float16", "int64", "uint64"])
def test_dtypes_that_tiff_cannot_hold_are_refused_with_a_cure(tmp_path: Path, dtype: str) -> None:
    pixels = np.zeros((4, 4), dtype)
    with pytest.raises(UnsupportedError, match=r"\.ome\.zarr") as caught:
        export_ome_tiff(
            str(tmp_path / "a.ome.tif"), [Pixels(pixels)], plan(pixels, "yx"), Biometa(), name="a"
        )
    assert caught.value.reason == "FORMAT_UNSUPPORTED"
    assert not list(tmp_path.iterdir())


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(DTYPES), st.sampled_from(["yx", "zyx", "tczyx", "cyx"]))
def test_zarrs_of_every_dtype_read_back(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, dims: str
) -> None:
    pixels = cells({dim: SIZES[dim] for dim in dims}, dtype)
    path = tmp_path_factory.mktemp("zarr") / "a.ome.zarr"
    export_ome_zarr(str(path), Pixels(pixels), plan(pixels, dims), Biometa(), name="a")
    np.testing.assert_array_equal(read_all(path), pixels)


def test_a_zarr_with_labels_is_valid_and_opens_elsewhere(tmp_path: Path) -> None:
    pixels = cells(SIZES)
    nuclei = nuclei_labels(pixels[0, 0])
    labels = [
        LabelImage("nuclei / all", Pixels(nuclei), plan(nuclei, "zyx")),
        LabelImage("nuclei / all", Pixels(nuclei > 2), plan(nuclei > 2, "zyx"), "mask"),
    ]
    path = tmp_path / "cells.ome.zarr"
    export_ome_zarr(
        str(path), Pixels(pixels), plan(pixels), ROWS, name="cells", labels=labels, attributes={"dish": 7}
    )
    yaozarrs.validate_zarr_store(str(path))
    np.testing.assert_array_equal(zarr.open_array(path / "0", mode="r")[...], pixels)
    store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "0")}}
    np.testing.assert_array_equal(tensorstore.open(store).result().read().result(), pixels)
    infos = inspect_file(path)
    assert [(info.kind, info.parent) for info in infos] == [("intensity", None), ("label", 0), ("mask", 0)]
    np.testing.assert_array_equal(read_all(path, 1), nuclei)
    np.testing.assert_array_equal(read_all(path, 2), nuclei > 2)
    with open_series(path) as series:
        assert series.attributes["dish"] == 7
        assert series.biometa.channels[1]["name"] == "µ & <GFP>"
        assert series.biometa.channels[1]["window_end"] == 99.0
    assert list(tmp_path.iterdir()) == [path]


def test_dims_that_ngff_has_not_become_a_plain_group(tmp_path: Path) -> None:
    pixels = cells({"z": 3, "y": 8, "x": 9})
    path = tmp_path / "phases.zarr"
    export_ome_zarr(str(path), Pixels(pixels), plan(pixels, ["phase", "y", "x"]), Biometa(), name="phases")
    assert inspect_file(path)[0].dims == ("phase", "y", "x")
    np.testing.assert_array_equal(read_all(path), pixels)


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_what_exists_is_refused_unless_it_may_be_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    export(path, cells({"y": 8, "x": 8}))
    before = inspect_file(path)
    with pytest.raises(AlreadyExistsError) as caught:
        export(path, cells({"y": 9, "x": 9}))
    assert caught.value.reason == "TARGET_EXISTS"
    assert inspect_file(path) == before
    export(path, cells({"y": 9, "x": 9}), overwrite=True)
    assert inspect_file(path)[0].shape[-2:] == (9, 9)
    assert list(tmp_path.iterdir()) == [path]


def export(path: Path, pixels: np.ndarray, reader: type[Pixels] = Pixels, **options: object) -> None:
    if path.name.endswith(".zarr"):
        export_ome_zarr(str(path), reader(pixels), plan(pixels, "yx"), Biometa(), name="a", **options)  # type: ignore[arg-type]
    else:
        export_ome_tiff(str(path), [reader(pixels)], plan(pixels, "yx"), Biometa(), name="a", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_a_cancelled_or_failed_export_leaves_nothing(tmp_path: Path, name: str) -> None:
    class Failing(Pixels):
        def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pixels = cells({"y": 8, "x": 8})
    with pytest.raises(CallCancelledError):
        export(tmp_path / name, pixels, cancelled=lambda: True)
    with pytest.raises(ResourceExhaustedError) as caught:
        export(tmp_path / name, pixels, reader=Failing)
    assert caught.value.reason == "STORE_FULL"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_a_missing_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        export(tmp_path / "missing" / name, cells({"y": 8, "x": 8}))
    assert caught.value.reason == "FOLDER_NOT_FOUND"


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_progress_rises_to_its_total(tmp_path: Path, name: str) -> None:
    seen: list[tuple[int, int]] = []
    export(
        tmp_path / name, cells({"y": 80, "x": 80}), progress=lambda done, total: seen.append((done, total))
    )
    assert seen
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
