from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from larvik.errors import InvalidArgumentError, LarvikError, NotFoundError, SelectionError, UnsupportedError
from larvik.formats import tiff_file, tiff_planes
from larvik.formats.base import inspect_file, open_series
from larvik.testing.images import (
    cells,
    ome_xml,
    write_multi_series,
    write_ome_tiff,
    write_plate_tiff,
    write_tiff_set,
)

SIZES = {"t": 2, "c": 3, "z": 4, "y": 50, "x": 60}


def read_all(path: Path, index: int = 0) -> np.ndarray:
    with open_series(path, index) as series:
        return series.read(tuple(slice(0, size) for size in series.shape))


def assert_reads(path: Path, wanted: np.ndarray, index: int = 0) -> None:
    """The whole series, and regions of it, are `wanted`."""
    rng = np.random.default_rng(7)
    with open_series(path, index) as series:
        assert series.shape == wanted.shape
        whole = series.read(tuple(slice(None) for _ in series.shape))
        assert whole.dtype == wanted.dtype
        assert whole.flags.c_contiguous
        np.testing.assert_array_equal(whole, wanted)
        for _ in range(15):
            bounds = [sorted(rng.integers(0, size + 1, 2).tolist()) for size in series.shape]
            selection = tuple(slice(*bound) for bound in bounds)
            np.testing.assert_array_equal(series.read(selection), wanted[selection])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (16, 32)},
        {"tile": (32, 16), "compression": "zlib", "predictor": True},
        {"compression": "lzw", "rowsperstrip": 7, "byteorder": ">"},
        {"rowsperstrip": 11},
        {"byteorder": ">"},
        {"bigtiff": True, "compression": "zstd"},
        {"tile": (16, 16), "compression": "zlib", "levels": 3},
    ],
    ids=str,
)
def test_every_way_of_storing_planes_reads_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = cells(SIZES)
    assert_reads(write_ome_tiff(tmp_path / "cells.ome.tif", pixels, **options), pixels)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
)
def test_dtypes_are_kept(tmp_path: Path, dtype: str) -> None:
    pixels = cells({"t": 1, "c": 1, "z": 2, "y": 20, "x": 24}, dtype)
    path = write_ome_tiff(tmp_path / "cells.ome.tif", pixels)
    assert inspect_file(path)[0].dtype == dtype
    assert_reads(path, pixels)


def test_inspection_tells_dims_spacing_channels_and_names(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "cells.ome.tif", cells(SIZES))
    (info,) = inspect_file(path)
    assert info.name == "cells"
    assert info.dims == ("t", "c", "z", "y", "x")
    assert info.shape == (2, 3, 4, 50, 60)
    assert info.spacing == (1.0, 1.0, 0.5, 0.25, 0.25)
    assert [axis.unit for axis in info.axes] == [None, None, "micrometer", "micrometer", "micrometer"]
    assert info.channel_names == ("DAPI", "GFP", "mCherry")
    assert info.kind == "intensity"
    assert not info.warnings


def test_biometa_comes_along(tmp_path: Path) -> None:
    xml = ome_xml(SIZES, "uint16", times=(0.0, 2.0))
    with open_series(write_ome_tiff(tmp_path / "cells.ome.tif", cells(SIZES), xml=xml)) as series:
        assert series.biometa.channels[1]["emission_wavelength"] == 510.0
        assert series.biometa.objective[0]["lens_na"] == 1.4
        assert series.biometa.detector[0]["type"] == "CMOS"
        assert len(series.biometa.planes) == 2 * 3 * 4
        assert series.biometa.original[0]["text"] == xml
        assert str(series.acquired_at) == "2024-05-01 12:00:00+00:00"
        assert series.info.spacing[0] == 2.0


def test_times_that_are_not_regular_are_coordinates(tmp_path: Path) -> None:
    sizes = {**SIZES, "t": 3}
    xml = ome_xml(sizes, "uint16", times=(5.0, 6.0, 9.5))
    (info,) = inspect_file(write_ome_tiff(tmp_path / "cells.ome.tif", cells(sizes), xml=xml))
    assert info.coordinates == {"t": (0.0, 1.0, 4.5)}
    assert info.axes[0].unit == "second"


def test_local_times_of_acquisition_stay_local(tmp_path: Path) -> None:
    xml = ome_xml(SIZES, "uint16", date="2024-05-01T12:00:00")
    with open_series(write_ome_tiff(tmp_path / "cells.ome.tif", cells(SIZES), xml=xml)) as series:
        assert series.acquired_at is None
        assert series.acquired_local == "2024-05-01T12:00:00"


@pytest.mark.parametrize("order", ["XYZCT", "XYCZT", "XYTCZ", "XYZTC"])
def test_every_order_of_dimensions_becomes_t_c_z_y_x(tmp_path: Path, order: str) -> None:
    pixels = cells(SIZES)
    places = ["tczyx".index(dim.lower()) for dim in order[:1:-1]]
    stored = pixels.transpose(*places, 3, 4).reshape(pixels.shape)  # reshaped only to count planes
    xml = ome_xml(SIZES, "uint16").replace("XYZCT", order)
    assert_reads(write_ome_tiff(tmp_path / "cells.ome.tif", stored, xml=xml), pixels)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_samples_of_a_pixel_are_channels(tmp_path: Path, planar: bool, compression: str | None) -> None:
    pixels = cells({"z": 2, "y": 30, "x": 40, "c": 3}, "uint8")
    stored = pixels.transpose(0, 3, 1, 2) if planar else pixels
    tifffile.imwrite(
        tmp_path / "rgb.ome.tif", stored, photometric="rgb", planarconfig="separate" if planar else "contig",
        metadata={"axes": "ZSYX" if planar else "ZYXS"}, compression=compression,
    )  # fmt: skip
    assert_reads(tmp_path / "rgb.ome.tif", pixels.transpose(3, 0, 1, 2)[None])
    assert inspect_file(tmp_path / "rgb.ome.tif")[0].channel_names == ("Red", "Green", "Blue")


def test_several_series_are_listed_and_read(tmp_path: Path) -> None:
    first, second = cells(SIZES), cells({"t": 1, "c": 1, "z": 1, "y": 20, "x": 30}, "uint8")
    path = write_multi_series(tmp_path / "two.ome.tif", [first, second], ["one", "two"])
    assert [info.name for info in inspect_file(path)] == ["one", "two"]
    assert_reads(path, first, 0)
    assert_reads(path, second, 1)


@pytest.mark.parametrize("companion", [False, True])
def test_a_set_of_files_is_one_image_from_any_of_them(tmp_path: Path, companion: bool) -> None:
    pixels = cells({**SIZES, "t": 3})
    for path in write_tiff_set(tmp_path, pixels, companion=companion):
        assert_reads(path, pixels)


def test_a_set_larger_than_the_open_files_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_file, "OPEN_FILES", 2)
    pixels = cells({"t": 5, "c": 1, "z": 1, "y": 20, "x": 20})
    assert_reads(write_tiff_set(tmp_path, pixels)[0], pixels)


def test_a_set_with_a_missing_file_names_it(tmp_path: Path) -> None:
    paths = write_tiff_set(tmp_path, cells({**SIZES, "t": 3}))
    paths[2].unlink()
    with pytest.raises(NotFoundError, match=r"cells_t2\.ome\.tif") as caught:
        inspect_file(paths[0])
    assert caught.value.reason == "FILE_NOT_FOUND"


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.ome.tif", "..\\secret.ome.tif", "link.ome.tif"])
def test_a_set_cannot_name_files_outside_its_folder(tmp_path: Path, name: str) -> None:
    pixels = cells(SIZES)
    write_ome_tiff(tmp_path / "secret.ome.tif", pixels)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link.ome.tif").symlink_to(tmp_path / "secret.ome.tif")
    data = f'<TiffData IFD="0" PlaneCount="24"><UUID FileName="{name}">urn:uuid:1</UUID></TiffData>'
    path = write_ome_tiff(folder / "a.ome.tif", pixels, xml=ome_xml(SIZES, "uint16", tiff_data=data))
    with pytest.raises(InvalidArgumentError, match="outside its folder") as caught:
        inspect_file(path)
    assert caught.value.reason == "METADATA_INCONSISTENT"


def test_a_renamed_file_still_reads(tmp_path: Path) -> None:
    pixels = cells({"t": 1, "c": 1, "z": 1, "y": 20, "x": 20})
    (path,) = write_tiff_set(tmp_path, pixels)
    renamed = path.rename(tmp_path / "renamed.ome.tif")
    assert_reads(renamed, pixels)


def test_a_plate_is_one_series_for_each_field(tmp_path: Path) -> None:
    field = cells({"y": 20, "x": 20})
    path = write_plate_tiff(tmp_path / "plate.ome.tif", {(0, 0): [field, field + 1], (1, 11): [field + 2]})
    infos = inspect_file(path)
    assert [(info.plate, info.well, info.field) for info in infos] == [
        ("Screen 1", "A1", 0), ("Screen 1", "A1", 1), ("Screen 1", "B12", 0),
    ]  # fmt: skip
    assert infos[2].name == "B12/0 Field 2"
    assert_reads(path, (field + 2)[None, None, None], 2)


def test_hyperstacks_of_imagej_keep_their_calibration(tmp_path: Path) -> None:
    pixels = cells(SIZES)
    for compression in (None, "zlib"):
        path = tmp_path / f"imagej_{compression}.tif"
        tifffile.imwrite(
            path, pixels.transpose(0, 2, 1, 3, 4), imagej=True, resolution=(4, 4), compression=compression,
            metadata={"axes": "TZCYX", "spacing": 0.5, "unit": "micron", "finterval": 2.5},
        )  # fmt: skip
        assert_reads(path, pixels)
        (info,) = inspect_file(path)
        assert info.spacing == (2.5, 1.0, 0.5, 0.25, 0.25)
        assert [axis.unit for axis in info.axes] == ["second", None, "micrometer", "micrometer", "micrometer"]
        with open_series(path) as series:
            assert series.biometa.original[0]["format"] == "imagej"
            assert series.biometa.scan[0]["physical_size_z"] == 0.5


def test_axes_without_names_are_guessed_and_the_guess_is_told(tmp_path: Path) -> None:
    stack = cells({"z": 6, "y": 20, "x": 24})
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", metadata=None)
    (info,) = inspect_file(tmp_path / "stack.tif")
    assert info.dims == ("z", "y", "x")
    assert "z (6)" in info.warnings[0]
    assert_reads(tmp_path / "stack.tif", stack)
    many = cells({"z": 6, "c": 2, "y": 20, "x": 24})
    tifffile.imwrite(tmp_path / "many.tif", many, photometric="minisblack")
    assert inspect_file(tmp_path / "many.tif")[0].dims == ("c", "z", "y", "x")
    assert_reads(tmp_path / "many.tif", many.transpose(1, 0, 2, 3))


def test_volumes_in_tiles_read(tmp_path: Path) -> None:
    volume = cells({"z": 6, "y": 40, "x": 50}, "float32")
    tifffile.imwrite(
        tmp_path / "volume.tif", volume, tile=(4, 16, 16), volumetric=True, photometric="minisblack"
    )
    assert_reads(tmp_path / "volume.tif", volume)


def test_printing_resolutions_are_no_pixel_sizes(tmp_path: Path) -> None:
    image = cells({"y": 20, "x": 20})
    for resolution, unit, wanted in (((300, 300), "INCH", None), ((40000, 40000), "CENTIMETER", 0.25)):
        tifffile.imwrite(tmp_path / "a.tif", image, resolution=resolution, resolutionunit=unit)
        (info,) = inspect_file(tmp_path / "a.tif")
        assert info.axes[0].unit == ("pixel" if wanted is None else "micrometer")
        assert info.spacing[0] == pytest.approx(wanted or 1.0)


def test_names_tell_labels_and_masks(tmp_path: Path) -> None:
    image = cells({"y": 20, "x": 20})
    for name, kind in (
        ("nuclei_label", "label"),
        ("my-masks", "mask"),
        ("cells", "intensity"),
        ("unlabelled", "intensity"),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
        assert inspect_file(tmp_path / f"{name}.tif")[0].kind == kind


# Files that lie


@pytest.mark.parametrize("sizes", [{"c": 4}, {"c": 2}, {"z": 3}, {"t": 1}, {"c": 4, "t": 3}])
def test_sizes_that_do_not_fit_the_pages_are_refused(tmp_path: Path, sizes: dict[str, int]) -> None:
    xml = ome_xml({**SIZES, **sizes}, "uint16")
    path = write_ome_tiff(tmp_path / "cells.ome.tif", cells(SIZES), xml=xml)
    with pytest.raises(InvalidArgumentError) as caught:
        inspect_file(path)
    assert caught.value.reason == "METADATA_INCONSISTENT"
    assert caught.value.metadata["field"].startswith(("Size", "TiffData"))


def test_times_that_were_never_acquired_are_left_out_with_a_warning(tmp_path: Path) -> None:
    pixels = cells(SIZES)
    path = write_ome_tiff(tmp_path / "cells.ome.tif", pixels, xml=ome_xml({**SIZES, "t": 5}, "uint16"))
    (info,) = inspect_file(path)
    assert info.shape[0] == 2
    assert "SizeT is 5, but only 2" in info.warnings[0]
    assert_reads(path, pixels)


def test_a_page_of_another_size_is_refused(tmp_path: Path) -> None:
    xml = ome_xml({**SIZES, "x": 61}, "uint16")
    with pytest.raises(InvalidArgumentError) as caught:
        inspect_file(write_ome_tiff(tmp_path / "cells.ome.tif", cells(SIZES), xml=xml))
    assert caught.value.reason == "METADATA_INCONSISTENT"


def test_samples_that_the_document_calls_channels_are_corrected_with_a_warning(tmp_path: Path) -> None:
    pixels = cells({"y": 30, "x": 40, "c": 3}, "uint8")
    xml = ome_xml({"c": 3, "y": 30, "x": 40}, "uint8")
    tifffile.imwrite(
        tmp_path / "rgb.ome.tif", pixels, photometric="rgb", description=xml.encode(), metadata=None
    )
    assert "3 samples" in inspect_file(tmp_path / "rgb.ome.tif")[0].warnings[0]
    assert_reads(tmp_path / "rgb.ome.tif", pixels.transpose(2, 0, 1)[None, :, None])


def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "cells.ome.tif", cells(SIZES))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 100])
    with pytest.raises(InvalidArgumentError, match=r"cells\.ome\.tif") as caught:
        open_series(path)
    assert caught.value.reason == "FILE_UNREADABLE"
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_truncation_gives_a_typed_error(tmp_path: Path, compression: str | None) -> None:
    pixels = cells({"t": 1, "c": 2, "z": 2, "y": 20, "x": 24})
    whole = write_ome_tiff(tmp_path / "whole.ome.tif", pixels, compression=compression).read_bytes()
    path = tmp_path / "cut.ome.tif"
    for part in range(20):
        path.write_bytes(whole[: len(whole) * part // 20])
        with pytest.raises(LarvikError):
            read_all(path)


def test_flipped_bytes_give_pixels_or_a_typed_error(tmp_path: Path) -> None:
    pixels = cells({"t": 1, "c": 2, "z": 2, "y": 20, "x": 24})
    whole = write_ome_tiff(tmp_path / "whole.ome.tif", pixels, compression="zlib").read_bytes()
    path = tmp_path / "flipped.ome.tif"
    rng = np.random.default_rng(3)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 6)):
            damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_all(path)
        except LarvikError:
            continue


def test_random_bytes_after_a_tiff_header_give_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "random.tif"
    for seed in range(30):
        path.write_bytes(b"II*\0\x08\0\0\0" + np.random.default_rng(seed).bytes(2000))
        with pytest.raises(LarvikError):
            read_all(path)


def test_a_file_that_declares_absurdly_many_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(
        path,
        shape=(65536, 65536),
        dtype="u1",
        tile=(256, 256),
        data=iter([b"\0"] * 65536),
        compression="zlib",
    )
    assert os.stat(path).st_size < 2 << 20
    with pytest.raises(InvalidArgumentError, match="cannot be") as caught:
        open_series(path)
    assert caught.value.reason == "FILE_UNREADABLE"


def test_pieces_too_large_to_decode_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_planes, "MAX_SEGMENT_BYTES", 1000)
    path = write_ome_tiff(tmp_path / "cells.ome.tif", cells(SIZES), compression="zlib")
    with pytest.raises(UnsupportedError) as caught:
        inspect_file(path)
    assert caught.value.reason == "FORMAT_UNSUPPORTED"


def test_complex_pixels_are_refused_by_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), "complex64"))
    with pytest.raises(InvalidArgumentError, match="complex64") as caught:
        inspect_file(tmp_path / "a.tif")
    assert caught.value.reason == "DTYPE_UNSUPPORTED"


def test_a_series_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "cells.ome.tif", cells(SIZES))
    for index in (1, -1):
        with pytest.raises(SelectionError) as caught:
            open_series(path, index)
        assert caught.value.reason == "SERIES_NOT_FOUND"


def test_selections_outside_are_refused(tmp_path: Path) -> None:
    with open_series(write_ome_tiff(tmp_path / "cells.ome.tif", cells(SIZES))) as series:
        for selection in [
            (slice(0, 1),),
            (slice(0, 3),) + (slice(0, 1),) * 4,
            (slice(0, 2, 2),) + (slice(0, 1),) * 4,
        ]:
            with pytest.raises(SelectionError):
                series.read(selection)
