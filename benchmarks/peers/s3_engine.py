"""Larvik's own engine reading a bucket, with no server between."""

from __future__ import annotations

from typing import Any


class Reader:
    """An opened level.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix`` of the store.
    options : dict
        Of `larvik.storage.open_store`.
    location : str
        Group of the image.
    source : dict
        See `pixels.Stored`.
    """

    def __init__(self, url: str, options: dict[str, Any], location: str, source: dict[str, Any]) -> None:
        from larvik.array.spec import Level
        from larvik.storage import open_reader, open_store

        shape, chunks = tuple(source["shape"]), tuple(source["chunks"])
        ones = (1.0,) * len(shape)
        level = Level("0", shape, chunks, chunks, ones, ones)
        self._reader = open_reader(open_store(url, **options), location, level, source["dtype"])

    def read(self, selection: tuple[slice, ...]) -> Any:
        """Return the pixels of a region."""
        return self._reader.read(selection)
