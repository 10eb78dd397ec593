"""Pixels from streams: the batches of an offer, put together in the caller's array."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from larvik.errors import DataLossError, InvalidArgumentError
from larvik.storage.assembly import Assembly
from larvik.storage.foreign import ForeignDecoder
from larvik.storage.zarr_metadata import ArrayMetadata, parse_v2, parse_v3
from larvik.wire.chunks import decode_chunks
from larvik.wire.dense import decode_dense

if TYPE_CHECKING:
    import pyarrow as pa

#: Results up to this size are put together by the calling thread alone.
INLINE_BYTES = 8 << 20


def receive_dense(batches: Iterator[pa.RecordBatch], out: NDArray[Any]) -> None:
    """Put the tensors of a stream of the encoding `dense` into `out`.

    Raises
    ------
    DataLossError
        ``STREAM_INCOMPLETE``, when the stream ended without all of it.
    """
    target = out if out.ndim else out.reshape(1)
    received = _scatter(batches, target)
    if received < math.prod(target.shape):
        raise DataLossError(
            f"The stream ended after {received} of {target.size} elements. Read again.",
            reason="STREAM_INCOMPLETE",
        )


def receive_chunks(
    batches: Iterator[pa.RecordBatch],
    metadata: ArrayMetadata,
    selection: tuple[slice, ...],
    out: NDArray[Any],
    name: str,
) -> None:
    """Decode the chunks of a stream of the encoding `chunks` into `out`, in threads, while more arrive.

    Parameters
    ----------
    metadata : ArrayMetadata
        Of the level, from the plan.
    selection : tuple of slice
        What `out` holds of it.
    name : str
        What errors call the array.

    Raises
    ------
    DataLossError
        ``CHUNK_CORRUPT`` or ``CHUNK_MISSING``, naming array and chunk; ``STREAM_INCOMPLETE``.
    """
    with Assembly(metadata, selection, out, name) as assembly:
        for batch in batches:
            for index, data in decode_chunks(batch, len(metadata.shape)):
                assembly.add(index, data)
        assembly.finish()


def level_metadata(document: str, name: str) -> ArrayMetadata:
    """Return the metadata of the level in a plan's document; `name` is what errors call the array.

    Raises
    ------
    InvalidArgumentError
        ``ENCODING_UNSUPPORTED``, when stored chunks cannot be decoded here.
    """
    parsed = json.loads(document)
    is_old = parsed.get("zarr_format") == 2
    metadata = parse_v2(parsed, {}, name) if is_old else parse_v3(parsed, name)
    if metadata.compressor == "zarr" and not ForeignDecoder(metadata).can_decode():
        raise InvalidArgumentError(
            f"The chunks of {name} have a codec that this process does not have. Install it, or let the"
            " server decode: encoding='dense'.",
            reason="ENCODING_UNSUPPORTED",
            field="encoding",
        )
    return metadata


def _scatter(batches: Iterator[pa.RecordBatch], target: NDArray[Any]) -> int:
    """Copy tensors to where they belong, one batch while the next arrives; return how many elements."""

    def copy(batch: pa.RecordBatch) -> int:
        box, pixels = decode_dense(batch, target.shape, target.dtype)
        target[box.slices] = pixels
        return pixels.size

    if target.nbytes <= INLINE_BYTES:
        return sum(map(copy, batches))
    received = 0
    with ThreadPoolExecutor(1, "larvik-scatter") as pool:
        copying = None
        for batch in batches:
            received += copying.result() if copying is not None else 0
            copying = pool.submit(copy, batch)
        return received + (copying.result() if copying is not None else 0)
