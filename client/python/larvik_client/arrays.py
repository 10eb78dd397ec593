"""Arrays of a server: upload sessions, measurement tables, imports of what the server sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from larvik.array.options import options
from larvik.array.spec import ArraySpec
from larvik.connection import Cancelled, Progress, Upload
from larvik.errors import CallCancelledError, DataLossError
from larvik.proto.v1 import catalog_pb2, flight_pb2, uploads_pb2
from larvik.query.query import Record
from larvik.wire.messages import parse
from larvik.wire.records import decode_record
from larvik.wire.specs import decode_spec, encode_spec
from larvik.wire.values import encode_row, write_row
from larvik_client.channel import Channel, retried
from larvik_client.flight import FlightSession

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from larvik.array.evaluator import Evaluator

#: Most that a commit waits for a server that is away or full, in seconds.
COMMIT_PATIENCE_S = 60.0
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
        spec = decode_spec(answer.spec)
        return Upload(answer.upload_id, model, answer.array_id, spec, answer.document)

    def put(self, upload: Upload, start: tuple[int, ...], block: np.ndarray) -> None:
        """Store the block of level 0 whose first element is at `start`; repeating it is harmless."""
        self.put_many(upload, iter([(start, block)]))

    def put_many(
        self,
        upload: Upload,
        blocks: Iterable[tuple[tuple[int, ...], np.ndarray]],
        stored: Callable[[int], object] | None = None,
    ) -> None:
        """Store many blocks over one stream; `stored` is told how many are.

        Chunks are encoded here, in threads. Where the server has codecs that are not known here, or
        ``larvik.set_options(encoding="dense")`` says so, the pixels travel as they are.
        """
        from larvik_client.puts import dense_batches, encoded_batches, encoding_for, schema_of

        given = 0

        def counted() -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
            nonlocal given
            for block in blocks:
                given += 1
                yield block

        encoding = None if options().encoding == "dense" else encoding_for(upload.document, upload.spec)
        command = flight_pb2.FlightCommand()
        command.upload_put.upload_id = upload.id
        if encoding is None:
            batches = dense_batches(upload.spec, counted())
        else:
            command.upload_put.encoding = flight_pb2.ENCODING_CHUNKS
            batches = encoded_batches(upload.spec, encoding, counted())
        done = 0

        def told(answer: bytes) -> None:
            nonlocal done
            done = parse(flight_pb2.UploadPutResult, answer, field="answer").blocks
            if stored is not None:
                stored(done)

        schema = schema_of(len(upload.spec.shape), encoding)
        self._flight.put(command, schema, batches, told)
        if done != given:
            raise DataLossError(
                f"The server stored {done} of {given} blocks. Put them again.", reason="STREAM_INCOMPLETE"
            )

    def stored(self, upload: Upload) -> list[int]:
        """Return the numbers, in C order of their grid, of the blocks that are stored, ascending."""
        request = uploads_pb2.GetUploadRequest(upload_id=upload.id)
        answer = self._channel.call(self._channel.uploads.GetUpload, request, idempotent=True)
        return list(answer.stored_blocks)

    def commit(
        self, upload: Upload, *, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> Record:
        """Build the levels, then make the array visible in one transaction; return its row."""
        request = uploads_pb2.CommitUploadRequest(upload_id=upload.id)

        def once() -> Record:
            answers = self._channel.stream(self._channel.uploads.CommitUpload, request)
            for answer in _followed(answers, progress, cancelled):
                if answer.HasField("record"):
                    return decode_record(answer.record)
            raise DataLossError("The commit ended without the row. Commit again.", reason="STREAM_INCOMPLETE")

        # A commit whose answer was lost gives the row when it is repeated.
        return retried(once, patience_s=COMMIT_PATIENCE_S)

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


def _followed(answers: Any, progress: Progress | None, cancelled: Cancelled | None) -> Iterator[Any]:
    """Yield answers, telling `progress` of each, until `cancelled`."""
    for answer in answers:
        if progress is not None and answer.total:
            progress(answer.done, answer.total)
        yield answer
        if cancelled is not None and cancelled():
            answers.close()
            raise CallCancelledError("The caller cancelled the call.")
