"""zarr-python reading a bucket through s3fs: what most people do today."""

from __future__ import annotations

from typing import Any


class Reader:
    """An opened array.

    Parameters
    ----------
    url : str
        ``s3://bucket/path`` of the array.
    options : dict
        Of s3fs.
    concurrency : int, optional
        Of zarr-python's reads; 10 is its default.
    """

    def __init__(self, url: str, options: dict[str, Any], concurrency: int | None = None) -> None:
        import zarr
        from zarr.storage import FsspecStore

        if concurrency is not None:
            zarr.config.set({"async.concurrency": concurrency})
        self._array = zarr.open_array(
            FsspecStore.from_url(url, storage_options=options, read_only=True), mode="r"
        )

    def read(self, selection: tuple[slice, ...]) -> Any:
        """Return the pixels of a region."""
        return self._array[selection]
