"""Import of an OME-TIFF, against zarr-python copying its planes into the same grid and codec.

Every round is a fresh interpreter, the two sides in turn, so that each has its own peak of memory.
The peer collects the planes of a whole shard and writes it at once, which is its fastest way. The
pyramid, which the peer does not make, is told apart.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

#: The peak of this program alone: ``ru_maxrss`` would be that of the parent it was forked from.
PEAK = """
def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
"""

IMPORT = """
import json, sys, time
import tifffile
import larvik, larvik.array.rows, larvik.services.imports, larvik.formats.ome_tiff, larvik.formats.ome_image
from larvik.embedded import EmbeddedArrays
from larvik.importing import import_file
commits = []
commit = EmbeddedArrays.commit
def timed(self, upload, **options):
    start = time.perf_counter()
    record = commit(self, upload, **options)
    commits.append(time.perf_counter() - start)
    return record
EmbeddedArrays.commit = timed
with larvik.connect(sys.argv[2]):
    before = peak_mib()
    start = time.perf_counter()
    (rep,) = import_file(sys.argv[1])
    whole = time.perf_counter() - start
    grid = rep.spec["levels"][0]
peak = peak_mib()
figures = {"s": whole - sum(commits), "pyramid_s": sum(commits)}
memory = {"mib": peak, "grew_mib": peak - before}
print(json.dumps({**figures, **memory, "grid": {name: grid[name] for name in ("shape", "chunks", "shards")}}))
"""

COPY = """
import itertools, json, sys, time
import numpy, tifffile, zarr
from larvik.storage.codecs import default_codec
grid = json.loads(sys.argv[3])
codec = default_codec("intensity")
shape, shards = grid["shape"], grid["shards"]
start = time.perf_counter()
with tifffile.TiffFile(sys.argv[1], _multifile=False) as tiff:
    blosc = zarr.codecs.BloscCodec(cname=codec.cname, clevel=codec.clevel, shuffle=codec.shuffle, typesize=2)
    array = zarr.create_array(
        sys.argv[2], shape=shape, chunks=grid["chunks"], shards=shards, dtype="uint16", compressors=[blosc],
        filters=None,
    )
    pages = {place: number for number, place in enumerate(numpy.ndindex(*shape[:3]))}
    for corner in itertools.product(*(range(0, size, shard) for size, shard in zip(shape, shards))):
        region = tuple(slice(c, min(c + shard, size)) for c, shard, size in zip(corner, shards, shape))
        block = numpy.empty([part.stop - part.start for part in region], "uint16")
        for place in itertools.product(*(range(part.start, part.stop) for part in region[:3])):
            plane = tiff.pages[pages[place]].asarray()
            block[tuple(p - part.start for p, part in zip(place, region))] = plane[region[3:]]
        array[region] = block
print(json.dumps({"s": time.perf_counter() - start, "mib": peak_mib()}))
"""


def run(*, quick: bool = False, size_mib: int | None = None) -> dict[str, Any]:
    """Return medians over rounds of fresh interpreters; `size_mib` is the size of the pixels."""
    size = size_mib or (32 if quick else 512)
    rounds = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.ome.tiff"
        write_stack(path, size)
        ours, theirs = [], []
        for number in range(rounds):
            ours.append(_python(PEAK + IMPORT, path, Path(folder) / f"data{number}"))
            grid = json.dumps(ours[-1]["grid"])
            theirs.append(_python(PEAK + COPY, path, Path(folder) / f"copy{number}.zarr", grid))
    ratios = [one["s"] / other["s"] for one, other in zip(ours, theirs, strict=True)]
    what = f"import of a {size} MiB OME-TIFF"
    return {
        f"{what}, pyramid apart": {"value": _median(ours, "s"), "unit": "s"},
        "zarr-python copying its planes": {"value": _median(theirs, "s"), "unit": "s"},
        "import / copy": {"value": statistics.median(ratios), "unit": "", "reach": ("<=", 1.3)},
        "pyramid and commit": {"value": _median(ours, "pyramid_s"), "unit": "s"},
        "memory that the import adds": {
            "value": _median(ours, "grew_mib"),
            "unit": "MiB",
            "reach": ("<=", 512),
        },
        "peak memory of the import": {"value": _median(ours, "mib"), "unit": "MiB"},
        "peak memory of the copy": {"value": _median(theirs, "mib"), "unit": "MiB"},
    }


def write_stack(path: Path, size_mib: int) -> None:
    """Write planes of 1024 x 1024 uint16 that compress as images of a camera do: smooth, with noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:1024, 0:1024]
    smooth = 2000 * np.exp(-((x - 500) ** 2 + (y - 400) ** 2) / 80_000) + 100
    planes = max(1, size_mib // 2)
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        metadata = {"axes": "ZYX"}
        data = (random.poisson(smooth).astype(np.uint16) for _ in range(planes))
        writer.write(
            data, shape=(planes, 1024, 1024), dtype="uint16", photometric="minisblack", metadata=metadata
        )


def _python(code: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def _median(rounds: list[dict[str, Any]], name: str) -> float:
    return statistics.median(one[name] for one in rounds)


if __name__ == "__main__":
    for name, figure in run(size_mib=int(sys.argv[1]) if len(sys.argv) > 1 else None).items():
        print(f"{name:50} {figure['value']:.3f} {figure['unit']}")
