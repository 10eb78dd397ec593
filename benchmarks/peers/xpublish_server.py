"""xpublish serving plain Zarr as Zarr, read by zarr-python over HTTP.

Usage as a program: python xpublish_server.py FOLDER PORT.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from peers.environment import PYTHON
from peers.environment import missing as not_installed
from peers.service import Service


def missing() -> str | None:
    """Tell why it cannot run here; None when it can."""
    return not_installed("xpublish") or not_installed("xpublish_zarr")


class Server(Service):
    """xpublish serving the arrays in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda scratch, port: [str(PYTHON), __file__, str(folder), str(port)])

    def where(self, name: str, port: int | None = None) -> dict[str, Any]:
        """Return what a reader of the array called `name` is given."""
        return {"url": f"http://127.0.0.1:{port or self.port}/datasets/{name}/zarr"}


class Reader:
    """The array of an xpublish server."""

    def __init__(self, url: str) -> None:
        import zarr

        self._array = zarr.open_group(url, mode="r")["image"]

    def read(self, selection: tuple[slice, ...]) -> Any:
        """Return the pixels of a region."""
        return self._array[selection]

    def maximum(self, axis: int) -> Any:
        """Read everything, then compute."""
        return self._array[...].max(axis)


def serve(folder: str, port: int) -> None:
    """Serve the arrays in `folder` until stopped."""
    import dask.array
    import xarray
    import xpublish
    import zarr

    served = {}
    for path in Path(folder).glob("*.zarr"):
        image = zarr.open_array(path, mode="r")
        chunked = dask.array.from_array(image, chunks=image.chunks)
        served[path.stem] = xarray.Dataset({"image": (tuple("tczyx"), chunked)})
    xpublish.Rest(served).serve(host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
