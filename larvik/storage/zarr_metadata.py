"""Metadata of one Zarr array, version 3 or 2: parsed and checked, and written for new arrays."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from larvik.array.spec import DTYPES, Level, itemsize
from larvik.errors import InvalidArgumentError, UnsupportedError
from larvik.storage.base import Store, join
from larvik.storage.codecs import MAX_CHUNK_BYTES, Codec
from larvik.storage.documents import invalid, read_json

#: Most bytes that an array may declare.
MAX_ARRAY_BYTES = 1 << 62
#: Most dims, as in NumPy 1.
MAX_RANK = 32
#: Most inner chunks of a shard: its index then has 64 MiB.
MAX_SHARD_CHUNKS = 1 << 22
#: Attribute of the arrays that Larvik writes: every shard exists, so a missing one is a loss.
COMPLETE = "complete"

_COMPRESSORS_V2 = {"blosc": "blosc", "zstd": "zstd", "zlib": "gzip", "gzip": "gzip"}


@dataclass(frozen=True, slots=True)
class ArrayMetadata:
    """What is needed to find and decode the chunks of an array.

    Attributes
    ----------
    shape, chunks, shards : tuple of int
        Elements per dim; `shards` is the grid of stored objects, `chunks` that of decoding.
    dtype : str
        NumPy name; one of `DTYPES`, or ``string``.
    byteorder : str
        ``<`` or ``>``, of the stored elements.
    compressor : str or None
        For `larvik.storage.codecs.decode_into`; ``zarr`` when zarr-python has to decode.
    fill_value : Any
        Value of chunks that are not stored.
    key_prefix, key_separator : str
        How the key of a chunk is made from its index.
    is_sharded, index_at_start : bool
        Whether stored objects have an index of inner chunks, and whether it comes first.
    dimension_names : tuple of str, or None
        Names of the dims, when the array tells all of them.
    attributes : mapping
        The array's own attributes.
    document : mapping
        The metadata as stored.
    """

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    byteorder: str
    compressor: str | None
    fill_value: Any
    key_prefix: str
    key_separator: str
    is_sharded: bool
    index_at_start: bool
    dimension_names: tuple[str, ...] | None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether Larvik wrote every stored object, so that a missing one is a loss."""
        larvik = self.attributes.get("larvik")
        return isinstance(larvik, Mapping) and larvik.get(COMPLETE) is True

    def key(self, index: Sequence[int]) -> str:
        """Return the key, below the array, of the stored object at `index` of the shard grid."""
        if not index:
            return self.key_prefix.rstrip(self.key_separator) or "0"
        return self.key_prefix + self.key_separator.join(map(str, index))


def read_array_metadata(store: Store, location: str) -> ArrayMetadata | None:
    """Return the metadata of the array at `location`, or None when there is none.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INVALID``, ``SHAPE_INVALID`` or ``DTYPE_UNSUPPORTED``; names the field.
    UnsupportedError
        ``FORMAT_UNSUPPORTED``, for chunk grids other than regular ones.
    """
    document = read_json(store, join(location, "zarr.json"))
    if document is not None:
        if document.get("node_type") != "array":
            return None
        return parse_v3(document, join(location, "zarr.json"))
    document = read_json(store, join(location, ".zarray"))
    if document is None:
        return None
    attributes = read_json(store, join(location, ".zattrs")) or {}
    return parse_v2(document, attributes, join(location, ".zarray"))


def parse_v3(document: Mapping[str, Any], where: str) -> ArrayMetadata:
    """Return the metadata in a Zarr v3 array document; `where` names it in errors."""
    dtype = parse_dtype(document.get("data_type"), f"{where}: data_type")
    shape = _extents(document.get("shape"), f"{where}: shape", dtype)
    grid = _configuration(document.get("chunk_grid"), "regular", f"{where}: chunk_grid")
    shards = _extents(grid.get("chunk_shape"), f"{where}: chunk_shape", dtype, rank=len(shape))
    if document.get("storage_transformers"):
        raise _unsupported(f"{where}: storage_transformers")
    chunks, chain, is_sharded, at_start = _sharding(document.get("codecs"), shards, where)
    byteorder, compressor = _chain(chain, itemsize(dtype) if dtype != "string" else 0)
    if compressor == "zarr" or dtype == "string":
        compressor, byteorder = "zarr", "<"
    if not chain:  # an index that only zarr-python reads: a shard is one chunk
        chunks, is_sharded = shards, False
    _check_chunk_bytes(chunks, shards, dtype, where)
    prefix, separator = _key_encoding(document.get("chunk_key_encoding"), where)
    names = document.get("dimension_names")
    return ArrayMetadata(
        shape, dtype, chunks, shards, byteorder, compressor,
        _fill_value(document.get("fill_value"), dtype, f"{where}: fill_value"),
        prefix, separator, is_sharded, at_start, _names(names, len(shape)),
        _mapping(document.get("attributes")), document,
    )  # fmt: skip


def parse_v2(document: Mapping[str, Any], attributes: Mapping[str, Any], where: str) -> ArrayMetadata:
    """Return the metadata in a Zarr v2 ``.zarray`` and its ``.zattrs``."""
    code = document.get("dtype")
    dtype = parse_dtype(code, f"{where}: dtype")
    shape = _extents(document.get("shape"), f"{where}: shape", dtype)
    chunks = _extents(document.get("chunks"), f"{where}: chunks", dtype, rank=len(shape))
    separator = document.get("dimension_separator", ".")
    if separator not in (".", "/"):
        raise invalid("neither '.' nor '/'", f"{where}: dimension_separator")
    compression = document.get("compressor")
    name = compression.get("id") if isinstance(compression, Mapping) else compression
    compressor = None if name is None else _COMPRESSORS_V2.get(str(name), "zarr")
    if document.get("filters") or document.get("order", "C") != "C" or dtype == "string":
        compressor = "zarr"
    _check_chunk_bytes(chunks, chunks, dtype, where)
    byteorder = ">" if str(code)[:1] == ">" and compressor != "zarr" else "<"
    return ArrayMetadata(
        shape, dtype, chunks, chunks, byteorder, compressor,
        _fill_value(document.get("fill_value"), dtype, f"{where}: fill_value"),
        "", separator, False, False, _names(attributes.get("_ARRAY_DIMENSIONS"), len(shape)), attributes,
        {"zarr_format": 2, **document},
    )  # fmt: skip


def array_document(
    level: Level, dtype: str, dims: Sequence[str], codec: Codec, attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the ``zarr.json`` of a new array: little endian, blosc, sharded when the level says so."""
    codecs = [bytes_codec(dtype), codec.document(itemsize(dtype))]
    if level.shards != level.chunks:
        configuration = {
            "chunk_shape": list(level.chunks),
            "codecs": codecs,
            "index_codecs": [bytes_codec("uint64"), {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": configuration}]
    return v3_document(level.shape, level.shards, dtype, dims, codecs, attributes)


def v3_document(
    shape: Sequence[int],
    grid: Sequence[int],
    dtype: str,
    dims: Sequence[str],
    codecs: Sequence[Mapping[str, Any]],
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a Zarr v3 array document with a regular grid and a fill value of zero."""
    zero: Any = "" if dtype == "string" else False if dtype == "bool" else 0.0 if "float" in dtype else 0
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(grid)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": zero,
        "codecs": list(codecs),
        "attributes": dict(attributes),
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


def bytes_codec(dtype: str) -> dict[str, Any]:
    """Return the ``bytes`` codec of `dtype`, little endian."""
    if dtype != "string" and itemsize(dtype) == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def grid_indices(shape: Sequence[int], shards: Sequence[int]) -> product[tuple[int, ...]]:
    """Return the index of every stored object of a grid, in C order."""
    return product(*(range(-(-size // extent)) for size, extent in zip(shape, shards, strict=True)))


def parse_dtype(value: Any, where: str) -> str:
    """Return the NumPy name of a Zarr v3 data type or a Zarr v2 dtype string.

    Raises
    ------
    InvalidArgumentError
        ``DTYPE_UNSUPPORTED``, for any but `DTYPES` and strings.
    """
    if isinstance(value, str):
        if value in (*DTYPES, "string"):
            return value
        kind, size = value[1:2], value[2:]
        if value[:1] in "<>|=" and value[2:].isdigit() and kind in "biuf":
            name = "bool" if value[1:] == "b1" else f"{_KINDS.get(kind, '')}{int(size[:3]) * 8}"
            if name in DTYPES:
                return name
        if value == "|O" or value[:2] in ("<U", ">U", "|S"):
            return "string"
    elif isinstance(value, Mapping) and value.get("name") in ("fixed_length_utf32", "variable_length_utf8"):
        return "string"
    shown = repr(value)
    raise InvalidArgumentError(
        f"{where} is {shown if len(shown) <= 60 else shown[:57] + '...'}. Larvik stores {', '.join(DTYPES)}.",
        reason="DTYPE_UNSUPPORTED",
        field="dtype",
    )


_KINDS = {"i": "int", "u": "uint", "f": "float"}
_FLOATS = {"float16": ">e", "float32": ">f", "float64": ">d"}


def _extents(value: Any, where: str, dtype: str, rank: int | None = None) -> tuple[int, ...]:
    """Return a shape or chunk shape of positive integers whose bytes can be counted."""
    problem = None
    if not isinstance(value, list) or len(value) > MAX_RANK:
        problem = f"not a list of at most {MAX_RANK} integers"
    elif any(type(extent) is not int or extent < 1 for extent in value):
        problem = "not made of integers >= 1"
    elif rank is not None and len(value) != rank:
        problem = f"of length {len(value)}, but the array has {rank} dims"
    elif math.prod(value) * (1 if dtype == "string" else itemsize(dtype)) > MAX_ARRAY_BYTES:
        problem = "larger than 2**62 bytes"
    if problem:
        raise InvalidArgumentError(f"{where} is {problem}.", reason="SHAPE_INVALID", field="shape")
    return tuple(value)


def _check_chunk_bytes(chunks: tuple[int, ...], shards: tuple[int, ...], dtype: str, where: str) -> None:
    size = math.prod(chunks) * (1 if dtype == "string" else itemsize(dtype))
    count = math.prod(shard // chunk for shard, chunk in zip(shards, chunks, strict=True))
    if size > MAX_CHUNK_BYTES or count > MAX_SHARD_CHUNKS:
        raise InvalidArgumentError(
            f"{where}: chunks of {size} bytes, {count} to a shard, are more than Larvik reads "
            f"({MAX_CHUNK_BYTES} bytes, {MAX_SHARD_CHUNKS} chunks). Rewrite the array with smaller chunks.",
            reason="SHAPE_INVALID",
            field="chunks",
        )


def _sharding(
    codecs: Any, shards: tuple[int, ...], where: str
) -> tuple[tuple[int, ...], list[Any], bool, bool]:
    """Return inner chunks, their codecs (none when the index is not ours to read), and where the index is."""
    if not isinstance(codecs, list) or not codecs or not all(isinstance(codec, Mapping) for codec in codecs):
        raise invalid("not a list of codecs", f"{where}: codecs")
    if len(codecs) > 1 or codecs[0].get("name") != "sharding_indexed":
        return shards, codecs, False, False
    configuration = _configuration(codecs[0], "sharding_indexed", f"{where}: codecs")
    chunks = _extents(configuration.get("chunk_shape"), f"{where}: chunk_shape", "uint8", rank=len(shards))
    if any(shard % chunk for shard, chunk in zip(shards, chunks, strict=True)):
        raise invalid("not a divisor of the shard shape", f"{where}: inner chunk_shape")
    inner, index = configuration.get("codecs"), configuration.get("index_codecs")
    location = configuration.get("index_location", "end")
    if not isinstance(inner, list) or not isinstance(index, list) or location not in ("start", "end"):
        raise invalid("not a sharding configuration", f"{where}: codecs")
    names = [codec.get("name") if isinstance(codec, Mapping) else None for codec in index]
    is_known = names == ["bytes", "crc32c"] and _chain(index[:1], 8) == ("<", None)
    return chunks, inner if is_known else [], True, location == "start"


def _chain(codecs: Sequence[Any], size: int) -> tuple[str, str | None]:
    """Return byte order and compressor of a codec chain; ``zarr`` for one that we do not decode."""
    names = [codec.get("name") if isinstance(codec, Mapping) else None for codec in codecs]
    if not names or names[0] != "bytes" or len(names) > 2:
        return "<", "zarr"
    endian = _mapping(codecs[0].get("configuration")).get("endian", "little")
    byteorder = ">" if endian == "big" and size > 1 else "<"
    if len(names) == 1:
        return byteorder, None
    return byteorder, names[1] if names[1] in ("blosc", "zstd", "gzip") else "zarr"


def _configuration(value: Any, name: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or value.get("name") != name:
        raise _unsupported(where)
    return _mapping(value.get("configuration"))


def _key_encoding(value: Any, where: str) -> tuple[str, str]:
    name = value.get("name") if isinstance(value, Mapping) else value
    separator = _mapping(value.get("configuration") if isinstance(value, Mapping) else None).get(
        "separator", "/" if name == "default" else "."
    )
    if name not in ("default", "v2") or separator not in ("/", "."):
        raise _unsupported(f"{where}: chunk_key_encoding")
    return f"c{separator}" if name == "default" else "", separator


def _fill_value(value: Any, dtype: str, where: str) -> Any:
    if dtype == "string":
        return ""
    if value is None:
        return 0
    if dtype == "bool" and isinstance(value, bool | int):
        return bool(value)
    if "float" in dtype:
        if isinstance(value, str) and re.fullmatch(rf"0x[0-9a-fA-F]{{{2 * itemsize(dtype)}}}", value):
            return struct.unpack(_FLOATS[dtype], bytes.fromhex(value[2:]))[0]
        if value in ("NaN", "Infinity", "-Infinity"):
            return float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value) if abs(value) < 1e308 else math.copysign(math.inf, value)
    elif type(value) is int or (type(value) is float and value.is_integer()):
        bits, signed = itemsize(dtype) * 8, dtype[0] == "i"
        if (-(1 << bits - 1) if signed else 0) <= value < (1 << bits - signed):
            return int(value)
    raise invalid(f"{str(value)[:40]!r}, not a value of {dtype}", where)


def _names(value: Any, rank: int) -> tuple[str, ...] | None:
    names = value if isinstance(value, list) else []
    return (
        tuple(names) if len(names) == rank and all(isinstance(name, str) and name for name in names) else None
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _unsupported(where: str) -> UnsupportedError:
    return UnsupportedError(
        f"{where} names something that Larvik does not read. Copy the array with zarr-python to the "
        "regular grid and default keys first.",
        reason="FORMAT_UNSUPPORTED",
        field=where,
    )
