"""What Bio-Formats says of the OME-TIFF that we write, and what we say of what it writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from larvik.array.spec import default_axis
from larvik.biometa.tables import Biometa, make_row
from larvik.formats.base import inspect_file, open_series
from larvik.formats.export_tiff import export_ome_tiff
from larvik.formats.memory import from_memory
from larvik.storage.layout import plan_layout
from larvik.storage.pyramid import mean_2x2
from larvik.testing.images import cells

Tool = Callable[..., str]


@pytest.mark.parametrize(("dtype", "side"), [("uint16", 60), ("uint8", 1100), ("float32", 60)])
def test_bioformats_reads_pixels_names_and_sizes_of_our_tiff(
    tmp_path: Path, bioformats: Tool, dtype: str, side: int
) -> None:
    pixels = cells({"t": 2, "c": 2, "z": 2, "y": side, "x": side + 20}, dtype)
    spec = plan_layout(
        "tczyx", pixels.shape, dtype, [default_axis(dim) for dim in "tczyx"], [2.0, 1.0, 0.5, 0.25, 0.25],
        [0.0] * 5, {}, ["DAPI", "GFP"],
    )  # fmt: skip
    levels = [pixels]
    while len(levels) < len(spec.levels):
        levels.append(mean_2x2(levels[-1]))
    rows = tuple(make_row("channels", index=c, name=name) for c, name in enumerate(["DAPI", "µ GFP"]))
    path = tmp_path / "ours.ome.tif"
    readers = [from_memory(level) for level in levels]
    export_ome_tiff(str(path), readers, spec, Biometa(channels=rows), name="ours")  # type: ignore[arg-type]
    said = bioformats("ImageInfo", "-nopix", "-omexml", path)
    assert "OMETiffReader" in said
    assert 'Name="DAPI"' in said
    assert re.search(r'Name="[^"]{1,3} GFP"', said)  # the tool prints in the encoding of the terminal
    assert 'PhysicalSizeX="0.25"' in said
    assert 'PhysicalSizeZ="0.5"' in said
    bioformats("ImageConverter", "-series", "0", path, tmp_path / "theirs.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "theirs.ome.tif"), pixels)


def test_we_read_a_plate_that_bioformats_wrote(tmp_path: Path, bioformats: Tool) -> None:
    fake = tmp_path / "plate&plates=1&plateRows=2&plateCols=3&fields=2.fake"
    fake.touch()
    bioformats("ImageConverter", fake, tmp_path / "plate.ome.tif")
    infos = inspect_file(tmp_path / "plate.ome.tif")
    assert len(infos) == 12
    assert {info.well for info in infos} == {"A1", "A2", "A3", "B1", "B2", "B3"}
    assert {info.field for info in infos} == {0, 1}


@pytest.mark.parametrize("order", ["XYZCT", "XYCTZ"])
def test_we_read_the_stacks_that_bioformats_writes(tmp_path: Path, bioformats: Tool, order: str) -> None:
    fake = tmp_path / f"x&sizeX=64&sizeY=32&sizeZ=3&sizeC=2&sizeT=2&pixelType=uint16&dimOrder={order}.fake"
    fake.touch()
    bioformats("ImageConverter", fake, tmp_path / "stack.ome.tif")
    with open_series(tmp_path / "stack.ome.tif") as series:
        assert series.shape == (2, 2, 3, 32, 64)
        pixels = series.read((slice(None),) * 5)
    # The fake reader writes z, c and t of a plane into boxes of 10 pixels along its top left.
    for t, c, z in np.ndindex(2, 2, 3):
        boxes = pixels[t, c, z, 0, :60:10].tolist()
        assert boxes[2:5] == [z, c, t]
