"""Rows of a server: queries and writes over gRPC, many rows over Flight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from larvik.proto.v1 import catalog_pb2, flight_pb2
from larvik.query.query import Page, Query, Record
from larvik.wire.queries import encode_query
from larvik.wire.records import decode_record
from larvik.wire.values import encode_row
from larvik_client.channel import Channel

if TYPE_CHECKING:
    import pyarrow as pa

    from larvik_client.flight import FlightSession

#: Most rows that a page is asked for.
MAX_PAGE = 1000


class RemoteCatalog:
    """`larvik.connection.Catalog` of a server. Thread-safe."""

    def __init__(self, channel: Channel, flight: FlightSession) -> None:
        self._channel = channel
        self._flight = flight

    def page(self, query: Query, *, size: int = 100, token: str | None = None) -> Page:
        """Return one page of rows, in order, and the token of the next."""
        request = catalog_pb2.QueryRecordsRequest(
            query=encode_query(query), page_size=max(1, min(size, MAX_PAGE)), page_token=token or ""
        )
        answer = self._channel.call(self._channel.catalog.QueryRecords, request, idempotent=True)
        return Page(tuple(map(decode_record, answer.records)), answer.next_page_token or None)

    def count(self, query: Query) -> int:
        """Return the number of rows."""
        request = catalog_pb2.CountRecordsRequest(query=encode_query(query))
        return self._channel.call(self._channel.catalog.CountRecords, request, idempotent=True).count

    def table(self, query: Query) -> pa.RecordBatchReader:
        """Return all rows columnar, streamed."""
        command = flight_pb2.FlightCommand()
        command.table_read.query.CopyFrom(encode_query(query))
        return self._flight.reader(command)

    def create(self, model: str, rows: Sequence[Mapping[str, object]]) -> list[Record]:
        """Store rows in one transaction."""
        request = catalog_pb2.CreateRecordsRequest(model=model, rows=[encode_row(row) for row in rows])
        # Idempotent where every row brings its id; without one, a repeat could store it twice.
        named = all(row.get("id") for row in rows)
        answer = self._channel.call(self._channel.catalog.CreateRecords, request, idempotent=named)
        return [decode_record(record) for record in answer.records]

    def update(self, model: str, id: str, changes: Mapping[str, object], revision: int | None) -> Record:
        """Change one row; with `revision`, only if it is still the stored one."""
        request = catalog_pb2.UpdateRecordRequest(model=model, id=str(id), changes=encode_row(changes))
        request.revision = revision or 0
        return decode_record(self._channel.call(self._channel.catalog.UpdateRecord, request).record)

    def update_many(self, query: Query, changes: Mapping[str, object]) -> int:
        """Change every row of `query` in one transaction; return how many."""
        request = catalog_pb2.UpdateRecordsRequest(query=encode_query(query), changes=encode_row(changes))
        return self._channel.call(self._channel.catalog.UpdateRecords, request).count

    def delete(self, model: str, id: str) -> Record:
        """Move a row to the trash."""
        request = catalog_pb2.DeleteRecordRequest(model=model, id=str(id))
        return decode_record(self._channel.call(self._channel.catalog.DeleteRecord, request).record)

    def delete_many(self, query: Query) -> int:
        """Move every row of `query` to the trash; return how many."""
        request = catalog_pb2.DeleteRecordsRequest(query=encode_query(query))
        return self._channel.call(self._channel.catalog.DeleteRecords, request).count

    def restore(self, model: str, id: str) -> Record:
        """Bring a row back from the trash."""
        request = catalog_pb2.RestoreRecordRequest(model=model, id=str(id))
        return decode_record(self._channel.call(self._channel.catalog.RestoreRecord, request).record)
