"""Uploads: an image sent to the server and committed, against zarr-python writing it to a local folder.

Both write the same grid and codec. Larvik's shards are on the disk when it answers (fsync); zarr-python's
need not be.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from figures import absent, figure, ratios
from ground import ground, interleaved
from systems import CHUNKS, DENSE, TUNED, Crew

#: What Larvik chooses for a new image.
NAME = "thin lz4"


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the figures."""
    here = ground(quick)
    scratch = here.folder / "written.zarr"
    with Crew(here, NAME, (TUNED, DENSE, CHUNKS)) as crew:

        def write(label: str) -> dict[str, Any]:
            if label != TUNED:
                answer = crew.ask(label, "call", name="write")
                _check_and_remove(here.served / answer["location"] / "0", here.truth)
                return answer
            answer = crew.ask(label, "call", name="write", path=str(scratch))
            _check_and_remove(scratch, here.truth)
            return answer

        calls = {label: lambda label=label: write(label) for label in crew.workers}
        costs = interleaved(calls, min(here.rounds, 5))
        missing = crew.absent
    return _figures(costs, missing)


def _check_and_remove(path: Path, truth: str) -> None:
    """Make sure that the true pixels are on the disk, and make room."""
    import zarr

    written, pixels = zarr.open_array(path, mode="r"), np.load(truth, mmap_mode="r")
    if not all(np.array_equal(written[t, c], pixels[t, c]) for t, c in np.ndindex(*pixels.shape[:2])):
        raise ValueError(f"wrong pixels were written to {path}")
    shutil.rmtree(path)


def _figures(costs: dict[str, list[Any]], missing: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    theirs = [one["seconds"] for one in costs[TUNED]]
    for label, bound in ((CHUNKS, 2.0), (DENSE, None)):
        name = f"upload, {label} / zarr-python writing locally"
        reach = (">=", bound) if bound else None
        if label in missing:
            found[name] = absent(missing[label], "x faster", reach)
            continue
        rounds = costs[label]
        found[name] = figure(
            ratios(theirs, [one["seconds"] for one in rounds]), "x faster", reach,
            seconds=statistics.median(one["seconds"] for one in rounds),
            client_cpu_s=statistics.median(one["cpu_s"] for one in rounds),
            server_cpu_s=statistics.median(one["server_cpu_s"] for one in rounds),
        )  # fmt: skip
    found["zarr-python writing locally"] = figure(
        theirs, "s", client_cpu_s=statistics.median(one["cpu_s"] for one in costs[TUNED])
    )
    return found
