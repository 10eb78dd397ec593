"""Chunks whose codecs Larvik does not decode itself, by zarr-python."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from larvik.storage.codecs import CorruptChunkError
from larvik.storage.documents import json_bytes
from larvik.storage.zarr_metadata import ArrayMetadata


class ForeignDecoder:
    """Decodes chunks of one array by zarr-python. Thread-safe.

    Notes
    -----
    zarr-python sees an array in memory that has one chunk alone, so our stores keep reading the bytes: their
    limits, symlink checks and coalescing hold for every codec. About 0.5 ms a chunk.
    """

    def __init__(self, metadata: ArrayMetadata) -> None:
        self._metadata = metadata
        self._key = metadata.key((0,) * len(metadata.shape))
        self._own = threading.local()

    def decode(self, data: bytes) -> np.ndarray:
        """Return one chunk of the grid of ``metadata.chunks`` as an array, padding included.

        Raises
        ------
        CorruptChunkError
            When zarr-python cannot decode it, a codec that it does not have included.
        """
        from zarr.core.buffer import default_buffer_prototype

        try:
            if not hasattr(self._own, "array"):
                self._open()
            self._own.objects[self._key] = default_buffer_prototype().buffer.from_bytes(data)
            decoded: np.ndarray = np.asarray(self._own.array[...])
        except Exception as error:  # zarr-python and its codecs raise whatever they meet
            raise CorruptChunkError(f"zarr-python says {type(error).__name__}: {str(error)[:200]}") from error
        finally:
            self._own.__dict__.get("objects", {}).pop(self._key, None)
        if decoded.shape != self._metadata.chunks:
            raise CorruptChunkError(f"it decodes to shape {decoded.shape}")
        return decoded

    def can_decode(self) -> bool:
        """Whether zarr-python has the codecs here."""
        try:
            self._open()
        except Exception:  # zarr-python raises whatever it meets
            return False
        return True

    def _open(self) -> None:
        """Open this thread's array of one chunk, which is not stored yet."""
        import zarr
        from zarr.core.buffer import default_buffer_prototype
        from zarr.storage import MemoryStore

        name, document = _one_chunk(self._metadata)
        stored = default_buffer_prototype().buffer.from_bytes(json_bytes(document, name))
        self._own.objects = {name: stored}
        self._own.array = zarr.open_array(MemoryStore(self._own.objects), mode="r")


def _one_chunk(metadata: ArrayMetadata) -> tuple[str, dict[str, Any]]:
    """Return name and contents of the document of an array that has one chunk of `metadata`."""
    document: dict[str, Any] = {**metadata.document, "shape": list(metadata.chunks)}
    if document["zarr_format"] == 2:
        return ".zarray", document
    if metadata.is_sharded:
        inner = document["codecs"][0]["configuration"]
        grid = {"name": "regular", "configuration": {"chunk_shape": list(metadata.chunks)}}
        document |= {"codecs": inner["codecs"], "chunk_grid": grid}
    return "zarr.json", document
