"""One stored level of a server, read by region in the encoding that is cheapest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Expression, Source
from larvik.array.record import record
from larvik.errors import InvalidArgumentError, UnavailableError
from larvik.proto.v1 import flight_pb2
from larvik.storage.regions import check_selection
from larvik.storage.zarr_metadata import ArrayMetadata
from larvik.wire.chunks import decode_chunks
from larvik_client.channel import retried
from larvik_client.commands import command_of
from larvik_client.flight import FlightSession, Offer
from larvik_client.near import NearLevels
from larvik_client.objects import name_of
from larvik_client.receiving import level_metadata, receive_chunks, receive_dense

if TYPE_CHECKING:
    from larvik_client.presigned import HttpPool

#: Most attempts of one read, while the server cannot be reached or ends in the middle.
READ_ATTEMPTS = 10

Box = tuple[slice, ...]

NAMED = {
    "chunks": flight_pb2.ENCODING_CHUNKS,
    "dense": flight_pb2.ENCODING_DENSE,
    "store": flight_pb2.ENCODING_STORE,
    "refs": flight_pb2.ENCODING_REFS,
}


class Routes:
    """The ways by which the levels of one server are read. Thread-safe.

    Attributes
    ----------
    flight : FlightSession
        Streams.
    near : NearLevels
        Descriptors of stored objects.
    is_bucket_reached : bool
        Whether addresses of stored objects have not failed yet.
    """

    def __init__(self, flight: FlightSession) -> None:
        self.flight = flight
        self.near = NearLevels(flight)
        self.is_bucket_reached = True
        self._http: HttpPool | None = None

    @property
    def http(self) -> HttpPool:
        """Connections to buckets."""
        from larvik_client.presigned import HttpPool

        if self._http is None:
            self._http = HttpPool()
            self.flight.closing.append(self._http.close)
        return self._http


class RemoteReader:
    """One level of one stored array of a server, read by region. Thread-safe.

    Parameters
    ----------
    routes : Routes
        To the server.
    source : Source
        The level.
    encoding : str
        How pixels travel; one of `larvik.array.options.ENCODINGS`.
    """

    def __init__(self, routes: Routes, source: Source, encoding: str = "auto") -> None:
        self._routes = routes
        self._flight = routes.flight
        self._source = source
        self._encoding = encoding
        self._metadata: ArrayMetadata | None = None
        self._decodes = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dim."""
        return self._source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements."""
        return self._source.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Elements of the unit of decoding."""
        return self._source.chunks

    @property
    def metadata(self) -> ArrayMetadata:
        """Of the level as stored; asks the server once."""
        if self._metadata is None:
            command = command_of(self._source, [flight_pb2.ENCODING_CHUNKS])
            self._described(retried(lambda: self._flight.offer(command)))
        assert self._metadata is not None
        return self._metadata

    def read(self, selection: Box, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the region, in `out` when given; one slice with a positive step per dim.

        Raises
        ------
        SelectionError
            ``SELECTION_OUT_OF_BOUNDS``.
        InvalidArgumentError
            ``ENCODING_UNSUPPORTED``, when the encoding that `set_options` names cannot be had.
        """
        bounds = check_selection(selection, self._source.shape)
        shape = tuple(len(picks) for picks in bounds)
        result = np.empty(shape, self._source.dtype) if out is None else out
        if result.size:
            region = tuple(slice(picks.start, picks.stop, picks.step) for picks in bounds)
            retried(
                lambda: self._read(region, result),
                attempts=READ_ATTEMPTS,
                patience_s=self._flight.timeout_s,
            )
        return result

    def stored_chunk(self, index: tuple[int, ...]) -> bytes | None:
        """Return the stored bytes of one inner chunk, or None when it is not stored."""
        box = tuple(
            slice(number * chunk, min((number + 1) * chunk, size), 1)
            for number, chunk, size in zip(index, self.metadata.chunks, self.shape, strict=True)
        )
        check_selection(box, self.shape)

        def once() -> bytes | None:
            near = self._routes.near.reader(self._source, box) if self._encoding == "auto" else None
            if near is not None:
                return near.stored_chunk(index)
            offer = self._flight.offer(command_of(self._expression(box), [flight_pb2.ENCODING_CHUNKS]))
            found = dict(
                item for batch in self._flight.redeem(offer) for item in decode_chunks(batch, len(self.shape))
            )
            data = found.get(tuple(index))
            return bytes(data) if data is not None else None

        return retried(once, attempts=READ_ATTEMPTS, patience_s=self._flight.timeout_s)

    def _read(self, region: Box, out: NDArray[Any]) -> None:
        if self._encoding in ("auto", "store") and self._routes.near.read(self._source, region, out):
            return
        if self._encoding == "store":
            raise self._routes.near.refusal(self._source)
        if self._encoding in ("auto", "tiles") and self._read_tile(region, out):
            return
        if self._encoding == "tiles":
            raise InvalidArgumentError(
                "The read is none for the tile channel: it is too large, has steps, or the server has none.",
                reason="ENCODING_UNSUPPORTED",
                field="encoding",
            )
        self._stream(region, out)

    def _read_tile(self, region: Box, out: NDArray[Any]) -> bool:
        small = self._flight.small
        if small is None or any(part.step != 1 for part in region):
            return False
        return small.read(self._source, region, out) is not None

    def _stream(self, region: Box, out: NDArray[Any]) -> None:
        """Read as the server plans."""
        command = command_of(self._expression(region), self._accepted())
        offer = self._flight.offer(command)
        encoding = offer.plan.encoding
        if encoding == flight_pb2.ENCODING_DENSE:
            receive_dense(self._flight.redeem(offer), out)
            return
        try:
            metadata = self._described(offer)
        except InvalidArgumentError as error:
            if error.reason != "ENCODING_UNSUPPORTED" or self._encoding != "auto":
                raise
            self._decodes = False
            self._stream(region, out)
            return
        if encoding == flight_pb2.ENCODING_CHUNKS:
            receive_chunks(self._flight.redeem(offer), metadata, region, out, name_of(self._source))
        else:
            self._read_bucket(command, offer, region, out)

    def _read_bucket(
        self, command: flight_pb2.FlightCommand, offer: Offer, region: Box, out: NDArray[Any]
    ) -> None:
        from larvik_client.far import read_far

        try:
            read_far(self._routes, command, offer, self._described(offer), name_of(self._source), region, out)
        except UnavailableError as error:
            if error.reason != "STORE_UNREACHABLE" or self._encoding == "refs":
                raise
            self._routes.is_bucket_reached = False  # from here; the server reaches it
            self._stream(region, out)

    def _expression(self, region: Box) -> Expression:
        picks = tuple(range(part.start, part.stop, part.step) for part in region)
        is_whole = all(part == range(size) for part, size in zip(picks, self._source.shape, strict=True))
        return self._source if is_whole else record("select", [self._source], {"selection": picks})

    def _accepted(self) -> list[flight_pb2.Encoding.ValueType]:
        if self._encoding in NAMED:
            return [NAMED[self._encoding]]
        if not self._decodes:
            return [flight_pb2.ENCODING_DENSE]
        accepted = [flight_pb2.ENCODING_CHUNKS, flight_pb2.ENCODING_DENSE]
        return [flight_pb2.ENCODING_REFS, *accepted] if self._routes.is_bucket_reached else accepted

    def _described(self, offer: Offer) -> ArrayMetadata:
        if self._metadata is None:
            self._metadata = level_metadata(offer.plan.document, name_of(self._source))
        return self._metadata
