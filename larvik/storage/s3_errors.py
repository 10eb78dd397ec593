"""What goes wrong with S3: the errors of s3fs, botocore and aiohttp as ours, and which of them pass."""

from __future__ import annotations

from larvik.errors import (
    LarvikError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)

#: What a range that begins beyond the end of an object is answered with.
BEYOND_END = {"InvalidRange", "416"}

_FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507"}
_NO_BUCKET = {"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "301"}
_BUSY = {"SlowDown", "RequestTimeout", "XAmzContentSHA256Mismatch"}
_DENIED = {"AuthorizationHeaderMalformed", "InvalidToken", "ExpiredToken", "RequestTimeTooSkewed"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError"}


def typed(error: BaseException, key: str) -> LarvikError:
    """Return our error for one of s3fs, botocore or aiohttp; ``code`` in its metadata."""
    cause = error if hasattr(error, "response") else error.__cause__
    response = getattr(cause, "response", None) or {}
    response = response if isinstance(response, dict) else {}
    code = str(response.get("Error", {}).get("Code", ""))
    status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    if code in _NO_BUCKET:
        return unreachable(f"The bucket answers {code}", code=code, status=status or "301")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"The store has no object {key!r}.", reason="OBJECT_MISSING", key=key)
    if isinstance(error, PermissionError) or code in _DENIED or type(error).__name__ in _NO_CREDENTIALS:
        return PermissionDeniedError(
            f"The object store refuses the credentials of this Larvik ({code or type(error).__name__}). "
            "Correct key, secret or the policy of the bucket.",
            reason="STORE_DENIED",
            key=key,
        )
    if code in _FULL:
        return ResourceExhaustedError(
            f"The object store has no room for {key!r} ({code}).", reason="STORE_FULL", key=key
        )
    what = f" for {key!r}" if key else ""
    problem = code or type(error).__name__
    return unreachable(f"The object store failed{what} ({problem})", code=code, status=status, key=key)


def is_passing(error: LarvikError) -> bool:
    """Tell whether the same request may succeed a moment later: no answer, or one that says so."""
    status = error.metadata.get("status", "")
    return isinstance(error, UnavailableError) and (
        not status.isdigit()
        or int(status) >= 500
        or status in ("408", "429")
        or error.metadata.get("code") in _BUSY
    )


def unreachable(what: str, **metadata: str) -> UnavailableError:
    """Return the error for a store that gave no answer, or no good one."""
    return UnavailableError(
        f"{what}. Check the address of the store and the network, then retry.",
        reason="STORE_UNREACHABLE",
        **metadata,
    )
