"""Long fuzzing of the readers: `make soak`."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile

from larvik.errors import LarvikError
from larvik.formats.base import inspect_file, open_series
from larvik.testing.images import cells, ome_xml, write_collection, write_ome_tiff, write_tiff_set

ROUNDS = 5000


def read_everything(path: Path) -> None:
    for info in inspect_file(path):
        with open_series(path, info.index) as series:
            if info.nbytes < 1 << 26:
                series.read(tuple(slice(None) for _ in series.shape))


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Return `data` with some bytes flipped, cut out, doubled or made extreme."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 8))):
        place = int(rng.integers(len(found)))
        kind = int(rng.integers(4))
        if kind == 0:
            found[place] ^= int(rng.integers(1, 256))
        elif kind == 1:
            del found[place : place + int(rng.integers(1, 64))]
        elif kind == 2:
            found[place:place] = found[place : place + int(rng.integers(1, 64))]
        else:
            found[place : place + 4] = bytes([int(rng.choice([0, 0x7F, 0x80, 0xFF]))] * 4)
        if not found:
            break
    return bytes(found)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["striped", "tiled", "imagej", "set"])
def test_damaged_tiffs_give_pixels_or_typed_errors(tmp_path: Path, kind: str) -> None:
    sizes = {"t": 2, "c": 2, "z": 2, "y": 20, "x": 24}
    pixels = cells(sizes)
    path = tmp_path / "cells.ome.tif"
    if kind == "imagej":
        tifffile.imwrite(path, pixels.transpose(0, 2, 1, 3, 4), imagej=True)
    elif kind == "set":
        path = write_tiff_set(tmp_path, pixels)[0]
    else:
        options = {"tile": (16, 16), "compression": "zlib"} if kind == "tiled" else {"rowsperstrip": 7}
        write_ome_tiff(path, pixels, xml=ome_xml(sizes, "uint16", times=(0.0, 1.0)), **options)
    whole = path.read_bytes()
    rng = np.random.default_rng()
    for _ in range(ROUNDS):
        path.write_bytes(damage(whole, rng))
        with suppress(LarvikError):
            read_everything(path)


@pytest.mark.soak
def test_damaged_zarrs_give_pixels_or_typed_errors(tmp_path: Path) -> None:
    whole = write_collection(tmp_path / "whole.zarr", [cells({"t": 1, "c": 2, "z": 1, "y": 12, "x": 12})] * 2)
    files = sorted(one.relative_to(whole) for one in whole.rglob("*") if one.is_file())
    rng = np.random.default_rng()
    path = tmp_path / "damaged.zarr"
    shutil.copytree(whole, path)
    for _ in range(ROUNDS):
        name = files[int(rng.integers(len(files)))]
        (path / name).write_bytes(damage((whole / name).read_bytes(), rng))
        with suppress(LarvikError):
            read_everything(path)
        shutil.copyfile(whole / name, path / name)
