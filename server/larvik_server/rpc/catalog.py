"""CatalogService over gRPC: decode, call the service, encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from larvik.proto.v1 import catalog_pb2 as pb
from larvik.proto.v1.catalog_pb2_grpc import CatalogServiceServicer
from larvik.query.query import Page
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
    tile_urls: Callable[[], Sequence[str]] = tuple


class CatalogServicer(CatalogServiceServicer):
    """Thin: every rule is in `larvik.services.catalog`, every check of form in `larvik.wire`.

    Messages are decoded and encoded in the threads too: large ones would hold up every other call.

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
        Told after rows were written; called from a thread.
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
            tile_urls=self._description.tile_urls(),
        )

    async def QueryRecords(self, request: pb.QueryRecordsRequest, context: Any) -> pb.QueryRecordsResponse:  # noqa: N802
        """Return one page."""
        size = min(request.page_size or PAGE_SIZE, MAX_PAGE_SIZE)
        if len(request.page_token) > MAX_TOKEN:
            raise invalid("page_token", "is not one that this server gave")
        return await self._threads.run(self._page, principal(), request, size)

    def _page(self, caller: Principal, request: pb.QueryRecordsRequest, size: int) -> pb.QueryRecordsResponse:
        """Return one page that fits a message: with fewer rows, where these are large."""
        query = decode_query(request.query)
        while True:
            page = self._catalog.page(caller, query, size=size, token=request.page_token or None)
            answer = _encoded(page)
            if answer.ByteSize() <= self._page_bytes or size == 1:
                return answer
            size = max(1, size // 4)

    async def CountRecords(self, request: pb.CountRecordsRequest, context: Any) -> pb.CountRecordsResponse:  # noqa: N802
        """Return the number of rows."""
        caller = principal()
        count = await self._threads.run(lambda: self._catalog.count(caller, decode_query(request.query)))
        return pb.CountRecordsResponse(count=count)

    async def CreateRecords(self, request: pb.CreateRecordsRequest, context: Any) -> pb.CreateRecordsResponse:  # noqa: N802
        """Store rows."""
        if len(request.rows) > MAX_ROWS:
            raise invalid("rows", f"has {len(request.rows)} rows; at most {MAX_ROWS} fit")
        caller = principal()

        def create() -> pb.CreateRecordsResponse:
            rows = [decode_row(row.values) for row in request.rows]
            records = self._catalog.create(caller, checked_model(request.model), rows)
            return pb.CreateRecordsResponse(records=map(encode_record, records))

        return await self._write(create)

    async def UpdateRecord(self, request: pb.UpdateRecordRequest, context: Any) -> pb.UpdateRecordResponse:  # noqa: N802
        """Change a row."""
        if request.revision >= 2**63:
            raise invalid("revision", "does not fit 64 bits")
        caller = principal()

        def update() -> pb.UpdateRecordResponse:
            changes = decode_row(request.changes.values)
            model, revision = checked_model(request.model), request.revision or None
            record = self._catalog.update(caller, model, request.id, changes, revision)
            return pb.UpdateRecordResponse(record=encode_record(record))

        return await self._write(update)

    async def UpdateRecords(self, request: pb.UpdateRecordsRequest, context: Any) -> pb.UpdateRecordsResponse:  # noqa: N802
        """Change the rows of a query."""
        caller = principal()

        def update() -> pb.UpdateRecordsResponse:
            query, changes = decode_query(request.query), decode_row(request.changes.values)
            return pb.UpdateRecordsResponse(count=self._catalog.update_many(caller, query, changes))

        return await self._write(update)

    async def DeleteRecord(self, request: pb.DeleteRecordRequest, context: Any) -> pb.DeleteRecordResponse:  # noqa: N802
        """Move a row to the trash."""
        caller = principal()
        model = checked_model(request.model)
        record = await self._write(lambda: self._catalog.delete(caller, model, request.id))
        return pb.DeleteRecordResponse(record=encode_record(record))

    async def DeleteRecords(self, request: pb.DeleteRecordsRequest, context: Any) -> pb.DeleteRecordsResponse:  # noqa: N802
        """Move the rows of a query to the trash."""
        caller = principal()
        count = await self._write(lambda: self._catalog.delete_many(caller, decode_query(request.query)))
        return pb.DeleteRecordsResponse(count=count)

    async def RestoreRecord(self, request: pb.RestoreRecordRequest, context: Any) -> pb.RestoreRecordResponse:  # noqa: N802
        """Bring a row back."""
        caller = principal()
        model = checked_model(request.model)
        record = await self._write(lambda: self._catalog.restore(caller, model, request.id))
        return pb.RestoreRecordResponse(record=encode_record(record))

    async def _write(self, write: Callable[[], T]) -> T:
        def write_and_tell() -> T:
            written = write()
            self._edited()  # here: a caller who left meanwhile has written all the same
            return written

        return await self._threads.run(write_and_tell)


def checked_model(name: str) -> str:
    """Return the name of a model, when it may be one; whether there is such a model is known later."""
    if len(name) > MAX_NAME or "\0" in name:
        raise invalid("model", "is not the name of a model")
    return name


def _encoded(page: Page) -> pb.QueryRecordsResponse:
    records: Sequence[pb.Record] = [encode_record(record) for record in page.records]
    return pb.QueryRecordsResponse(records=records, next_page_token=page.next_token or "")
