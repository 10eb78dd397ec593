"""The demo: a server on an empty folder, a real image, the example of the README, one picture.

Run by ``make demo``. Prints what happened and how long each step took; exits 0 when all of it did.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE = Path(__file__).parent / "images" / "embryo.ome.tiff"


def main() -> int:
    """Run every step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path("demo-data"), help="folder of the demo; emptied first"
    )
    parser.add_argument("--out", type=Path, default=Path("demo.png"), help="where the picture goes")
    options = parser.parse_args()
    _empty(options.data)

    from larvik.testing.server import larvik_server

    with step("start the server on an empty folder"):
        server = larvik_server(options.data)
    with server:
        print(f"   {server.url} · gRPC, and Flight for pixels and tables")
        _example(server.url, server.token, options.out)
        with step("stop the server"):
            server.stop()
    print(
        f"\nThe picture is {options.out}. `larvik serve --data {options.data}` starts the same server again."
    )
    return 0


def _empty(folder: Path) -> None:
    """Remove what an earlier demo left; refuse a folder that is something else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "larvik.db").exists():
        sys.exit(f"{folder} is not a data folder of Larvik: name another with --data.")
    shutil.rmtree(folder, ignore_errors=True)


def _example(url: str, token: str, picture: Path) -> None:
    import larvik
    from larvik import Representation

    with larvik.connect(url, token=token):
        with step(f"import {IMAGE.name} (streamed to the server, pyramid built)"):
            for row in larvik.import_file(IMAGE, sample="Slide 1", experiment="Animal study"):
                sizes = " ".join(f"{dim}={size}" for dim, size in zip(row.dims, row.shape, strict=True))
                print(f"   {row.name}: {sizes}, {row.dtype}")
        with step("query: one SQL statement"):
            rep = Representation.objects.filter(
                sample__experiment__name__startswith="Animal", type="initial"
            ).first()
        with step("metadata as a table"):
            channels = rep.biometa.channels["EmissionWaveLength"]
            print("   " + ", ".join(f"{name}: {value:g} nm" for name, value in zip(
                rep.biometa.channels["Name"], channels, strict=True)))  # fmt: skip
        with step("maximum over z, evaluated by the server, fetched over Flight"):
            maxisp = rep.array.sel(t=0, c=0).max(dim="z")
            print(f"   {maxisp.larvik.explain()}")
            local = maxisp.compute()
        with step("draw"):
            local.viewer.show().savefig(picture, dpi=110)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print the title, then how long it took."""
    start = time.perf_counter()
    print(f"-- {title}", flush=True)
    yield
    print(f"   {time.perf_counter() - start:.2f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
