"""Chunks whose codecs Larvik does not decode itself, by zarr-python."""

from __future__ import annotations

from typing import Any

import numpy as np

from larvik.storage.codecs import CorruptChunkError
from larvik.storage.documents import json_bytes
from larvik.storage.zarr_metadata import ArrayMetadata


def decode_chunk(metadata: ArrayMetadata, data: bytes) -> np.ndarray:
    """Return one stored object as an array of the shape of the chunk grid.

    Raises
    ------
    CorruptChunkError
        When zarr-python cannot decode it, a codec that it does not have included.

    Notes
    -----
    zarr-python sees an array in memory that has this chunk alone, so our stores keep reading the bytes:
    their limits, symlink checks and coalescing hold for every codec. About 1 ms a chunk.
    """
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    make = default_buffer_prototype().buffer.from_bytes
    document: dict[str, Any] = {**metadata.document, "shape": list(metadata.shards)}
    if document["zarr_format"] == 2:
        name, key = ".zarray", metadata.key_separator.join("0" * len(metadata.shape)) or "0"
    else:
        name, key = "zarr.json", metadata.key((0,) * len(metadata.shape))
    try:
        store = MemoryStore({name: make(json_bytes(document, name)), key: make(data)})
        decoded: np.ndarray = np.asarray(zarr.open_array(store, mode="r")[...])
    except Exception as error:  # zarr-python and its codecs raise whatever they meet
        raise CorruptChunkError(f"zarr-python says {type(error).__name__}: {str(error)[:200]}") from error
    if decoded.shape != metadata.shards:
        raise CorruptChunkError(f"it decodes to shape {decoded.shape}")
    return decoded
