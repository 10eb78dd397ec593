"""Larvik's own engine reading files, with no server between."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Reader:
    """An opened level.

    Parameters
    ----------
    path : str
        Folder of the level's array.
    source : dict
        See `pixels.Stored`.
    """

    def __init__(self, path: str, source: dict[str, Any]) -> None:
        from larvik.array.spec import Level
        from larvik.storage.engine import open_reader
        from larvik.storage.local import LocalStore

        shape, chunks = tuple(source["shape"]), tuple(source["chunks"])
        ones, group = (1.0,) * len(shape), Path(path).parent
        level = Level(Path(path).name, shape, chunks, chunks, ones, ones)
        self._reader = open_reader(LocalStore(group.parent), group.name, level, source["dtype"])

    def read(self, selection: tuple[slice, ...]) -> Any:
        """Return the pixels of a region."""
        return self._reader.read(selection)
