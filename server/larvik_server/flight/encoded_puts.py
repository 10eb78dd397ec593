"""Uploads of chunks that the client encoded: put together to shards, one shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from larvik.errors import InvalidArgumentError
from larvik.services.bundle import Services
from larvik.services.principal import Principal
from larvik.services.shards import EncodedChunk
from larvik.storage.encoded import ChunkEncoding, Index
from larvik.wire.encoded import decode_chunks


class ShardAssembler:
    """Collects the chunks of a stream until they are a shard.

    At most one shard is collected, and none of its chunks is larger than what an encoding can make of it.
    """

    def __init__(self, encoding: ChunkEncoding) -> None:
        self._encoding = encoding
        self._grid = encoding.grid
        self._shard: Index | None = None
        self._chunks: dict[Index, EncodedChunk] = {}

    def add(self, chunk: EncodedChunk) -> Sequence[EncodedChunk] | None:
        """Take a chunk; return all chunks of the shard that it completes, else None.

        Raises
        ------
        InvalidArgumentError
            ``BLOCK_INVALID``, for a chunk outside the array, one that came before, one of another shard while
            one is incomplete, or one that is too large; names field and chunk.
        """
        if not self._grid.has(chunk.index):
            raise _refused(chunk, "chunk", f"the grid has {self._grid.counts} chunks")
        if len(chunk.data) > self._encoding.most_bytes:
            raise _refused(
                chunk,
                "data",
                f"it has {len(chunk.data)} bytes, at most {self._encoding.most_bytes} are possible",
            )
        shard = self._grid.shard_of(chunk.index)
        if self._shard is None:
            self._shard = shard
        if shard != self._shard:
            raise _refused(chunk, "chunk", f"block {self._shard} is not complete when block {shard} begins")
        if chunk.index in self._chunks:
            raise _refused(chunk, "chunk", "it came twice")
        self._chunks[chunk.index] = chunk
        if len(self._chunks) < self._grid.chunk_count(shard):
            return None
        complete = tuple(self._chunks.values())
        self._shard, self._chunks = None, {}
        return complete

    def finish(self) -> None:
        """Refuse a stream that ends within a shard."""
        if self._shard is not None:
            raise InvalidArgumentError(
                f"The upload stream is refused: block {self._shard} has {len(self._chunks)} of its"
                f" {self._grid.chunk_count(self._shard)} chunks when the stream ends.",
                reason="BLOCK_INVALID",
                field="chunk",
            )


def put_chunks(
    services: Services,
    principal: Principal,
    upload_id: str,
    batches: Iterator[pa.RecordBatch],
    stored: Callable[[int], None],
) -> None:
    """Store the shards of a stream; `stored` is told how many are, after each."""
    encoding = services.uploads.encoding(principal, upload_id)
    assembler = ShardAssembler(encoding)

    def shards() -> Iterator[Sequence[EncodedChunk]]:
        for batch in batches:
            for index, data, crc in decode_chunks(batch, len(encoding.grid.shape)):
                complete = assembler.add(EncodedChunk(index, data, crc))
                if complete is not None:
                    yield complete
        assembler.finish()

    services.uploads.write_many_chunks(principal, upload_id, shards(), stored)


def _refused(chunk: EncodedChunk, field: str, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The chunk {chunk.index} is refused: {problem}.",
        reason="BLOCK_INVALID",
        field=field,
        chunk=",".join(map(str, chunk.index)),
    )
