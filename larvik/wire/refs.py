"""Addresses of stored objects as Arrow record batches: the encoding `refs` of flight.proto."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import pyarrow as pa

from larvik.errors import DataLossError
from larvik.wire.chunks import index_type

Index = tuple[int, ...]

#: Addresses of one batch.
BATCH_ROWS = 256


def refs_schema(ndim: int, metadata: Mapping[str, str]) -> pa.Schema:
    """Return the schema of the addresses of the objects of an array of `ndim` dims."""
    return pa.schema(
        [
            pa.field("shard", index_type(ndim), nullable=False),
            pa.field("url", pa.string()),
            pa.field("expires_at", pa.timestamp("ms", "UTC"), nullable=False),
        ],
        metadata=dict(metadata),
    )


def encode_refs(
    schema: pa.Schema, objects: Iterable[tuple[Index, str | None, float]]
) -> Iterator[pa.RecordBatch]:
    """Yield batches of (index, address, end of its life in POSIX seconds); no address where nothing is."""
    remaining = iter(objects)
    while found := list(islice(remaining, BATCH_ROWS)):
        indexes, urls, ends = zip(*found, strict=True)
        columns = [
            pa.array([list(index) for index in indexes], schema.field("shard").type),
            pa.array(urls, pa.string()),
            pa.array([int(end * 1000) for end in ends], schema.field("expires_at").type),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def decode_refs(batch: pa.RecordBatch) -> list[tuple[Index, str | None, float]]:
    """Return index, address and end of life (POSIX seconds) of every object of a batch.

    Raises
    ------
    DataLossError
        ``BATCH_MALFORMED``, when the batch is not what the encoding promises.
    """
    try:
        indexes = batch.column("shard").to_pylist()
        urls = batch.column("url").to_pylist()
        ends = batch.column("expires_at").cast(pa.int64()).to_pylist()
        return [(tuple(index), url, end / 1000) for index, url, end in zip(indexes, urls, ends, strict=True)]
    except (KeyError, TypeError, ValueError, pa.ArrowException):
        raise DataLossError(
            "The server sent a batch that holds no addresses: its Larvik and this one may be too far apart.",
            reason="BATCH_MALFORMED",
        ) from None
