"""Where array bytes live: the Store protocol, and the choice of its adapter by URL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote

from larvik.errors import InvalidArgumentError, NotFoundError

#: Longest key that a store takes, in UTF-8 bytes (the limit of S3).
MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes of one object. A negative `start` counts from its end; `length` None means the rest."""

    key: str
    start: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows of one object.

    Attributes
    ----------
    size : int
        Bytes.
    modified : float
        Time of the last write, in POSIX seconds by the store's clock.
    tag : str
        Changes when the object is replaced: the ETag, or size, inode and time of a file.
    """

    size: int
    modified: float
    tag: str


@runtime_checkable
class Store(Protocol):
    """Objects by key below one root: a folder or a prefix of a bucket.

    Keys are relative, joined by ``/``, without ``.`` or ``..``. Thread-safe; safe after ``fork``;
    pickled as URL and options. Every method raises typed errors alone, whose messages name keys and
    never paths of the host: `UnavailableError` ``STORE_UNREACHABLE``, `PermissionDeniedError`
    ``STORE_DENIED``, `ResourceExhaustedError` ``STORE_FULL``, `InvalidArgumentError` ``KEY_INVALID``.
    """

    @property
    def url(self) -> str:
        """Address of the root, without credentials."""

    @property
    def batch_bytes(self) -> int:
        """Stored bytes that one `read_many` should ask for at most, to overlap with decoding."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; short at its end. `NotFoundError` ``OBJECT_MISSING`` without it."""

    def read_many(self, requests: Sequence[ByteRange]) -> list[bytes | None]:
        """Return the bytes of each request, None where there is no object; concurrent where it pays."""

    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Create or replace an object: readers see the old bytes or the new, and a crash loses neither."""

    def stat(self, key: str) -> ObjectInfo | None:
        """Return size, time and tag of an object, or None without it."""

    def size(self, key: str) -> int | None:
        """Return the bytes of an object, or None without it."""

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and size of every object below the folder `prefix`, in no order; none without it."""

    def children(self, prefix: str = "") -> Sequence[str]:
        """Return the names directly below the folder `prefix`, sorted; empty without it."""

    def delete(self, key: str) -> None:
        """Delete one object; nothing happens without it."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete everything below the folder `prefix` and return the bytes freed."""


class SingleReads:
    """What a store says of one object at a time, for stores that have `read_many` and `stat`."""

    def read(self: Store, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see `Store.read`."""
        data = self.read_many([ByteRange(key, start, length)])[0]
        if data is None:
            raise NotFoundError(f"The store has no object {key!r}.", reason="OBJECT_MISSING", key=key)
        return data

    def size(self: Store, key: str) -> int | None:
        """Return the bytes of an object, or None without it."""
        info = self.stat(key)
        return info.size if info else None


def open_store(url: str, **options: Any) -> Store:
    """Return the store at `url`: a folder (path or ``file://``) or ``s3://bucket/prefix``.

    Parameters
    ----------
    url : str
        A folder is made when it is missing and ``create=True`` is given.
    **options
        For S3: ``key``, ``secret``, ``token``, ``endpoint_url``, ``region``, ``anon``, ``timeout_s``.

    Raises
    ------
    InvalidArgumentError
        ``STORE_INVALID``, for another scheme or an unknown option.
    UnavailableError
        ``STORE_UNREACHABLE``, when the folder is missing. S3 is not contacted before it is used.
    """
    scheme, separator, rest = url.partition("://")
    try:
        if scheme == "s3" and separator:
            from larvik.storage.s3 import S3Store

            return S3Store(url, **options)
        from larvik.storage.local import LocalStore

        if not separator or scheme == "file":
            return LocalStore(unquote(rest) if separator else url, **options)
    except TypeError as error:
        raise InvalidArgumentError(
            f"The store {url!r} does not take these options: {', '.join(options)}.",
            reason="STORE_INVALID",
            field="options",
        ) from error
    raise InvalidArgumentError(
        f"Larvik stores arrays in a folder or at s3://bucket/prefix, not at {scheme}://.",
        reason="STORE_INVALID",
        field="url",
    )


def check_key(key: str, *, field: str = "key") -> str:
    """Return `key` when it stays below a root: relative, no empty, ``.`` or ``..`` part, no NUL.

    Raises
    ------
    InvalidArgumentError
        ``KEY_INVALID``; names `field`.
    """
    parts = key.split("/")
    try:
        too_long = len(key.encode()) > MAX_KEY_BYTES
    except UnicodeEncodeError:
        too_long = True
    if too_long or any(part in ("", ".", "..") for part in parts) or any(ch in key for ch in "\0\\\n\r"):
        shown = repr(key if len(key) <= 60 else key[:57] + "...")
        raise InvalidArgumentError(
            f"{field} is {shown}, which is not a relative path below the store.",
            reason="KEY_INVALID",
            field=field,
        )
    return key


def join(*parts: str) -> str:
    """Return the key made of `parts`, leaving out empty ones."""
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
