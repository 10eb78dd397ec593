"""The one table between errors, gRPC codes and Flight exceptions, and the status that carries an error.

Both transports carry one ``google.rpc.Status`` with an ``ErrorInfo`` (reason, domain ``larvik``, metadata)
in the trailer ``grpc-status-details-bin``: gRPC as trailing metadata, Flight as ``extra_info``. Clients
trust it over the code or class of the exception, because Flight knows fewer of them. Nothing else of an
error leaves the server.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from larvik import errors
from larvik.errors import LarvikError

if TYPE_CHECKING:
    from pyarrow.flight import FlightError

log = logging.getLogger(__name__)

#: Name of the trailer that carries the status.
DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "larvik"
#: Metadata key under which a status names the class of the error, where the code alone does not tell.
CLASS_KEY = "error"
#: Longest message and metadata value, in UTF-8 bytes: trailers of more than 8 KiB are refused by many
#: clients.
MAX_MESSAGE = 1800
MAX_METADATA_VALUE = 200
MAX_METADATA = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """How a class of errors travels: its canonical code, and the name of the exception of pyarrow.flight."""

    error: type[LarvikError]
    code: int
    flight: str


#: More specific classes come before their bases.
TABLE = (
    Entry(errors.SelectionError, code_pb2.OUT_OF_RANGE, "FlightServerError"),
    Entry(errors.InvalidArgumentError, code_pb2.INVALID_ARGUMENT, "FlightServerError"),
    Entry(errors.NotFoundError, code_pb2.NOT_FOUND, "FlightServerError"),
    Entry(errors.AlreadyExistsError, code_pb2.ALREADY_EXISTS, "FlightServerError"),
    Entry(errors.PreconditionError, code_pb2.FAILED_PRECONDITION, "FlightServerError"),
    Entry(errors.ConflictError, code_pb2.ABORTED, "FlightServerError"),
    Entry(errors.UnauthenticatedError, code_pb2.UNAUTHENTICATED, "FlightUnauthenticatedError"),
    Entry(errors.PermissionDeniedError, code_pb2.PERMISSION_DENIED, "FlightUnauthorizedError"),
    Entry(errors.ResourceExhaustedError, code_pb2.RESOURCE_EXHAUSTED, "FlightServerError"),
    Entry(errors.DeadlineError, code_pb2.DEADLINE_EXCEEDED, "FlightTimedOutError"),
    Entry(errors.CallCancelledError, code_pb2.CANCELLED, "FlightCancelledError"),
    Entry(errors.UnavailableError, code_pb2.UNAVAILABLE, "FlightUnavailableError"),
    Entry(errors.UnsupportedError, code_pb2.UNIMPLEMENTED, "FlightServerError"),
    Entry(errors.DataLossError, code_pb2.DATA_LOSS, "FlightInternalError"),
    Entry(errors.InternalError, code_pb2.INTERNAL, "FlightInternalError"),
)
_BY_CODE = {entry.code: entry for entry in TABLE}
_NAMED = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, LarvikError)
}
#: What a client raises for a code that came without a status of ours.
_BARE = {
    code_pb2.RESOURCE_EXHAUSTED: "MESSAGE_TOO_LARGE",
    code_pb2.UNIMPLEMENTED: "METHOD_UNKNOWN",
    code_pb2.UNKNOWN: "INTERNAL",
}


def entry_of(error: LarvikError) -> Entry:
    """Return how `error` travels."""
    return next((entry for entry in TABLE if isinstance(error, entry.error)), _BY_CODE[code_pb2.INTERNAL])


def presentable(error: BaseException, request_id: str) -> LarvikError:
    """Return what may be shown of `error`: itself when it is ours, else a fixed message.

    Notes
    -----
    Anything else is a defect: it is logged with its traceback, under the request id that the message names.
    """
    if isinstance(error, LarvikError):
        return error
    if isinstance(error, MemoryError):
        log.error("call.out_of_memory", exc_info=error, extra={"request_id": request_id})
        return errors.ResourceExhaustedError(
            "The server has too little memory for this call now. Ask for less at once, or try again later.",
            reason="MEMORY_EXHAUSTED",
        )
    log.error("call.failed", exc_info=error, extra={"request_id": request_id})
    return errors.InternalError(
        "Larvik failed in a way that it should not. The server's log has the details under request"
        f" {request_id}.",
        reason="INTERNAL",
        request_id=request_id,
    )


def encode_status(error: LarvikError) -> status_pb2.Status:
    """Return the status that carries `error`; message and metadata are cut to what a trailer holds."""
    entry = entry_of(error)
    metadata = {
        key[:64]: _cut(value, MAX_METADATA_VALUE)
        for key, value in list(error.metadata.items())[:MAX_METADATA]
    }
    name = type(error).__name__
    named = next((kind for kind in type(error).__mro__ if kind.__name__ in _NAMED), entry.error).__name__
    if named != entry.error.__name__ or name == "LarvikError":
        metadata[CLASS_KEY] = named
    status = status_pb2.Status(code=entry.code, message=_cut(error.message, MAX_MESSAGE))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    status.details.add().Pack(info)
    if "retry_after_s" in error.metadata:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(float(error.metadata["retry_after_s"]) * 1000))
        status.details.add().Pack(retry)
    return status


def decode_status(status: status_pb2.Status) -> LarvikError:
    """Return the error that a status carries, of the class that the server raised."""
    entry = _BY_CODE.get(status.code, _BY_CODE[code_pb2.INTERNAL])
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            break
    metadata = dict(info.metadata)
    kind = _NAMED.get(metadata.pop(CLASS_KEY, ""), entry.error)
    kind = kind if issubclass(kind, entry.error) or entry.error is errors.InternalError else entry.error
    error = kind(status.message, reason=info.reason or _BARE.get(status.code))
    error.metadata.update(metadata)
    return error


def decode_details(details: bytes) -> LarvikError | None:
    """Return the error that the bytes of a trailer carry, or None when they are none of ours."""
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        return None
    ours = any(detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR) for detail in status.details)
    return decode_status(status) if ours else None


def error_of_code(code: int, message: str) -> LarvikError:
    """Return the error of a canonical code that came without a status: from a library or a proxy."""
    entry = _BY_CODE.get(code, _BY_CODE[code_pb2.INTERNAL])
    return entry.error(message, reason=_BARE.get(code))


def encode_flight(error: LarvikError, *, streaming: bool = False) -> FlightError:
    """Return the exception that a Flight handler raises for `error`.

    Parameters
    ----------
    streaming : bool
        Whether the stream has begun. pyarrow's client turns a CANCELLED in mid-stream into
        KeyboardInterrupt, so there it travels under another code.
    """
    import pyarrow.flight

    entry = entry_of(error)
    name = "FlightServerError" if streaming and entry.code == code_pb2.CANCELLED else entry.flight
    status = encode_status(error)
    found: FlightError = getattr(pyarrow.flight, name)(status.message, status.SerializeToString())
    return found


def decode_flight(error: Exception) -> LarvikError:
    """Return the error behind an exception of pyarrow's Flight client."""
    ours = decode_details(getattr(error, "extra_info", None) or b"")
    if ours is not None:
        return ours
    code = next(
        (_FLIGHT_CODES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _FLIGHT_CODES), None
    )
    message = str(error).partition(". Detail: ")[0].partition(" gRPC client debug context")[0]
    return error_of_code(code_pb2.INTERNAL if code is None else code, message)


_FLIGHT_CODES = {
    "FlightUnauthenticatedError": code_pb2.UNAUTHENTICATED,
    "FlightUnauthorizedError": code_pb2.PERMISSION_DENIED,
    "FlightTimedOutError": code_pb2.DEADLINE_EXCEEDED,
    "FlightCancelledError": code_pb2.CANCELLED,
    "ArrowCancelled": code_pb2.CANCELLED,
    "FlightUnavailableError": code_pb2.UNAVAILABLE,
    "ArrowNotImplementedError": code_pb2.UNIMPLEMENTED,
    "ArrowKeyError": code_pb2.NOT_FOUND,
    "ArrowInvalid": code_pb2.INVALID_ARGUMENT,
}


def _cut(text: str, limit: int) -> str:
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "..."
