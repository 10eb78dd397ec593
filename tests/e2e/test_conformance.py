"""What Larvik writes, judged by other people's programs: validators and foreign readers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import tifffile
import yaozarrs
import zarr
from ome_types import from_xml

import larvik
from larvik import Representation
from larvik.connection import Connection

IMAGE = Path(__file__).parents[2] / "client" / "examples" / "images" / "embryo.ome.tiff"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance") / "data"


@pytest.fixture(scope="module")
def connection(folder: Path) -> Iterator[Connection]:
    with larvik.connect(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def embryo(connection: Connection) -> Representation:
    return larvik.import_file(IMAGE, sample="Slide 1", experiment="Animal study", connection=connection)[0]


@pytest.fixture(scope="module")
def labels(connection: Connection, embryo: Representation) -> Representation:
    pixels = (embryo.array > 300).astype("uint16").compute()
    return Representation.objects.using(connection).from_xarray(
        pixels, name="nuclei", kind="label", type="labels", parent=embryo
    )


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return tifffile.imread(IMAGE)


def test_a_stored_image_is_valid_ome_zarr(
    folder: Path, embryo: Representation, ome_zarr_model: Callable[[Path], str]
) -> None:
    group = folder / embryo.location
    yaozarrs.validate_zarr_store(str(group))
    assert ome_zarr_model(group) == "Image"


def test_tensorstore_and_zarr_python_read_the_pixels_of_the_file(
    folder: Path, embryo: Representation, truth: np.ndarray
) -> None:
    path = folder / embryo.location / "0"
    opened = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}).result()
    np.testing.assert_array_equal(np.squeeze(opened.read().result()), truth)
    np.testing.assert_array_equal(np.squeeze(zarr.open_array(str(path), mode="r")[...]), truth)


def test_an_exported_ome_zarr_with_labels_is_valid(
    tmp_path: Path,
    embryo: Representation,
    labels: Representation,
    truth: np.ndarray,
    ome_zarr_model: Callable[[Path], str],
) -> None:
    target = tmp_path / "out.ome.zarr"
    embryo.export(str(target))
    yaozarrs.validate_zarr_store(str(target))
    assert ome_zarr_model(target) == "Image"
    assert ome_zarr_model(target / "labels") == "Labels"
    np.testing.assert_array_equal(np.squeeze(zarr.open_array(str(target / "0"), mode="r")[...]), truth)
    kept = np.squeeze(zarr.open_array(str(target / "labels" / "nuclei" / "0"), mode="r")[...])
    np.testing.assert_array_equal(kept, (truth > 300).astype("uint16"))


def test_an_exported_ome_tiff_is_read_by_tifffile_and_bio_formats(
    tmp_path: Path, embryo: Representation, truth: np.ndarray, bioformats: Callable[..., str]
) -> None:
    target = tmp_path / "out.ome.tiff"
    embryo.export(str(target))
    with tifffile.TiffFile(target) as file:
        assert file.is_ome
        np.testing.assert_array_equal(np.squeeze(file.series[0].asarray()), truth)
        pixels = from_xml(file.ome_metadata or "", validate=True).images[0].pixels
    assert [channel.name for channel in pixels.channels] == ["nuclei-GFP"]
    told = bioformats("ImageInfo", "-nopix", "-omexml", target)
    assert dict(re.findall(r"Size([ZCT]) = (\d+)", told)) == {"Z": "100", "C": "1", "T": "1"}
    assert 'Name="nuclei-GFP"' in told
    assert re.search(r'PhysicalSizeZ="1\.0"', told)
    assert re.search(r'EmissionWavelength="509\.0"', told)


def test_bio_formats_reads_the_same_pixels(
    tmp_path: Path, embryo: Representation, truth: np.ndarray, bioformats: Callable[..., str]
) -> None:
    target, copy = tmp_path / "out.ome.tiff", tmp_path / "copy.ome.tiff"
    embryo.export(str(target))
    bioformats("ImageConverter", "-series", "0", target, copy)
    np.testing.assert_array_equal(np.squeeze(tifffile.imread(copy)), truth)
