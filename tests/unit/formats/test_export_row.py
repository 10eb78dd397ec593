"""Exporting stored rows: what comes out is what went in, labels included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaozarrs

import larvik
from larvik import Representation
from larvik.errors import AlreadyExistsError, InvalidArgumentError
from larvik.formats.base import inspect_file, open_series
from larvik.testing.images import cells, nuclei_labels, ome_xml, write_ome_tiff

SIZES = {"t": 2, "c": 2, "z": 3, "y": 40, "x": 50}


def read_all(path: Path, index: int = 0) -> np.ndarray:
    with open_series(path, index) as series:
        return series.read((slice(None),) * len(series.shape))


def test_a_row_goes_out_as_tiff_and_zarr_with_what_came_in(tmp_path: Path) -> None:
    pixels = cells(SIZES)
    original = write_ome_tiff(tmp_path / "in.ome.tif", pixels, xml=ome_xml(SIZES, "uint16", times=(0.0, 2.0)))
    with larvik.connect(tmp_path / "lab"):
        (row,) = larvik.import_file(original, sample="slide", experiment="Animal study")
        nuclei = nuclei_labels(pixels[0, 0])
        Representation.objects.from_xarray(nuclei, name="nuclei", parent=row, kind="label", sample=row.sample)
        for name in ("out.ome.tiff", "out.ome.zarr"):
            path = Path(row.export(str(tmp_path / name)))
            np.testing.assert_array_equal(read_all(path), pixels)
            with open_series(path) as series, open_series(original) as first:
                assert series.info.name == first.info.name
                assert series.info.spacing == first.info.spacing
                assert series.info.channel_names == first.info.channel_names
                assert series.biometa.planes == first.biometa.planes
                assert series.biometa.objective == first.biometa.objective
                assert series.biometa.detector == first.biometa.detector
                assert series.acquired_at == first.acquired_at
            with pytest.raises(AlreadyExistsError):
                row.export(str(path))
            row.export(str(path), overwrite=True)
        assert [info.kind for info in inspect_file(path)] == ["intensity", "label"]
        np.testing.assert_array_equal(read_all(path, 1), nuclei)
        yaozarrs.validate_zarr_store(str(path))
        with pytest.raises(InvalidArgumentError) as caught:
            row.export(str(tmp_path / "out.png"))
        assert caught.value.reason == "TARGET_INVALID"
