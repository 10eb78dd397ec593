"""What is stored over DoPut: blocks of upload sessions, and measurement tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from larvik.array.spec import ArraySpec
from larvik.errors import DataLossError, InvalidArgumentError, ResourceExhaustedError
from larvik.proto.v1 import flight_pb2
from larvik.query.query import Record
from larvik.services.bundle import Services
from larvik.services.principal import Principal
from larvik.services.tables import MAX_BYTES
from larvik.wire.boxes import decode_boxes
from larvik.wire.tensors import Box
from larvik_server.flight.encoded_puts import put_chunks

Shape = tuple[int, ...]


class BlockAssembler:
    """Puts the boxes of a stream together to blocks, one block at a time.

    Parameters
    ----------
    spec : ArraySpec
        Of the array; blocks are the shards of its finest level, clipped at the edges.
    """

    def __init__(self, spec: ArraySpec) -> None:
        level = spec.levels[0]
        self._shape, self._shards = level.shape, level.shards
        self.dtype = np.dtype(spec.dtype)
        self._block: tuple[Box, np.ndarray] | None = None
        self._missing = 0

    def add(self, box: Box, pixels: np.ndarray) -> tuple[Shape, np.ndarray] | None:
        """Take a box; return start and pixels of the block that it completes, else None.

        Raises
        ------
        InvalidArgumentError
            ``BLOCK_INVALID``, for a box of another rank, outside the array, across blocks, or of another
            block while one is incomplete.
        """
        block = self._block_of(box)
        if self._block is None:
            if box == block:
                # A view of the message where it is aligned.
                return block.start, np.require(pixels, self.dtype, "A")
            self._block = (block, np.zeros(block.shape, self.dtype))
            self._missing = math.prod(block.shape)
        known, buffer = self._block
        if known != block:
            raise _refused(f"the block at {known.start} is not complete when that at {block.start} begins")
        inside = tuple(
            slice(a - b, a - b + n) for a, b, n in zip(box.start, block.start, box.shape, strict=True)
        )
        buffer[inside] = pixels
        self._missing -= pixels.size
        if self._missing > 0:
            return None
        self._block = None
        return block.start, buffer

    def finish(self) -> None:
        """Refuse a stream that ends within a block."""
        if self._block is not None:
            raise _refused(f"the block at {self._block[0].start} is not complete when the stream ends")

    def _block_of(self, box: Box) -> Box:
        if len(box.start) != len(self._shape) or 0 in box.shape:
            raise _refused(f"a box of shape {box.shape} does not fit an array of shape {self._shape}")
        start = tuple(a // n * n for a, n in zip(box.start, self._shards, strict=True))
        shape = tuple(min(n, size - a) for a, n, size in zip(start, self._shards, self._shape, strict=True))
        ends = zip(box.start, box.shape, start, shape, strict=True)
        if any(a + n > b + m for a, n, b, m in ends):
            raise _refused(f"the box at {box.start} of shape {box.shape} leaves its block or the array")
        return Box(start, shape)


def put_upload(
    services: Services,
    principal: Principal,
    put: flight_pb2.UploadPut,
    batches: Iterator[pa.RecordBatch],
    stored: Callable[[int], None],
) -> None:
    """Store the blocks of a stream in the encoding that its command names.

    Raises
    ------
    InvalidArgumentError
        ``ENCODING_UNSUPPORTED``, for another encoding than dense and chunks.
    """
    if put.encoding in (flight_pb2.ENCODING_UNSPECIFIED, flight_pb2.ENCODING_DENSE):
        put_blocks(services, principal, put.upload_id, batches, stored)
    elif put.encoding == flight_pb2.ENCODING_CHUNKS:
        put_chunks(services, principal, put.upload_id, batches, stored)
    else:
        raise InvalidArgumentError(
            "Uploads take ENCODING_DENSE or ENCODING_CHUNKS.",
            reason="ENCODING_UNSUPPORTED",
            field="upload_put.encoding",
        )


def put_blocks(
    services: Services,
    principal: Principal,
    upload_id: str,
    batches: Iterator[pa.RecordBatch],
    stored: Callable[[int], None],
) -> None:
    """Store the blocks of a stream; `stored` is told how many are, after each."""
    assembler = BlockAssembler(services.uploads.spec(principal, upload_id))

    def blocks() -> Iterator[tuple[Shape, np.ndarray]]:
        for batch in batches:
            for box, pixels in decode_boxes(batch, assembler.dtype):
                complete = assembler.add(box, pixels)
                if complete is not None:
                    yield complete
        assembler.finish()

    services.uploads.write_many(principal, upload_id, blocks(), stored)


def put_table(
    services: Services,
    principal: Principal,
    values: dict[str, object],
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    rows: int | None = None,
) -> Record:
    """Store a measurement table.

    Parameters
    ----------
    rows : int, optional
        How many the caller said that the stream brings.

    Raises
    ------
    ResourceExhaustedError
        ``TABLE_TOO_LARGE``.
    DataLossError
        ``STREAM_INCOMPLETE``, when the stream brought another number of rows: it was given up.
    """
    kept, size = [], 0
    for batch in batches:
        size += batch.nbytes
        if size > MAX_BYTES:
            raise ResourceExhaustedError(
                f"A table takes at most {MAX_BYTES >> 30} GiB. Store several.", reason="TABLE_TOO_LARGE"
            )
        kept.append(batch)
    received = sum(batch.num_rows for batch in kept)
    if rows is not None and received != rows:
        raise DataLossError(
            f"The stream ended after {received:,} of {rows:,} rows. Store the table again.",
            reason="STREAM_INCOMPLETE",
        )
    return services.tables.write(principal, values, pa.Table.from_batches(kept, schema=schema))


def _refused(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The upload stream is refused: {problem}.", reason="BLOCK_INVALID", field="start"
    )
