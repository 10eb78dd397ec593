"""The true pixels, and the images made of them: in a Larvik folder, and as plain Zarr for some peers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from grids import Grid, grid


@dataclass(frozen=True, slots=True)
class Stored:
    """An image in a Larvik folder.

    Attributes
    ----------
    source : dict
        Fields of `larvik.array.expression.Source`, of its finest level.
    path : str
        Of that level's Zarr array.
    """

    source: dict[str, Any]
    path: str


def write_truth(path: Path, shape: tuple[int, ...]) -> None:
    """Write pixels that compress as a camera's do (about 2 to 1): no plane is like another."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[: shape[-2], : shape[-1]] / max(shape)
    smooth = 400 * np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) * 12) + 100
    noise = random.poisson(smooth, (min(16, shape[2]), *smooth.shape)).astype(np.uint16)
    planes = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=shape)
    for number, place in enumerate(np.ndindex(*shape[:-2])):
        planes[place] = np.roll(noise[number % len(noise)], number * 7919) + number % 16
    planes.flush()


def store(folder: Path, truth: Path, names: Sequence[str]) -> dict[str, Stored]:
    """Store the true pixels in a Larvik folder, once for each grid; a process of its own does it."""
    command = [sys.executable, __file__, str(folder), str(truth), *names]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {name: Stored(**fields) for name, fields in json.loads(output.splitlines()[-1]).items()}


def write_plain(path: Path, truth: Path, one: Grid) -> None:
    """Write the true pixels as a Zarr array without shards."""
    import zarr

    pixels = np.load(truth, mmap_mode="r")
    blosc = zarr.codecs.BloscCodec(cname=one.cname, clevel=one.clevel, shuffle=one.shuffle, typesize=2)
    array = zarr.create_array(
        str(path), shape=pixels.shape, chunks=one.chunks, dtype="uint16", compressors=[blosc], filters=None,
        dimension_names=list("tczyx"),
    )  # fmt: skip
    for index in range(pixels.shape[0]):
        array[index] = np.asarray(pixels[index])


def blocks(pixels: np.ndarray, shards: Sequence[int]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yield the shards of an image, with where each begins."""
    grid_of = (range(0, size, step) for size, step in zip(pixels.shape, shards, strict=True))
    for start in product(*grid_of):
        region = tuple(slice(at, at + step) for at, step in zip(start, shards, strict=True))
        yield start, np.ascontiguousarray(pixels[region])


def begin(connection: Any, shape: tuple[int, ...], name: str) -> Any:
    """Open an upload session for a uint16 image with dims t c z y x."""
    from larvik.array.spec import ArraySpec, Level, default_axis
    from larvik.ids import new_id

    ones, zeros = (1.0,) * 5, (0.0,) * 5
    axes = tuple(default_axis(dim) for dim in "tczyx")
    spec = ArraySpec(axes, "uint16", (Level("0", shape, shape, shape, ones, zeros),))
    return connection.arrays.begin("Representation", {"id": new_id(), "name": name}, spec, {})


def _choose(one: Grid) -> None:
    """Make Larvik's layout of new images give `one`: only its own choices can be stored through its API."""
    from larvik.storage import codecs, layout

    layout.CHUNK_SIDE = one.chunks[-1]
    layout.MIN_CHUNK_BYTES = one.chunk_bytes
    codecs.INTENSITY_CODEC = codecs.Codec(one.cname, one.clevel, one.shuffle)


def _check(path: Path, one: Grid) -> None:
    """Make sure that what is measured is what the figures say."""
    document = (path / "zarr.json").read_text()
    if list(one.chunks) != _inner(json.loads(document)) or f'"{one.cname}"' not in document:
        raise RuntimeError(f"Larvik did not store the grid {one.name}: {document}")


def _inner(document: dict[str, Any]) -> list[int]:
    for codec in document["codecs"]:
        if codec["name"] == "sharding_indexed":
            return list(codec["configuration"]["chunk_shape"])
    return list(document["chunk_grid"]["configuration"]["chunk_shape"])


def main(folder: str, truth: str, *names: str) -> None:
    """Store images, print where they are."""
    import larvik

    pixels = np.load(truth, mmap_mode="r")
    found = {}
    with larvik.connect(folder) as connection:
        for name in names:
            _choose(grid(name))
            session = begin(connection, pixels.shape, name)
            connection.arrays.put_many(session, blocks(pixels, session.spec.levels[0].shards))
            values = connection.arrays.commit(session).values
            path = Path(folder) / str(values["location"]) / "0"
            _check(path, grid(name))
            level = session.spec.levels[0]
            source = {
                "array_id": values["id"], "version": values["version"], "level": 0, "shape": level.shape,
                "dtype": "uint16", "chunks": level.chunks,
            }  # fmt: skip
            found[name] = {"source": source, "path": str(path)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
