"""Arrays of a server: upload sessions, measurement tables, imports of what the server sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from larvik.array.spec import ArraySpec
from larvik.connection import Cancelled, Progress, Upload
from larvik.errors import CallCancelledError, DataLossError, InvalidArgumentError
from larvik.proto.v1 import catalog_pb2, flight_pb2, uploads_pb2
from larvik.query.query import Record
from larvik.wire.messages import parse
from larvik.wire.records import decode_record
from larvik.wire.specs import decode_spec, encode_spec
from larvik.wire.values import encode_row, write_row
from larvik_client.channel import Channel
from larvik_client.flight import FlightSession

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from larvik.array.evaluator import Evaluator

#: Most rows of a batch of a measurement table.
TABLE_ROWS = 65_536


class RemoteArrays:
    """`larvik.connection.Arrays` of a server. Thread-safe."""

    def __init__(self, channel: Channel, flight: FlightSession) -> None:
        self._channel = channel
        self._flight = flight
        self._evaluator: Evaluator | None = None

    @property
    def evaluator(self) -> Evaluator:
        """What lazy arrays of this connection evaluate through."""
        if self._evaluator is None:
            from larvik_client.evaluator import RemoteEvaluator

            self._evaluator = RemoteEvaluator(self._flight, self._channel.address.url)
        return self._evaluator

    def begin(
        self,
        model: str,
        values: Mapping[str, object],
        spec: ArraySpec,
        biometa: Mapping[str, Sequence[Mapping[str, object]]],
    ) -> Upload:
        """Open a session for one new array of `model`."""
        request = uploads_pb2.BeginUploadRequest(
            model=model, values=encode_row(values), spec=encode_spec(spec)
        )
        for name, rows in biometa.items():
            request.biometa[name].rows.extend(map(encode_row, rows))
        named = bool(values.get("id"))
        answer = self._channel.call(self._channel.uploads.BeginUpload, request, idempotent=named)
        return Upload(answer.upload_id, model, answer.array_id, decode_spec(answer.spec))

    def put(self, upload: Upload, start: tuple[int, ...], block: np.ndarray) -> None:
        """Store the block of level 0 whose first element is at `start`; repeating it is harmless."""
        self.put_many(upload, iter([(start, block)]))

    def put_many(self, upload: Upload, blocks: Iterable[tuple[tuple[int, ...], np.ndarray]]) -> None:
        """Store many blocks over one stream."""
        from larvik.wire.batches import encode_block, upload_schema

        count = 0

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal count
            for start, block in blocks:
                check_block(upload.spec, start, block)
                yield from encode_block(tuple(start), block)
                count += 1

        command = flight_pb2.FlightCommand()
        command.upload_put.upload_id = upload.id
        answers = self._flight.put(command, upload_schema(len(upload.spec.shape)), batches())
        stored = max(
            (parse(flight_pb2.UploadPutResult, answer, field="answer").blocks for answer in answers),
            default=0,
        )
        if stored != count:
            raise DataLossError(
                f"The server stored {stored} of {count} blocks. Put them again.", reason="STREAM_INCOMPLETE"
            )

    def commit(
        self, upload: Upload, *, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> Record:
        """Build the levels, then make the array visible in one transaction; return its row."""
        request = uploads_pb2.CommitUploadRequest(upload_id=upload.id)
        answers = self._channel.stream(self._channel.uploads.CommitUpload, request)
        for answer in _followed(answers, progress, cancelled):
            if answer.HasField("record"):
                return decode_record(answer.record)
        raise DataLossError("The commit ended without the row. Commit again.", reason="STREAM_INCOMPLETE")

    def abort(self, upload: Upload) -> None:
        """Drop the session and its bytes."""
        request = uploads_pb2.AbortUploadRequest(upload_id=upload.id)
        self._channel.call(self._channel.uploads.AbortUpload, request, idempotent=True)

    def write_table(self, values: Mapping[str, object], rows: pa.Table) -> Record:
        """Store a measurement table; return its row of model ``Table``."""
        command = flight_pb2.FlightCommand()
        command.table_put.rows = rows.num_rows
        write_row(command.table_put.values, values)
        answers = self._flight.put(command, rows.schema, rows.to_batches(max_chunksize=TABLE_ROWS))
        if not answers:
            raise DataLossError(
                "The server did not say that it stored the table.", reason="STREAM_INCOMPLETE"
            )
        result = parse(flight_pb2.TablePutResult, answers[-1], field="answer")
        return decode_record(parse(catalog_pb2.Record, result.record, field="answer"))

    def read_table(self, id: str) -> pa.Table:
        """Return the rows of a measurement table."""
        command = flight_pb2.FlightCommand()
        command.measurement_read.table_id = str(id)
        return self._flight.reader(command).read_all()

    def import_path(
        self,
        path: str,
        options: Mapping[str, object],
        *,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> list[Record]:
        """Import or register a path that the server sees, below one of its configured roots."""
        request = uploads_pb2.ImportPathRequest(path=str(path))
        write_row(request.options, options)
        records: list[Record] = []
        answers = self._channel.stream(self._channel.uploads.ImportPath, request)
        for answer in _followed(answers, progress, cancelled):
            records = [decode_record(record) for record in answer.records]
        return records


def check_block(spec: ArraySpec, start: Sequence[int], block: np.ndarray) -> None:
    """Refuse a block that the server would refuse, before its bytes travel.

    Raises
    ------
    InvalidArgumentError
        ``DTYPE_MISMATCH``.
    """
    if (
        block.dtype.newbyteorder("=") != spec.dtype
        or len(start) != len(spec.shape)
        or block.ndim != len(spec.shape)
    ):
        raise InvalidArgumentError(
            f"The block is {block.dtype} with {block.ndim} dims; the array is {spec.dtype} with"
            f" {len(spec.shape)}.",
            reason="DTYPE_MISMATCH",
            field="block",
        )


def _followed(answers: Any, progress: Progress | None, cancelled: Cancelled | None) -> Iterator[Any]:
    """Yield answers, telling `progress` of each, until `cancelled`."""
    for answer in answers:
        if progress is not None and answer.total:
            progress(answer.done, answer.total)
        yield answer
        if cancelled is not None and cancelled():
            answers.close()
            raise CallCancelledError("The caller cancelled the call.")
