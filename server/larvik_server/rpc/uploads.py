"""UploadService over gRPC: sessions begin and end here; their blocks travel over Flight."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from larvik.proto.v1 import uploads_pb2 as pb
from larvik.proto.v1.uploads_pb2_grpc import UploadServiceServicer
from larvik.services.bundle import Services
from larvik.services.import_options import ImportOptions
from larvik.services.principal import Principal
from larvik.wire.records import encode_record
from larvik.wire.specs import decode_spec, encode_spec
from larvik.wire.values import decode_row, invalid
from larvik_server.rpc.calls import principal
from larvik_server.rpc.catalog import MAX_ROWS, checked_model
from larvik_server.rpc.threads import Step, Threads

MAX_PATH = 4096


class UploadServicer(UploadServiceServicer):
    """Thin: every rule is in `larvik.services`."""

    def __init__(self, services: Services, threads: Threads) -> None:
        # Asked for what they are used for, in threads: their libraries load with the first use.
        self._services = services
        self._threads = threads

    async def BeginUpload(self, request: pb.BeginUploadRequest, context: Any) -> pb.BeginUploadResponse:  # noqa: N802
        """Open a session."""
        if sum(len(rows.rows) for rows in request.biometa.values()) > MAX_ROWS:
            raise invalid("biometa", f"has more than {MAX_ROWS} rows")
        return await self._threads.run(self._begin, principal(), request)

    def _begin(self, caller: Principal, request: pb.BeginUploadRequest) -> pb.BeginUploadResponse:
        rows = {
            checked_model(model): [decode_row(row.values) for row in rows.rows]
            for model, rows in request.biometa.items()
        }
        values, spec = decode_row(request.values.values), decode_spec(request.spec)
        begun = self._services.uploads.begin(caller, checked_model(request.model), values, spec, rows)
        return pb.BeginUploadResponse(
            upload_id=begun.id,
            array_id=begun.array_id,
            spec=encode_spec(begun.spec),
            document=begun.document,
        )

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.GetUploadResponse:  # noqa: N802
        """Tell which blocks of a session are stored."""
        stored = self._services.uploads.stored_blocks
        return pb.GetUploadResponse(
            stored_blocks=await self._threads.run(stored, principal(), request.upload_id)
        )

    async def CommitUpload(  # noqa: N802
        self, request: pb.CommitUploadRequest, context: Any
    ) -> AsyncIterator[pb.CommitUploadResponse]:
        """Build the levels and make the array visible."""
        commit = partial(self._services.uploads.commit, principal(), request.upload_id)
        async for item in self._threads.steps(
            lambda progress, cancelled: commit(progress=progress, cancelled=cancelled)
        ):
            if isinstance(item, Step):
                yield pb.CommitUploadResponse(done=item.done, total=item.total)
            else:
                yield pb.CommitUploadResponse(record=encode_record(item.value))

    async def AbortUpload(self, request: pb.AbortUploadRequest, context: Any) -> pb.AbortUploadResponse:  # noqa: N802
        """Drop a session."""
        await self._threads.run(self._services.uploads.abort, principal(), request.upload_id)
        return pb.AbortUploadResponse()

    async def ImportPath(  # noqa: N802
        self, request: pb.ImportPathRequest, context: Any
    ) -> AsyncIterator[pb.ImportPathResponse]:
        """Import what the server sees."""
        if not request.path or len(request.path) > MAX_PATH or "\0" in request.path:
            raise invalid("path", "is not a path of the server")
        options = ImportOptions.of(decode_row(request.options))
        work = partial(self._services.imports.import_path, principal(), request.path, options)
        async for item in self._threads.steps(
            lambda progress, cancelled: work(progress=progress, cancelled=cancelled)
        ):
            if isinstance(item, Step):
                yield pb.ImportPathResponse(done=item.done, total=item.total)
            else:
                yield pb.ImportPathResponse(records=map(encode_record, item.value))
