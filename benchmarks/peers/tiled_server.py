"""Tiled serving a folder of plain Zarr, read by its own client."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from peers.environment import FOLDER
from peers.environment import missing as not_installed
from peers.service import Service

KEY = "secret"


def missing() -> str | None:
    """Tell why it cannot run here; None when it can."""
    return not_installed("tiled")


class Server(Service):
    """Tiled serving the arrays in `folder`."""

    def __init__(self, folder: Path) -> None:
        program = str(FOLDER / "bin" / "tiled")
        options = ["--api-key", KEY, "--host", "127.0.0.1", "--port"]
        super().__init__(
            lambda scratch, port: [program, "serve", "directory", str(folder), *options, str(port)]
        )
        # It listens before it knows what it serves.
        self.wait_until(lambda: self._indexed() == sum(1 for _ in folder.iterdir()))

    def _indexed(self) -> int:
        address = f"http://127.0.0.1:{self.port}/api/v1/search/"
        request = urllib.request.Request(address, headers={"Authorization": f"Apikey {KEY}"})
        with urllib.request.urlopen(request) as answer:
            return len(json.load(answer)["data"])


class Reader:
    """An array of a Tiled server."""

    def __init__(self, url: str, name: str) -> None:
        from tiled.client import from_uri

        self._array = from_uri(url, api_key=KEY)[name]

    def read(self, selection: tuple[slice, ...]) -> Any:
        """Return the pixels of a region."""
        return self._array.read(selection)

    def maximum(self, axis: int) -> Any:
        """Read everything, then compute."""
        return self._array.read().max(axis)
