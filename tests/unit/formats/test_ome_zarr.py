from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr

from larvik.errors import InvalidArgumentError, LarvikError, NotFoundError, SelectionError, UnsupportedError
from larvik.formats import ome_zarr
from larvik.formats.base import inspect_file, open_series
from larvik.storage import open_reader, open_store, read_spec
from larvik.testing.images import (
    cells,
    nuclei_labels,
    write_collection,
    write_group,
    write_ome_zarr,
    write_plate,
)

SIZES = {"t": 2, "c": 2, "z": 3, "y": 40, "x": 50}
VERSIONS = ("0.4", "0.5")


def read_all(path: Path, index: int = 0) -> np.ndarray:
    with open_series(path, index) as series:
        return series.read(tuple(slice(None) for _ in series.shape))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fixtures_are_what_others_write(tmp_path: Path, version: str) -> None:
    pixels = cells(SIZES)
    labels = {"nuclei": nuclei_labels(pixels[0, 0])}
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", pixels, version=version, labels=labels)
    np.testing.assert_array_equal(zarr.open_array(path / "0", mode="r")[...], pixels)
    yaozarrs.validate_zarr_store(str(path))
    fields = {"A/1": [pixels[0, :, 0]], "B/2": [pixels[0, :, 0]]}
    yaozarrs.validate_zarr_store(str(write_plate(tmp_path / "plate.ome.zarr", fields, version=version)))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_image_reads_with_its_calibration_and_channels(tmp_path: Path, version: str) -> None:
    pixels = cells(SIZES)
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", pixels, version=version)
    (info,) = inspect_file(path)
    assert info.dims == ("t", "c", "z", "y", "x")
    assert info.spacing == (1.5, 1.0, 0.5, 0.25, 0.25)
    assert info.channel_names == ("DAPI", "GFP")
    np.testing.assert_array_equal(read_all(path), pixels)
    with open_series(path) as series:
        assert series.biometa.channels[0]["color"] == "#0000ff"
        assert series.biometa.channels[1]["window_end"] == 65535 / 2
        assert json.loads(series.biometa.original[-1]["text"])
        region = (slice(1, 2), slice(0, 2), slice(1, 3), slice(5, 20), slice(7, 50))
        np.testing.assert_array_equal(series.read(region), pixels[region])


@pytest.mark.parametrize("version", VERSIONS)
def test_labels_are_series_of_their_own_that_name_their_image(tmp_path: Path, version: str) -> None:
    pixels = cells(SIZES)
    labels = {"nuclei": nuclei_labels(pixels[0, 0]), "cells": nuclei_labels(pixels[0, 1], "uint32")}
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", pixels, version=version, labels=labels)
    infos = inspect_file(path)
    assert [(info.name, info.kind, info.parent) for info in infos] == [
        ("cells", "intensity", None), ("nuclei", "label", 0), ("cells", "label", 0),
    ]  # fmt: skip
    np.testing.assert_array_equal(read_all(path, 1), labels["nuclei"])
    np.testing.assert_array_equal(read_all(path, 2), labels["cells"])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_collection_has_one_series_for_each_image(tmp_path: Path, version: str) -> None:
    images = [cells(SIZES), cells({**SIZES, "t": 1}, seed=1)]
    path = write_collection(tmp_path / "many.zarr", images, version=version)
    assert [info.name for info in inspect_file(path)] == ["Position 0", "Position 1"]
    for index, pixels in enumerate(images):
        np.testing.assert_array_equal(read_all(path, index), pixels)
    with open_series(path, 1) as series:
        assert series.biometa.objective == ()  # the fixture leaves instruments out
        assert series.biometa.channels[1]["emission_wavelength"] == 510.0
        assert [row["format"] for row in series.biometa.original] == ["ome-xml", "ngff"]


def test_a_collection_without_a_list_is_numbered(tmp_path: Path) -> None:
    images = [cells({"t": 1, "c": 1, "z": 1, "y": 8, "x": 8}, seed=seed) for seed in range(11)]
    path = write_collection(tmp_path / "many.zarr", images)
    write_group(path / "OME", {"series": None}, "0.5", merge=True)
    assert [info.location for info in inspect_file(path)] == [f"many.zarr/{index}" for index in range(11)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plate_is_one_series_for_each_field(tmp_path: Path, version: str) -> None:
    fields = [cells({"c": 2, "y": 20, "x": 30}, seed=seed) for seed in range(3)]
    path = write_plate(tmp_path / "plate.ome.zarr", {"A/1": fields[:2], "B/3": fields[2:]}, version=version)
    infos = inspect_file(path)
    assert [(info.plate, info.well, info.field, info.name) for info in infos] == [
        ("Screen 1", "A1", 0, "A1/0"), ("Screen 1", "A1", 1, "A1/1"), ("Screen 1", "B3", 0, "B3/0"),
    ]  # fmt: skip
    for index, pixels in enumerate(fields):
        np.testing.assert_array_equal(read_all(path, index), pixels)
    assert len(inspect_file(path / "A" / "1")) == 2


def test_wells_that_were_never_imaged_are_left_out(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "plate.ome.zarr", {"A/1": [cells({"c": 1, "y": 8, "x": 8})]})
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["ome"]["plate"]["wells"].append({"path": "Z/9", "rowIndex": 9, "columnIndex": 9})
    (path / "zarr.json").write_text(json.dumps(document))
    assert len(inspect_file(path)) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_every_series_says_where_it_can_be_registered_in_place(tmp_path: Path, version: str) -> None:
    pixels = cells(SIZES)
    path = write_ome_zarr(
        tmp_path / "a b.ome.zarr", pixels, version=version, labels={"n": nuclei_labels(pixels[0, 0])}
    )
    for index, info in enumerate(inspect_file(path)):
        assert info.store_url is not None
        assert info.location is not None
        store = open_store(info.store_url)
        spec = read_spec(store, info.location)
        reader = open_reader(store, info.location, spec.levels[0], spec.dtype)
        whole = reader.read(tuple(slice(0, size) for size in spec.shape))
        np.testing.assert_array_equal(whole, read_all(path, index))
        assert "store_url" not in info.to_dict()


def test_attributes_that_nobody_knows_are_preserved(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", cells(SIZES), attributes={"our-lab": {"dish": 7}})
    with open_series(path) as series:
        assert series.attributes == {"our-lab": {"dish": 7}}


def test_a_group_of_xarray_reads_with_its_own_dims(tmp_path: Path) -> None:
    pixels = cells({"z": 4, "y": 10, "x": 12})
    group = zarr.open_group(tmp_path / "phases.zarr", mode="w")
    group.create_array("intensity", data=pixels, dimension_names=("phase", "y", "x"))
    (info,) = inspect_file(tmp_path / "phases.zarr")
    assert info.dims == ("phase", "y", "x")
    np.testing.assert_array_equal(read_all(tmp_path / "phases.zarr"), pixels)


def test_broken_ome_xml_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = write_collection(tmp_path / "many.zarr", [cells(SIZES)])
    (path / "OME" / "METADATA.ome.xml").write_text("<OME")
    (info,) = inspect_file(path)
    assert "OME-XML" in info.warnings[0]
    assert read_all(path).shape == info.shape


def test_absurd_declarations_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", cells(SIZES), levels=1)
    metadata = json.loads((path / "0" / "zarr.json").read_text())
    metadata["shape"] = [200_000, 2, 3, 40, 50]
    (path / "0" / "zarr.json").write_text(json.dumps(metadata))
    monkeypatch.setattr(ome_zarr, "MAX_RATIO", 10)
    with pytest.raises(InvalidArgumentError, match="cannot be") as caught:
        open_series(path)
    assert caught.value.reason == "FILE_UNREADABLE"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_corrupt_chunk_gives_a_typed_error(tmp_path: Path, version: str) -> None:
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", cells(SIZES), version=version)
    chunk = path / "0" / ("0/0/0/0/0" if version == "0.4" else "c/0/0/0/0/0")
    chunk.write_bytes(chunk.read_bytes()[:-20])
    with pytest.raises(LarvikError) as caught:
        read_all(path)
    assert caught.value.reason == "CHUNK_CORRUPT"


@pytest.mark.parametrize("place", ["zarr.json", "0/zarr.json"])
def test_every_truncation_of_metadata_gives_a_typed_error(tmp_path: Path, place: str) -> None:
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", cells({"y": 8, "x": 8}), "yx", levels=1)
    whole = (path / place).read_bytes()
    for part in range(20):
        (path / place).write_bytes(whole[: len(whole) * part // 20])
        with pytest.raises(LarvikError):
            read_all(path)


def test_flipped_bytes_of_metadata_give_pixels_or_a_typed_error(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", cells({"c": 2, "y": 8, "x": 8}), "cyx", levels=1)
    rng = np.random.default_rng(5)
    for place in ("zarr.json", "0/zarr.json"):
        whole = (path / place).read_bytes()
        for _ in range(100):
            damaged = bytearray(whole)
            damaged[int(rng.integers(len(whole)))] = int(rng.integers(256))
            (path / place).write_bytes(damaged)
            try:
                read_all(path)
            except LarvikError:
                continue
        (path / place).write_bytes(whole)


def test_other_versions_are_refused_by_name(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", cells(SIZES), version="0.5")
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["ome"]["version"] = "9.9"
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(UnsupportedError, match=r"9\.9"):
        inspect_file(path)


def test_folders_and_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("cells")
    (tmp_path / "fake.tif").write_text("no TIFF at all")
    for name in ("folder", "notes.txt", "fake.tif"):
        with pytest.raises(UnsupportedError, match="OME-TIFF") as caught:
            inspect_file(tmp_path / name)
        assert caught.value.reason == "FORMAT_UNSUPPORTED"
    with pytest.raises(NotFoundError) as missing:
        inspect_file(tmp_path / "missing.tif")
    assert missing.value.reason == "FILE_NOT_FOUND"


def test_a_link_out_of_the_group_is_refused(tmp_path: Path) -> None:
    secret = write_ome_zarr(tmp_path / "secret.ome.zarr", cells({"y": 8, "x": 8}), "yx", levels=1)
    inside = tmp_path / "root"
    inside.mkdir()
    path = write_ome_zarr(inside / "cells.ome.zarr", cells({"y": 8, "x": 8}), "yx", levels=1)
    (path / "0" / "c" / "0" / "0").unlink()
    (path / "0" / "c" / "0" / "0").symlink_to(secret / "0" / "c" / "0" / "0")
    with pytest.raises(InvalidArgumentError, match="symbolic link"):
        read_all(path)


def test_a_series_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SelectionError):
        open_series(write_ome_zarr(tmp_path / "cells.ome.zarr", cells(SIZES)), 1)
