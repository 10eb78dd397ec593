"""A bucket of a real S3-compatible server, with a copy of an image, and what reads it."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from ground import TOKEN, Ground

#: What the tests start the store with, and how they make it slow.
sys.path.append(str(Path(__file__).parent.parent / "tests"))


class Bucket:
    """SeaweedFS with an image, and Larvik servers over it. A context manager.

    Parameters
    ----------
    ground : Ground
        Whose image is copied.
    name : str
        Of its grid.
    late_ms : float
        What each request takes longer than on this machine.
    """

    def __init__(self, ground: Ground, name: str, late_ms: float = 0) -> None:
        from fixtures.http_proxy import SpoilingProxy
        from fixtures.s3 import started_s3

        self._ground = ground
        self._stack = ExitStack()
        try:
            server = self._stack.enter_context(started_s3())
            self._here = server.location(server.create_bucket(), "larvik")
            self.url = self._here.url
            self.options: dict[str, str] = dict(self._here.options)
            _copy(ground.served, self._location(name), self.url, self.options)
            if late_ms:
                proxy = self._stack.enter_context(SpoilingProxy(server.endpoint_url))
                proxy.delay_s, proxy.concerns = late_ms / 1e3, lambda path: True
                self.options["endpoint_url"] = proxy.url
        except BaseException:
            self.close()
            raise

    def larvik(self, disk_cache_bytes: int) -> Any:
        """Return a Larvik server over the bucket, with rows of its own."""
        from larvik.testing.server import larvik_server

        folder = self._ground.folder / f"over-s3-{disk_cache_bytes}"
        folder.mkdir(exist_ok=True)
        for path in self._ground.served.glob("larvik.db*"):
            shutil.copy(path, folder)
        server = larvik_server(
            folder, store_url=self.url, store_options=self.options, token=TOKEN,
            environment={"LARVIK_DISK_CACHE_BYTES": str(disk_cache_bytes)},
        )  # fmt: skip
        return self._stack.enter_context(server)

    def engine_where(self, name: str) -> dict[str, Any]:
        """Return what the engine is given."""
        stored = self._ground.stored[name]
        return {
            "url": self.url,
            "options": self.options,
            "location": self._location(name),
            "source": stored.source,
        }

    def zarr_where(self, name: str) -> dict[str, Any]:
        """Return what zarr-python is given."""
        return {"url": f"{self.url}/{self._location(name)}/0", "options": self.options}

    def close(self) -> None:
        """Stop everything; idempotent."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _location(self, name: str) -> str:
        return str(Path(self._ground.stored[name].path).parent.relative_to(self._ground.served))


def _copy(folder: Path, location: str, url: str, options: dict[str, str]) -> None:
    from larvik.storage import open_store

    source, target = open_store(str(folder)), open_store(url, **options)
    for key, _ in source.list(location):
        target.write(key, source.read(key))
