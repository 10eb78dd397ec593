"""Which encoding a read gets, and the plan that says so."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from larvik.errors import InvalidArgumentError
from larvik.proto.v1 import flight_pb2
from larvik.storage.documents import json_bytes
from larvik.storage.zarr_metadata import ArrayMetadata
from larvik_server.flight.asked import Asked
from larvik_server.flight.encodings import (
    ChunksEncoding,
    DenseEncoding,
    Encoding,
    RefsEncoding,
    StoreEncoding,
)

#: Why an encoding is used that is not worth it.
NOTHING_LESS = "The client accepts nothing that would move less."


@dataclass(frozen=True, slots=True)
class Chosen:
    """An encoding, and why."""

    encoding: Encoding
    reason: str


class Encodings:
    """The encodings of one server, the cheapest first.

    Parameters
    ----------
    socket : str
        As of `StoreEncoding`.
    presign : bool
        As of `RefsEncoding`.
    """

    def __init__(self, socket: str = "", presign: bool = False) -> None:
        everything: tuple[Encoding, ...] = (
            StoreEncoding(socket), RefsEncoding(presign), ChunksEncoding(), DenseEncoding()
        )  # fmt: skip
        self._by_number = {encoding.number: encoding for encoding in everything}

    def permitted(self, asked: Asked, number: flight_pb2.Encoding.ValueType) -> Chosen:
        """Return the encoding that a ticket names, as it was chosen when the ticket was made."""
        encoding = self._by_number[number or flight_pb2.ENCODING_DENSE]
        return Chosen(encoding, encoding.reason(asked) or NOTHING_LESS)

    def choose(self, asked: Asked, accepted: Collection[int]) -> Chosen:
        """Return the cheapest encoding of those accepted; none accepted means dense.

        Raises
        ------
        InvalidArgumentError
            ``ENCODING_UNSUPPORTED``, when none of them can be used; says why of each.
        """
        refusals: list[str] = []
        possible: Encoding | None = None
        for number, encoding in self._by_number.items():
            if number not in (accepted or (flight_pb2.ENCODING_DENSE,)):
                continue
            name = flight_pb2.Encoding.Name(number)
            if why := encoding.refusal(asked):
                refusals.append(f"{name}: {why}")
                continue
            if reason := encoding.reason(asked):
                return Chosen(encoding, reason)
            possible = possible or encoding
        if possible is not None:
            return Chosen(possible, NOTHING_LESS)
        raise InvalidArgumentError(
            "The pixels cannot travel in an encoding that accept_encodings names."
            f" {'; '.join(refusals) or 'This server knows none of them'}.",
            reason="ENCODING_UNSUPPORTED",
            field="accept_encodings",
        )

    def promise(self, asked: Asked, chosen: Chosen) -> flight_pb2.ArrayPlan:
        """Return the plan of a read."""
        figures, encoding = asked.figures, chosen.encoding
        promised = flight_pb2.ArrayPlan(
            shape=asked.expression.shape,
            dtype=asked.expression.dtype.name,
            encoding=encoding.number,
            reason=chosen.reason,
            result_bytes=figures.bytes_result,
            source_bytes=figures.bytes_source,
            chunks=figures.chunks,
            stored_bytes=asked.stored_bytes,
        )
        if encoding.number != flight_pb2.ENCODING_DENSE:
            promised.document = _document(asked.metadata)
        if isinstance(encoding, StoreEncoding):
            promised.socket = encoding.socket
        return promised


def _document(metadata: ArrayMetadata) -> str:
    """Return the metadata of a level, without attributes that tell of other things than its chunks."""
    document = {key: value for key, value in metadata.document.items() if key != "consolidated_metadata"}
    if document.get("zarr_format") == 3:
        larvik = metadata.attributes.get("larvik")
        document["attributes"] = {} if larvik is None else {"larvik": larvik}
    return json_bytes(document, "document").decode()
