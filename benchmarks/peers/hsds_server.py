"""HSDS serving an HDF5 dataset, read by h5pyd."""

from __future__ import annotations

import json
import os
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from peers.environment import FOLDER
from peers.environment import missing as not_installed
from peers.service import Service

USER = "admin"
DATASET, BUCKET = "image", "bucket"
#: Data nodes, which hold decoded chunks in memory; they listen on fixed ports from 6101.
NODES = 2


def missing() -> str | None:
    """Tell why it cannot run here; None when it can."""
    return not_installed("hsds") or not_installed("h5pyd")


class Server(Service):
    """HSDS with its objects below `folder`."""

    def __init__(self, folder: Path) -> None:
        bucket = folder / "hsds" / BUCKET
        bucket.mkdir(parents=True, exist_ok=True)
        program = [str(FOLDER / "bin" / "hsds"), "--root_dir", str(bucket.parent), "--bucket_name", BUCKET]
        login = ["--hs_username", USER, "--hs_password", USER, "--count", str(NODES), "--loglevel", "ERROR"]
        super().__init__(
            lambda scratch, port: [*program, *login, "--host", "127.0.0.1", "-p", str(port)],
            {"PATH": f"{FOLDER / 'bin'}:{os.environ['PATH']}"},
        )
        # It listens before its data nodes have joined.
        self.wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/about") as answer:
            return bool(json.load(answer)["state"] == "READY")


class Reader:
    """A dataset of an HSDS server."""

    def __init__(self, url: str, name: str) -> None:
        self._login = {"endpoint": url, "username": USER, "password": USER, "bucket": BUCKET}
        self._domain = f"/home/admin/{name}.h5"
        self._file: Any = None

    def fill(self, path: str) -> dict[str, Any]:
        """Store the Zarr array at `path` as the dataset, in its chunks."""
        import h5pyd
        import zarr

        for folder in ("/home/", "/home/admin/"):
            with suppress(OSError):  # there is one already
                h5pyd.Folder(folder, mode="x", **self._login)
        image = zarr.open_array(path, mode="r")
        with h5pyd.File(self._domain, "w", **self._login) as file:
            dataset = file.create_dataset(
                DATASET, image.shape, str(image.dtype), chunks=image.chunks, compression="lz4", shuffle=True,
            )  # fmt: skip
            for index in range(image.shape[0]):
                for channel in range(image.shape[1]):
                    dataset[index, channel] = image[index, channel]
        return {}

    def read(self, selection: tuple[slice, ...]) -> Any:
        """Return the pixels of a region."""
        import h5pyd

        if self._file is None:
            self._file = h5pyd.File(self._domain, "r", **self._login)
        return self._file[DATASET][selection]

    def maximum(self, axis: int) -> Any:
        """Read everything, then compute."""
        return self.read((slice(None),) * 5).max(axis)
