"""Encoding and decoding of single chunks: blosc, zstd, gzip, or none, into buffers of the caller."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs import blosc, zstd

from larvik.storage.blosc_frames import HEADER_BYTES, Blocks, find_blocks

#: Most bytes a decoded chunk may have: what blosc can hold.
MAX_CHUNK_BYTES = (1 << 31) - 17

#: Decoded bytes that must be spared before a part of a chunk is decoded alone.
WORTH_SPARING = 64 << 10

# Many chunks are decoded at once, each by one thread: threads of blosc's own would wait for each other.
blosc.use_threads = False

_SHUFFLES = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
#: What new chunks ask blosc for as block size; 0 leaves it to blosc. A crop decodes the blocks it touches. Of
#: lz4's 16 KiB blosc makes 64 KiB, or 128 KiB of 8-byte elements: a quarter of its own choice, at the same
#: size and speed. Smaller blocks of zstd cost both.
_BLOCK_BYTES = {"lz4": 16 << 10}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class CorruptChunkError(ValueError):
    """Stored bytes that do not decode to a chunk; the reader adds array and chunk to the message."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How new arrays are compressed: a compressor of blosc, its level and its shuffle.

    Attributes
    ----------
    cname : str
        ``lz4``, ``zstd``, or another that this build of blosc has.
    clevel : int
        0 (none) to 9.
    shuffle : str
        ``noshuffle``, ``shuffle`` (bytes) or ``bitshuffle``.
    """

    cname: str
    clevel: int
    shuffle: str

    def encode(self, chunk: np.ndarray) -> bytes:
        """Return the compressed bytes of a C-contiguous `chunk`. Releases the GIL."""
        encoded: bytes = blosc.compress(
            chunk.view(f"u{chunk.itemsize}").reshape(-1),
            self.cname.encode(),
            self.clevel,
            _SHUFFLES[self.shuffle],
            _BLOCK_BYTES.get(self.cname, 0),
            chunk.itemsize,
        )
        return encoded

    def document(self, itemsize: int) -> dict[str, Any]:
        """Return the codec as ``zarr.json`` names it."""
        return {
            "name": "blosc",
            "configuration": {
                "cname": self.cname,
                "clevel": self.clevel,
                "shuffle": self.shuffle,
                "typesize": itemsize,
                "blocksize": _BLOCK_BYTES.get(self.cname, 0),
            },
        }


#: For intensities: nearly the ratio of zstd at three times its speed (``docs/decisions/storage-layout.md``).
INTENSITY_CODEC = Codec("lz4", 5, "bitshuffle")
#: For labels and masks: long runs of equal values, where zstd takes a third of the bytes.
LABEL_CODEC = Codec("zstd", 3, "shuffle")


def default_codec(kind: str) -> Codec:
    """Return the codec of new arrays whose pixels mean `kind`."""
    return INTENSITY_CODEC if kind == "intensity" else LABEL_CODEC


def decode_into(compressor: str | None, data: bytes | memoryview, out: np.ndarray) -> None:
    """Decode one chunk into `out`.

    Parameters
    ----------
    compressor : str or None
        ``blosc``, ``zstd``, ``gzip`` (also zlib), or None for raw bytes.
    data : bytes-like
        The stored bytes.
    out : numpy.ndarray
        C-contiguous, dtype uint8, exactly as long as the decoded chunk.

    Raises
    ------
    CorruptChunkError
        When `data` is cut, altered, or of another size; never allocates what a header claims.
    """
    try:
        _DECODERS[compressor](data, out)
    except (RuntimeError, ValueError, zlib.error) as error:
        raise CorruptChunkError(str(error)) from error


def decode_part(
    compressor: str | None, data: bytes | memoryview, out: np.ndarray, start: int, stop: int
) -> None:
    """Decode at least the bytes from `start` to `stop` of one chunk to their place in `out`.

    Takes and raises what `decode_into` does. Of raw bytes and blosc chunks the rest of `out` is left as it
    is where that spares `WORTH_SPARING` bytes; damage to what is not decoded is not noticed.
    """
    blocks = None
    if out.nbytes - (stop - start) >= WORTH_SPARING:
        blocks = part_of(compressor, data, len(data), out.nbytes, start, stop)
    if blocks is None:
        decode_into(compressor, data, out)
    else:
        stored = memoryview(data)[blocks.offset : blocks.offset + blocks.length]
        decode_blocks(compressor, blocks, stored, out)


def part_of(
    compressor: str | None, head: bytes | memoryview, stored: int | None, size: int, start: int, stop: int
) -> Blocks | None:
    """Return which stored bytes hold the decoded bytes from `start` to `stop`, None where it takes all.

    Parameters
    ----------
    compressor : str or None
        As for `decode_into`.
    head : bytes-like
        The first stored bytes; of raw chunks none are needed.
    stored, size : int
        Stored bytes of the chunk, None when they are not known, and decoded ones.

    Raises
    ------
    CorruptChunkError
        When what `head` says does not fit.
    """
    if compressor is None:
        if stored not in (None, size):
            raise CorruptChunkError(f"{stored} bytes are stored instead of {size}")
        return Blocks(start, stop, start, stop - start, b"")
    if compressor != "blosc":
        return None
    _check_blosc(head, stored, size)
    try:
        return find_blocks(head, start, stop)
    except ValueError as error:
        raise CorruptChunkError(str(error)) from error


def decode_blocks(
    compressor: str | None, blocks: Blocks, stored: bytes | memoryview, out: np.ndarray
) -> None:
    """Decode the `stored` bytes of `blocks` to their place in `out`; takes and raises as `decode_into`."""
    target = out[blocks.start : blocks.stop]
    if blocks.head:
        decode_into(compressor, blocks.head + bytes(stored), target)
    else:
        decode_into(None, stored, target)


def _decode_raw(data: bytes | memoryview, out: np.ndarray) -> None:
    if len(data) != out.nbytes:
        raise CorruptChunkError(f"{len(data)} bytes are stored instead of {out.nbytes}")
    out[:] = np.frombuffer(data, np.uint8)


def _decode_blosc(data: bytes | memoryview, out: np.ndarray) -> None:
    _check_blosc(data, len(data), out.nbytes)
    blosc.decompress(data, out)


def _check_blosc(head: bytes | memoryview, stored: int | None, size: int) -> None:
    header = bytes(head[:HEADER_BYTES])
    if len(header) < HEADER_BYTES:
        raise CorruptChunkError("the blosc header is cut")
    decoded, encoded = int.from_bytes(header[4:8], "little"), int.from_bytes(header[12:16], "little")
    if decoded != size or stored not in (None, encoded):
        raise CorruptChunkError("the sizes in the blosc header do not fit")


def _decode_zstd(data: bytes | memoryview, out: np.ndarray) -> None:
    decoded = _zstd_content_size(bytes(data[:18]))
    if decoded is not None and decoded != out.nbytes:
        raise CorruptChunkError("the size in the zstd header does not fit")
    zstd.decompress(data, out)


def _decode_gzip(data: bytes | memoryview, out: np.ndarray) -> None:
    decompressor = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, told by the header
    decoded = decompressor.decompress(data, out.nbytes + 1)
    if len(decoded) != out.nbytes:
        raise CorruptChunkError("the gzip stream has another size")
    if not decompressor.eof:  # the trailer holds the checksum
        decompressor.decompress(decompressor.unconsumed_tail, 1)
    if not decompressor.eof:
        raise CorruptChunkError("the gzip stream is cut")
    out[:] = np.frombuffer(decoded, np.uint8)


_DECODERS = {None: _decode_raw, "blosc": _decode_blosc, "zstd": _decode_zstd, "gzip": _decode_gzip}


def _zstd_content_size(header: bytes) -> int | None:
    """Return the decoded size that a zstd frame header tells, None when it tells none (RFC 8878, 3.1.1)."""
    if len(header) < 6 or header[:4] != _ZSTD_MAGIC:
        raise CorruptChunkError("not a zstd frame")
    descriptor = header[4]
    single_segment = bool(descriptor & 0x20)
    width = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (0 if single_segment else 1) + (0, 1, 2, 4)[descriptor & 3]
    field = header[start : start + width]
    if len(field) < width:
        raise CorruptChunkError("the zstd header is cut")
    if width == 0:
        return None
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)
