"""A stock Arrow Flight client on Larvik's wire: streams taken as they come, abandoned, or left waiting."""

from __future__ import annotations

import time
from typing import Any

from worker import UnavailableError


class Reader:
    """A Flight connection and one image.

    Parameters
    ----------
    flight_url, token : str
        Of the server.
    source : dict
        See `pixels.Stored`.
    encoding : str
        ``dense`` or ``chunks``.
    """

    def __init__(self, flight_url: str, token: str, source: dict[str, Any], encoding: str) -> None:
        import pyarrow.flight as flight

        from larvik.proto.v1 import flight_pb2

        name = f"ENCODING_{encoding.upper()}"
        if name not in dict(flight_pb2.Encoding.items()):
            raise UnavailableError(f"this Larvik does not offer the encoding {encoding!r}")
        self._encoding = flight_pb2.Encoding.Value(name)
        self._source = source
        self._client = flight.FlightClient(flight_url)
        self._options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])
        self._waiting: list[Any] = []
        self._check()

    def drain(self, selection: list[list[int]] | None = None) -> dict[str, Any]:
        """Take a whole stream, without looking into it."""
        cpu, start = time.process_time(), time.perf_counter()
        stream, size, first = self._open(selection), 0, 0.0
        while True:
            try:
                batch = stream.read_chunk().data
            except StopIteration:
                break
            size += batch.nbytes
            first = first or time.perf_counter() - start
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "bytes": size, "first_s": first, "cpu_s": time.process_time() - cpu}

    def first(self, selection: list[list[int]]) -> dict[str, Any]:
        """Ask, take the first batch, cancel: seconds to it, and the time of day of the cancel."""
        start = time.perf_counter()
        stream = self._open(selection)
        stream.read_chunk()
        seconds = time.perf_counter() - start
        cancelled_at = time.time()
        stream.cancel()
        return {"first_s": seconds, "cancelled_at": cancelled_at}

    def stall(self) -> dict[str, Any]:
        """Take the first batch of everything, and then no more until `close`."""
        stream = self._open(None)
        stream.read_chunk()
        self._waiting.append(stream)
        return {}

    def close(self) -> None:
        """Cancel what waits, and close the connection."""
        for stream in self._waiting:
            stream.cancel()
        self._client.close()

    def _check(self) -> None:
        """Make sure that the server streams in this encoding."""
        import pyarrow.flight as flight

        from larvik.proto.v1 import flight_pb2

        descriptor = flight.FlightDescriptor.for_command(self._command(None))
        try:
            info = self._client.get_flight_info(descriptor, self._options)
        except flight.FlightServerError as error:
            if "accept_encodings" not in str(error):
                raise
            raise UnavailableError("this Larvik's server does not offer the encoding") from error
        chosen = flight_pb2.ArrayPlan.FromString(info.app_metadata).encoding
        if chosen != self._encoding:
            raise UnavailableError(f"the server chose {flight_pb2.Encoding.Name(chosen)}")

    def _open(self, selection: list[list[int]] | None) -> Any:
        import pyarrow.flight as flight

        descriptor = flight.FlightDescriptor.for_command(self._command(selection))
        info = self._client.get_flight_info(descriptor, self._options)
        return self._client.do_get(info.endpoints[0].ticket, self._options)

    def _command(self, selection: list[list[int]] | None) -> bytes:
        from larvik.array.expression import Source
        from larvik.array.record import record
        from larvik.proto.v1 import flight_pb2
        from larvik.wire.expressions import encode_expressions

        shape, chunks = tuple(self._source["shape"]), tuple(self._source["chunks"])
        expression: Any = Source(**{**self._source, "shape": shape, "chunks": chunks})
        if selection is not None:
            region = tuple(range(*bounds) for bounds in selection)
            expression = record("select", [expression], {"selection": region})
        command = flight_pb2.FlightCommand()
        command.array_read.expression.CopyFrom(encode_expressions([expression]))
        command.array_read.accept_encodings.append(self._encoding)
        if hasattr(command.array_read, "codecs"):
            command.array_read.codecs.extend(["blosc", "zstd", "gzip", "none", "zarr"])
        return bytes(command.SerializeToString())
