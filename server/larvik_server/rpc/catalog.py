"""CatalogService over gRPC: decode, call the service, encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from larvik.proto.v1 import catalog_pb2 as pb
from larvik.proto.v1.catalog_pb2_grpc import CatalogServiceServicer
from larvik.query.query import Page, Query
from larvik.services.catalog import CatalogService
from larvik.services.principal import Principal
from larvik.wire.queries import decode_query
from larvik.wire.records import encode_model, encode_record
from larvik.wire.values import MAX_NAME, decode_row, invalid
from larvik_server.rpc.calls import principal
from larvik_server.rpc.threads import Threads

T = TypeVar("T")

#: Rows of a page that names no size, and most rows of any page.
PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
#: Most rows of one CreateRecords.
MAX_ROWS = 100_000
MAX_TOKEN = 16_384


@dataclass(frozen=True, slots=True)
class Description:
    """What Describe tells beside the models and the caller."""

    version: str
    flight_url: str
    http_url: str
    features: tuple[str, ...]


class CatalogServicer(CatalogServiceServicer):
    """Thin: every rule is in `larvik.services.catalog`, every check of form in `larvik.wire`.

    Parameters
    ----------
    catalog : CatalogService
        Answers.
    threads : Threads
        Where it runs.
    description : Description
        What Describe tells.
    page_bytes : int
        Largest page; a page of larger rows has fewer.
    edited : callable
        Told after rows were written.
    """

    def __init__(
        self,
        catalog: CatalogService,
        threads: Threads,
        description: Description,
        page_bytes: int,
        edited: Callable[[], object],
    ) -> None:
        self._catalog = catalog
        self._edited = edited
        self._threads = threads
        self._description = description
        self._models = [encode_model(spec) for spec in catalog.registry]
        self._page_bytes = page_bytes

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:  # noqa: N802
        """Tell addresses, models and abilities."""
        caller = principal()
        return pb.DescribeResponse(
            version=self._description.version,
            flight_url=self._description.flight_url,
            http_url=self._description.http_url,
            models=self._models,
            features=self._description.features,
            subject_id=caller.subject_id,
            scopes=sorted(caller.scopes),
        )

    async def QueryRecords(self, request: pb.QueryRecordsRequest, context: Any) -> pb.QueryRecordsResponse:  # noqa: N802
        """Return one page."""
        size = min(request.page_size or PAGE_SIZE, MAX_PAGE_SIZE)
        if len(request.page_token) > MAX_TOKEN:
            raise invalid("page_token", "is not one that this server gave")
        return await self._threads.run(
            self._page, principal(), decode_query(request.query), size, request.page_token or None
        )

    def _page(self, caller: Principal, query: Query, size: int, token: str | None) -> pb.QueryRecordsResponse:
        """Return one page that fits a message: with fewer rows, where these are large."""
        while True:
            page = self._catalog.page(caller, query, size=size, token=token)
            answer = _encoded(page)
            if answer.ByteSize() <= self._page_bytes or size == 1:
                return answer
            size = max(1, size // 4)

    async def CountRecords(self, request: pb.CountRecordsRequest, context: Any) -> pb.CountRecordsResponse:  # noqa: N802
        """Return the number of rows."""
        count = await self._threads.run(self._catalog.count, principal(), decode_query(request.query))
        return pb.CountRecordsResponse(count=count)

    async def CreateRecords(self, request: pb.CreateRecordsRequest, context: Any) -> pb.CreateRecordsResponse:  # noqa: N802
        """Store rows."""
        if len(request.rows) > MAX_ROWS:
            raise invalid("rows", f"has {len(request.rows)} rows; at most {MAX_ROWS} fit")
        rows = [decode_row(row.values) for row in request.rows]
        records = await self._write(self._catalog.create, principal(), checked_model(request.model), rows)
        return pb.CreateRecordsResponse(records=map(encode_record, records))

    async def UpdateRecord(self, request: pb.UpdateRecordRequest, context: Any) -> pb.UpdateRecordResponse:  # noqa: N802
        """Change a row."""
        if request.revision >= 2**63:
            raise invalid("revision", "does not fit 64 bits")
        record = await self._write(
            self._catalog.update,
            principal(),
            checked_model(request.model),
            request.id,
            decode_row(request.changes.values),
            request.revision or None,
        )
        return pb.UpdateRecordResponse(record=encode_record(record))

    async def UpdateRecords(self, request: pb.UpdateRecordsRequest, context: Any) -> pb.UpdateRecordsResponse:  # noqa: N802
        """Change the rows of a query."""
        changes = decode_row(request.changes.values)
        count = await self._write(
            self._catalog.update_many, principal(), decode_query(request.query), changes
        )
        return pb.UpdateRecordsResponse(count=count)

    async def DeleteRecord(self, request: pb.DeleteRecordRequest, context: Any) -> pb.DeleteRecordResponse:  # noqa: N802
        """Move a row to the trash."""
        record = await self._write(
            self._catalog.delete, principal(), checked_model(request.model), request.id
        )
        return pb.DeleteRecordResponse(record=encode_record(record))

    async def DeleteRecords(self, request: pb.DeleteRecordsRequest, context: Any) -> pb.DeleteRecordsResponse:  # noqa: N802
        """Move the rows of a query to the trash."""
        count = await self._write(self._catalog.delete_many, principal(), decode_query(request.query))
        return pb.DeleteRecordsResponse(count=count)

    async def RestoreRecord(self, request: pb.RestoreRecordRequest, context: Any) -> pb.RestoreRecordResponse:  # noqa: N802
        """Bring a row back."""
        record = await self._write(
            self._catalog.restore, principal(), checked_model(request.model), request.id
        )
        return pb.RestoreRecordResponse(record=encode_record(record))

    async def _write(self, function: Callable[..., T], *arguments: object) -> T:
        written = await self._threads.run(function, *arguments)
        self._edited()
        return written


def checked_model(name: str) -> str:
    """Return the name of a model, when it may be one; whether there is such a model is known later."""
    if len(name) > MAX_NAME or "\0" in name:
        raise invalid("model", "is not the name of a model")
    return name


def _encoded(page: Page) -> pb.QueryRecordsResponse:
    records: Sequence[pb.Record] = [encode_record(record) for record in page.records]
    return pb.QueryRecordsResponse(records=records, next_page_token=page.next_token or "")
