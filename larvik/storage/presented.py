"""Stored arrays as Zarr documents of their inner chunks: what a reader without shards would have written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from larvik.storage.plain import vlen_utf8
from larvik.storage.zarr_metadata import ArrayMetadata, bytes_codec, grid_indices, v3_document

_SHUFFLES = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


@dataclass(frozen=True, slots=True)
class Form:
    """The version of Zarr in which documents are presented.

    Attributes
    ----------
    version : int
        3; or 2, for arrays of version 2 whose codecs version 3 does not have.
    """

    version: int

    def array(self, metadata: ArrayMetadata, dims: Sequence[str], attributes: Mapping[str, Any]) -> Documents:
        """Return the documents of one level, its chunk grid that of `chunk_grid`."""
        if self.version == 3:
            return {"zarr.json": _v3_array(metadata, dims, attributes)}
        # xarray masks the fill value of version 2, and zeros are pixels. Without one, readers fill with zero.
        fill = {"fill_value": None} if metadata.fill_value == 0 else {}
        return {".zarray": {**metadata.document, **fill}, ".zattrs": _v2_attributes(dims, attributes)}

    def group(self, attributes: Mapping[str, Any], members: Mapping[str, Documents]) -> Documents:
        """Return the documents of a group, those of its members consolidated in them: one read opens it."""
        if self.version == 3:
            inline = {name: documents["zarr.json"] for name, documents in members.items()}
            consolidated = {"kind": "inline", "must_understand": False, "metadata": inline}
            return {
                "zarr.json": {
                    "zarr_format": 3,
                    "node_type": "group",
                    "attributes": dict(attributes),
                    "consolidated_metadata": consolidated,
                }
            }
        own: Documents = {".zgroup": {"zarr_format": 2}, ".zattrs": dict(attributes)}
        every = {f"{name}/{key}": item for name, found in members.items() for key, item in found.items()}
        return {**own, ".zmetadata": {"zarr_consolidated_format": 1, "metadata": {**own, **every}}}

    def coordinate(
        self,
        dims: Sequence[str],
        values: np.ndarray[Any, Any],
        attributes: Mapping[str, Any],
        chunks: Sequence[int],
    ) -> tuple[Documents, dict[str, bytes]]:
        """Return the documents of an array in memory, and its chunks by key, uncompressed."""
        is_text = values.dtype.kind not in "biuf"
        values = values.astype(object if is_text else values.dtype.newbyteorder("<"))
        shape, chunks = list(values.shape), list(chunks)
        if self.version == 3:
            dtype = "string" if is_text else values.dtype.name
            codec = {"name": "vlen-utf8"} if is_text else bytes_codec(dtype)
            documents = {"zarr.json": v3_document(shape, chunks, dtype, dims, [codec], attributes)}
            return documents, _chunks(values, chunks, "c/", "/")
        document = {
            "zarr_format": 2,
            "shape": shape,
            "chunks": chunks,
            "dtype": "|O" if is_text else values.dtype.str,
            "filters": [{"id": "vlen-utf8"}] if is_text else None,
            "compressor": None,
            "fill_value": "" if is_text else None,
            "order": "C",
            "dimension_separator": ".",
        }
        documents = {".zarray": document, ".zattrs": _v2_attributes(dims, attributes)}
        return documents, _chunks(values, chunks, "", ".")


#: Metadata documents by key.
Documents = dict[str, dict[str, Any]]


def form_of(levels: Sequence[ArrayMetadata]) -> Form:
    """Return the form in which all `levels` can be presented: version 3 wherever possible."""
    return Form(3 if all(_v3_codecs(metadata) is not None for metadata in levels) else 2)


def chunk_grid(metadata: ArrayMetadata) -> tuple[int, ...]:
    """Return the presented chunks per dim: inner chunks, or whole shards where their codec is foreign."""
    return tuple(-(-size // chunk) for size, chunk in zip(metadata.shape, metadata.chunks, strict=True))


def _v3_array(metadata: ArrayMetadata, dims: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    codecs = _v3_codecs(metadata)
    assert codecs is not None  # or the form would be that of version 2
    document = v3_document(metadata.shape, metadata.chunks, metadata.dtype, dims, codecs, attributes)
    return {**document, "fill_value": _v3_fill(metadata)}


def _v3_codecs(metadata: ArrayMetadata) -> list[Any] | None:
    """Return the codecs of the presented chunks; None for those that version 3 does not have."""
    stored = metadata.document
    if stored["zarr_format"] == 3:
        codecs: list[Any] = stored["codecs"]
        return codecs[0]["configuration"]["codecs"] if metadata.is_sharded else codecs
    if metadata.compressor == "zarr":
        return None
    order = bytes_codec(metadata.dtype)
    if "configuration" in order and metadata.byteorder == ">":
        order["configuration"] = {"endian": "big"}
    if metadata.compressor is None:
        return [order]
    compressor = _v3_compressor(stored["compressor"], metadata.dtype)
    return None if compressor is None else [order, compressor]


def _v3_compressor(stored: Mapping[str, Any], dtype: str) -> dict[str, Any] | None:
    """Return a compressor of version 2 as version 3 names it; its bytes tell how to decode them."""
    itemsize = np.dtype(dtype).itemsize
    name = stored.get("id")
    if name == "blosc":
        shuffle = _SHUFFLES.get(stored.get("shuffle", 1), "bitshuffle" if itemsize == 1 else "shuffle")
        kept = {"cname": stored.get("cname", "lz4"), "clevel": stored.get("clevel", 5), "shuffle": shuffle}
        return {"name": "blosc", "configuration": {**kept, "typesize": itemsize, "blocksize": 0}}
    if name == "zstd":
        return {"name": "zstd", "configuration": {"level": stored.get("level", 0), "checksum": False}}
    if name == "gzip":
        return {"name": "gzip", "configuration": {"level": stored.get("level", 5)}}
    return None


def _v3_fill(metadata: ArrayMetadata) -> Any:
    if metadata.document["zarr_format"] == 3 and metadata.document.get("fill_value") is not None:
        return metadata.document["fill_value"]
    value = metadata.fill_value
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _v2_attributes(dims: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {**attributes, "_ARRAY_DIMENSIONS": list(dims)}


def _chunks(
    values: np.ndarray[Any, Any], chunks: Sequence[int], prefix: str, separator: str
) -> dict[str, bytes]:
    """Return the bytes of every chunk by key; those at the edge are as large as the others."""
    found = {}
    for index in grid_indices(values.shape, chunks):
        starts = [number * chunk for number, chunk in zip(index, chunks, strict=True)]
        part = values[tuple(slice(a, a + chunk) for a, chunk in zip(starts, chunks, strict=True))]
        whole = np.full(chunks, "" if values.dtype == object else 0, values.dtype)
        whole[tuple(map(slice, part.shape))] = part
        data = vlen_utf8([str(item) for item in whole.flat]) if values.dtype == object else whole.tobytes()
        found[prefix + separator.join(map(str, index))] = data
    return found
