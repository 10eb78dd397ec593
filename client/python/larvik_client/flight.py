"""Bulk data of a server over Arrow Flight: pixels, rows and uploads, with errors of ours."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from larvik.errors import PreconditionError, UnavailableError
from larvik_client.channel import Channel, retried, unreachable
from larvik_client.memory import keep_message_buffers

if TYPE_CHECKING:
    import pyarrow as pa

    from larvik.proto.v1 import flight_pb2

#: Slowest transfer that is waited for, in bytes per second: streams get a deadline by their size.
SLOWEST = 1 << 20
#: Deadline of streams whose size is not known, in seconds.
STREAM_TIMEOUT_S = 6 * 3600.0


class FlightSession:
    """Flight calls to one server. Thread-safe.

    A child that was forked before the first call opens a client of its own; later ones are refused, because
    the gRPC inside pyarrow hangs or aborts there.

    Parameters
    ----------
    channel : Channel
        Knows the address, token and deadline.
    url : callable
        Gives the Flight address, from Describe.
    tune_malloc : bool
        Whether the allocator may keep buffers of messages, see `larvik_client.memory`.
    """

    def __init__(self, channel: Channel, url: Callable[[], str], *, tune_malloc: bool = True) -> None:
        self._channel = channel
        self._url = url
        self._tune_malloc = tune_malloc
        self._lock = threading.Lock()
        self._opened: tuple[int, Any] | None = None

    def reader(self, command: flight_pb2.FlightCommand) -> pa.RecordBatchReader:
        """Return the batches that a command reads, streamed; errors on the way are ours."""
        import pyarrow as pa

        stream = self.open(command)
        schema = stream.schema
        return pa.RecordBatchReader.from_batches(schema, self._batches(stream))

    def batches(self, command: flight_pb2.FlightCommand) -> Iterator[pa.RecordBatch]:
        """Yield the batches that a command reads; the stream is cancelled when the iteration is given up."""
        return self._batches(self.open(command))

    def open(self, command: flight_pb2.FlightCommand) -> Any:
        """Return the open stream of a command; repeated while the server cannot be reached."""
        import pyarrow.flight

        descriptor = pyarrow.flight.FlightDescriptor.for_command(command.SerializeToString())
        deadline = time.monotonic() + self._channel.timeout_s

        def once() -> Any:
            with self.errors():
                info = self._client().get_flight_info(descriptor, self._options(deadline - time.monotonic()))
                size = info.total_bytes
                timeout = self._channel.timeout_s + size / SLOWEST if size >= 0 else STREAM_TIMEOUT_S
                return self._client().do_get(info.endpoints[0].ticket, self._options(timeout))

        return retried(once, deadline)

    def put(
        self, command: flight_pb2.FlightCommand, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
    ) -> list[bytes]:
        """Send batches, and return what the server answered."""
        import pyarrow.flight

        descriptor = pyarrow.flight.FlightDescriptor.for_command(command.SerializeToString())
        answers: list[bytes] = []
        with self.errors():
            writer, results = self._client().do_put(descriptor, schema, self._options(STREAM_TIMEOUT_S))
            try:
                for batch in batches:
                    writer.write_batch(batch)
                writer.done_writing()
                while (answer := results.read()) is not None:
                    answers.append(bytes(answer))
            except pyarrow.lib.ArrowException:
                writer.close()  # tells why the server stopped listening; raises it
                raise
            except BaseException:
                _abandon(writer)
                raise
            writer.close()
        return answers

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of pyarrow's client into ours."""
        import pyarrow as pa

        from larvik.wire.status import decode_flight

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, UnavailableError):
                raise
            typed = decode_flight(error)
            if isinstance(typed, UnavailableError) and typed.reason == UnavailableError.default_reason:
                typed = unreachable(self._channel.address)
            raise typed from None

    def close(self) -> None:
        """Close the client; idempotent. That of a parent process is neither closed nor dropped."""
        with self._lock:
            opened = self._opened
            if opened is None or opened[0] != os.getpid():
                return
            self._opened = None
        opened[1].close()

    def _batches(self, stream: Any) -> Iterator[pa.RecordBatch]:
        is_whole = False
        try:
            with self.errors():
                while True:
                    try:
                        chunk = stream.read_chunk()
                    except StopIteration:
                        break
                    yield chunk.data
            is_whole = True
        finally:
            if not is_whole:
                stream.cancel()

    def _options(self, timeout_s: float) -> Any:
        import pyarrow.flight

        headers = [(b"authorization", self._channel.credentials.bearer.encode())]
        return pyarrow.flight.FlightCallOptions(timeout=max(0.001, timeout_s), headers=headers)

    def _client(self) -> Any:
        with self._lock:
            if self._channel.is_closed:
                raise PreconditionError(
                    f"The connection to {self._channel.address.url} is closed.", reason="CONNECTION_CLOSED"
                )
            if self._opened is None:
                self._opened = (os.getpid(), self._connect())
            elif self._opened[0] != os.getpid():
                raise PreconditionError(
                    "Pixels and tables cannot be read in a process that was forked from one that read some:"
                    " the library does not survive it. Start workers with multiprocessing's 'spawn' or"
                    " 'forkserver'.",
                    reason="PROCESS_FORKED",
                )
            return self._opened[1]

    def _connect(self) -> Any:
        import pyarrow.flight

        if self._tune_malloc:
            keep_message_buffers()
        certificates = self._channel.credentials.certificates
        options: dict[str, Any] = {"tls_root_certs": certificates} if certificates else {}
        # Trailers with a whole error in them.
        generic = [("grpc.max_metadata_size", 64 << 10), ("grpc.absolute_max_metadata_size", 64 << 10)]
        return pyarrow.flight.FlightClient(self._url(), generic_options=generic, **options)


def _abandon(writer: Any) -> None:
    """End a stream that failed on this side; the server sees it end early."""
    import pyarrow as pa

    with suppress(pa.ArrowException):
        writer.close()
