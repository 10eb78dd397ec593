"""The exceptions that Larvik raises, the same classes embedded and through the network.

Every error carries a sentence for people, a ``reason`` for programs and ``metadata`` that names
what was wrong (a field, an id, a bound). ``larvik.wire.status`` maps classes to gRPC and Flight.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LarvikError(Exception):
    """Base of every error that Larvik raises on purpose.

    Parameters
    ----------
    message : str
        One sentence for people: what is wrong, and what to do about it.
    reason : str
        Name of an ``ErrorReason`` of ``reason.proto``, for programs.
    **metadata : object
        What the error is about, rendered as text: ``field="shape"``, ``array_id=...``.
    """

    default_reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = {key: str(value) for key, value in metadata.items()}

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.reason, self.metadata)


def _rebuild(kind: type[LarvikError], message: str, reason: str, metadata: dict[str, str]) -> LarvikError:
    return kind(message, reason=reason, **metadata)


class InvalidArgumentError(LarvikError, ValueError):
    """A value that can never be right, whatever the state of the system."""

    default_reason = "ARGUMENT_INVALID"


class SelectionError(InvalidArgumentError, IndexError):
    """A selection that lies outside the array, or names what the array has not."""

    default_reason = "SELECTION_OUT_OF_BOUNDS"


class MetadataError(InvalidArgumentError):
    """biometa that can no longer be matched with the pixels; names the operation that lost it."""

    default_reason = "METADATA_UNALIGNED"


class NotFoundError(LarvikError, LookupError):
    """Something that does not exist, or that the subject may not know of."""

    default_reason = "OBJECT_NOT_FOUND"


class AlreadyExistsError(LarvikError):
    """Another object has this id or unique name, with other content."""

    default_reason = "OBJECT_EXISTS"


class PreconditionError(LarvikError):
    """The system's state forbids the call until something else is done first."""

    default_reason = "PRECONDITION_FAILED"


class ConflictError(LarvikError):
    """Somebody else changed the object since it was read; read it again and retry."""

    default_reason = "REVISION_STALE"


class UnauthenticatedError(LarvikError):
    """No token, or one that is unknown, expired or revoked."""

    default_reason = "TOKEN_INVALID"


class PermissionDeniedError(LarvikError, PermissionError):
    """A known subject without the scope for this call."""

    default_reason = "SCOPE_MISSING"


class ResourceExhaustedError(LarvikError):
    """A limit was met: memory, streams, message size, disk."""

    default_reason = "LIMIT_EXCEEDED"


class DeadlineError(LarvikError, TimeoutError):
    """The call took longer than its deadline."""

    default_reason = "CALL_TIMED_OUT"


class CallCancelledError(LarvikError):
    """The caller cancelled the call."""

    default_reason = "CALL_CANCELLED"


class UnavailableError(LarvikError, ConnectionError):
    """A server or store that cannot be reached now; the call may be retried."""

    default_reason = "SERVER_UNREACHABLE"


class UnsupportedError(LarvikError, NotImplementedError):
    """Something that Larvik does not do, or not without an optional package."""

    default_reason = "OPERATION_UNSUPPORTED"


class DataLossError(LarvikError):
    """Stored bytes that are missing or cannot be decoded; names array and chunk."""

    default_reason = "CHUNK_CORRUPT"


class InternalError(LarvikError):
    """A defect of Larvik; the server's log has the details under the request id."""


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Return ``Did you mean 'x'? There are: ...`` for a name that is not among `choices`."""
    known = sorted(choices)
    folded = {choice.casefold(): choice for choice in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    hint = f"Did you mean {folded[near[0]]!r}? " if near else ""
    return f"{hint}There are: {', '.join(known)}." if known else f"{hint}There are none."
