"""Bulk data of a server over Arrow Flight: pixels, rows and uploads, with errors of ours."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from larvik.errors import PreconditionError, UnavailableError
from larvik_client.address import is_loopback
from larvik_client.channel import Channel, retried, unreachable
from larvik_client.forks import renew_after_fork
from larvik_client.link import Link
from larvik_client.memory import keep_message_buffers

if TYPE_CHECKING:
    import pyarrow as pa

    from larvik.proto.v1 import flight_pb2
    from larvik_client.exchange import Exchange
    from larvik_client.interrupts import Held
    from larvik_client.tiles import TileSession

#: Slowest transfer that is waited for, in bytes per second: streams get a deadline by their size.
SLOWEST = 1 << 20
#: Deadline of streams whose size is not known, in seconds.
STREAM_TIMEOUT_S = 6 * 3600.0
#: Deadline of a tile channel, each of whose requests has its own, in seconds.
CHANNEL_TIMEOUT_S = 366 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Offer:
    """How a server will give what was asked for.

    Attributes
    ----------
    plan : ArrayPlan
        Empty for rows.
    ticket : pyarrow.flight.Ticket
        To redeem.
    size_bytes : int
        Of the result; -1 when it is not known.
    """

    plan: flight_pb2.ArrayPlan
    ticket: Any
    size_bytes: int


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

    Attributes
    ----------
    lanes : callable or None
        Gives sessions to the processes for tiles, where the server has tile channels.
    closing : list of callable
        Called by `close`: they let go of what else was opened to the server.
    link : Link
        What its transfers tell of the way to the server.
    """

    def __init__(self, channel: Channel, url: Callable[[], str], *, tune_malloc: bool = True) -> None:
        self._channel = channel
        self._url = url
        self._tune_malloc = tune_malloc
        self._lock = threading.Lock()
        self._opened: tuple[int, Any] | None = None
        self.lanes: Callable[[], Sequence[FlightSession]] | None = None
        self._small: TileSession | None = None
        self.closing: list[Callable[[], None]] = []
        self.link = Link()
        renew_after_fork(self)

    def renew_locks(self) -> None:
        """Forget a lock that a thread of the parent process may hold."""
        self._lock = threading.Lock()
        self.link.renew_locks()

    @property
    def small(self) -> TileSession | None:
        """Reads what is small, where the server has tile channels."""
        if self._small is None and self.lanes is not None:
            from larvik_client.tiles import TileSession

            with self._lock:
                if self._small is None:
                    self._small = TileSession(self, self.lanes)
                    self.closing.append(self._small.close)
        return self._small

    @property
    def timeout_s(self) -> float:
        """Deadline of a call that is not a stream, and most that a read waits to be tried again."""
        return self._channel.timeout_s

    @property
    def token(self) -> str:
        """The bearer token."""
        return self._channel.credentials.token or ""

    @property
    def is_near(self) -> bool:
        """Whether the server's address is one of this host."""
        return is_loopback(urlsplit(self._url()).hostname or "")

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
        deadline = time.monotonic() + self._channel.timeout_s

        def once() -> Any:
            offer = self.offer(command, deadline)
            with self.errors():
                return self._client().do_get(offer.ticket, self._options(self._timeout(offer.size_bytes)))

        return retried(once, deadline)

    def offer(self, command: flight_pb2.FlightCommand, deadline: float | None = None) -> Offer:
        """Return the plan of a command and its ticket; not repeated."""
        import pyarrow.flight

        from larvik.proto.v1 import flight_pb2

        descriptor = pyarrow.flight.FlightDescriptor.for_command(command.SerializeToString())
        timeout = self._channel.timeout_s if deadline is None else deadline - time.monotonic()
        began = time.monotonic()
        with self.errors():
            info = self._client().get_flight_info(descriptor, self._options(timeout))
            self.link.observe(0, time.monotonic() - began)
            plan = flight_pb2.ArrayPlan.FromString(info.app_metadata)
            return Offer(plan, info.endpoints[0].ticket, info.total_bytes)

    def redeem(self, offer: Offer, held: Held | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the batches of an offer; not repeated; cancelled by `held`, and when it is given up."""
        with self.errors():
            stream = self._client().do_get(offer.ticket, self._options(self._timeout(offer.size_bytes)))
        if held is not None:
            held.hold(stream)
        return self._observed(self._batches(stream), offer.plan)

    def _observed(
        self, batches: Generator[pa.RecordBatch, None, None], plan: flight_pb2.ArrayPlan
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches, and tell the link how long they took to come."""
        first = waited = 0.0
        size = 0
        began = time.monotonic()
        with closing(batches):
            for number, batch in enumerate(batches):
                if number:
                    waited += time.monotonic() - began
                    size += batch.nbytes
                else:
                    first = time.monotonic() - began
                yield batch
                began = time.monotonic()
        if plan.source_bytes > 2 * plan.result_bytes:  # it came as it was computed
            self.link.observe_server(plan.source_bytes, first + waited)
        elif size:
            self.link.observe(size, waited)

    def _timeout(self, size_bytes: int) -> float:
        return self._channel.timeout_s + size_bytes / SLOWEST if size_bytes >= 0 else STREAM_TIMEOUT_S

    def tiles(self, timeout_s: float, ends_at: float) -> Exchange:
        """Open a tile channel; not repeated.

        Parameters
        ----------
        timeout_s : float
            How long the server gets to take it.
        ends_at : float
            When it is to be replaced, by ``time.monotonic``.
        """
        import pyarrow.flight

        from larvik.proto.v1 import flight_pb2
        from larvik_client.exchange import Exchange

        command = flight_pb2.FlightCommand(tile_channel=flight_pb2.TileChannel())
        descriptor = pyarrow.flight.FlightDescriptor.for_command(command.SerializeToString())
        with self.errors():
            writer, reader = self._client().do_exchange(descriptor, self._options(CHANNEL_TIMEOUT_S))
            timer = threading.Timer(max(0.0, timeout_s), reader.cancel)
            timer.start()
            try:
                _ = reader.schema  # comes when the server took the call
            except BaseException:
                reader.cancel()
                with suppress(pyarrow.lib.ArrowException, OSError):
                    writer.close()
                raise
            finally:
                timer.cancel()
        return Exchange(writer, reader, ends_at)

    def put(
        self,
        command: flight_pb2.FlightCommand,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        told: Callable[[bytes], object] | None = None,
    ) -> list[bytes]:
        """Send batches, and return what the server answered.

        Parameters
        ----------
        told : callable, optional
            Called in this thread with the newest answer, after a batch was sent or in the end.
        """
        import pyarrow.flight

        descriptor = pyarrow.flight.FlightDescriptor.for_command(command.SerializeToString())
        with self.errors():
            writer, results = self._client().do_put(descriptor, schema, self._options(STREAM_TIMEOUT_S))
            # Read while batches are sent: a server whose answers nobody takes stops listening in the end.
            answers = _Answers(results, told)
            try:
                for batch in batches:
                    writer.write_batch(batch)
                    answers.tell()
                writer.done_writing()
                answers.wait()
            except pyarrow.lib.ArrowException:
                _end(writer, answers)
                writer.close()  # tells why the server stopped listening; raises it
                raise
            except BaseException:
                _abandon(writer, answers)
                raise
            writer.close()
        answers.tell()
        return answers.received

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
        for close in self.closing:
            close()
        with self._lock:
            opened = self._opened
            if opened is None or opened[0] != os.getpid():
                return
            self._opened = None
        opened[1].close()

    def _batches(self, stream: Any) -> Generator[pa.RecordBatch, None, None]:
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
        generic = [
            # Trailers with a whole error in them.
            ("grpc.max_metadata_size", 64 << 10),
            ("grpc.absolute_max_metadata_size", 64 << 10),
            # A process that died is back in a second or two; gRPC would not look for up to two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        return pyarrow.flight.FlightClient(self._url(), generic_options=generic, **options)


class _Answers:
    """Takes in what the server answers to an upload, in a thread of its own."""

    def __init__(self, results: Any, told: Callable[[bytes], object] | None) -> None:
        self.received: list[bytes] = []
        self._results = results
        self._told = told
        self._count = 0
        self._thread = threading.Thread(target=self._read, name="larvik-answers", daemon=True)
        self._thread.start()

    def tell(self) -> None:
        """Pass on the newest answer that was not passed on yet."""
        count = len(self.received)
        if self._told is not None and count > self._count:
            self._count = count
            self._told(self.received[count - 1])

    def wait(self) -> None:
        """Return when the server answered for the last time."""
        self._thread.join()

    def _read(self) -> None:
        import pyarrow as pa

        with suppress(pa.ArrowException, OSError):  # closing the writer tells of it
            while (answer := self._results.read()) is not None:
                self.received.append(bytes(answer))


def _end(writer: Any, answers: _Answers) -> None:
    """Send no more, and take in what is answered: closing waits for whoever still reads answers."""
    import pyarrow as pa

    with suppress(pa.ArrowException, OSError):
        writer.done_writing()
    answers.wait()


def _abandon(writer: Any, answers: _Answers) -> None:
    """End a stream that failed on this side; the server sees it end early."""
    import pyarrow as pa

    _end(writer, answers)
    with suppress(pa.ArrowException):
        writer.close()
