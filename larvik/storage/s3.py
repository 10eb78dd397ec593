"""A store in a bucket of S3 or of a compatible server, through s3fs."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from larvik.errors import (
    InvalidArgumentError,
    LarvikError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from larvik.storage.base import ByteRange, ObjectInfo, SingleReads, check_key, join
from larvik.storage.ranges import coalesce
from larvik.storage.s3_errors import BEYOND_END, is_passing, typed, unreachable

Result = TypeVar("Result")

#: Attempts per request, the first included, and the wait after the first, which doubles, in seconds.
ATTEMPTS = 4
PAUSE_S = 0.1
#: Requests under way at once; aiohttp's own ten would make large reads wait for each other.
CONNECTIONS = 64


class S3Store(SingleReads):
    """Objects below ``s3://bucket/prefix``. Satisfies `Store`.

    Parameters
    ----------
    url : str
        Bucket and optional prefix; the bucket must exist.
    key, secret, token : str, optional
        Credentials; without them those of the environment (`botocore`'s chain).
    endpoint_url : str, optional
        Address of an S3-compatible server.
    region : str, optional
        Region of the bucket.
    anon : bool
        Read a public bucket without credentials.
    timeout_s : float
        Longest wait for a connection or for the next bytes of an answer.

    Notes
    -----
    A PUT is atomic. One s3fs instance per process: a forked child makes its own. Requests that fail for
    a moment (no answer, one that is cut, or a status of 500 and above) are made again, with growing pauses,
    up to `ATTEMPTS` times: once in any case, then while no more than `timeout_s` went by. Then
    `UnavailableError` is raised.
    """

    #: One GET: several are under way while their predecessors are decoded.
    batch_bytes = 8 << 20

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        secret: str | None = None,
        token: str | None = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        anon: bool = False,
        timeout_s: float = 20.0,
    ) -> None:
        bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
        if not bucket or not url.startswith("s3://"):
            raise InvalidArgumentError(
                f"{url!r} names no bucket; write s3://bucket/prefix.", reason="STORE_INVALID", field="url"
            )
        self.bucket = bucket
        self.prefix = check_key(prefix, field="url") if prefix else ""
        self._options: dict[str, Any] = {
            "key": key,
            "secret": secret,
            "token": token,
            "endpoint_url": endpoint_url,
            "region": region,
            "anon": anon,
            "timeout_s": timeout_s,
        }
        self._lock = threading.Lock()
        self._filesystem: Any = None
        _stores.add(self)

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.url, self._options)

    @property
    def url(self) -> str:
        """Bucket and prefix, without credentials."""
        return "s3://" + join(self.bucket, self.prefix)

    def read_many(self, requests: Sequence[ByteRange]) -> list[bytes | None]:
        """Return the bytes of each request: neighbours in one GET, all GETs concurrently."""
        merged, places = coalesce(requests)
        found = self._get(merged)
        results: list[bytes | None] = []
        for place in places:
            data = found[place.answer]
            whole = place.length is None or data is None or (place.offset == 0 and place.length >= len(data))
            results.append(data if whole else data[place.offset : place.offset + place.length])  # type: ignore[index,operator]
        return results

    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Create or replace an object by one PUT."""
        path = self._path(key)
        self._call(key, lambda fs: fs.pipe_file(path, bytes(data)))

    def stat(self, key: str) -> ObjectInfo | None:
        """Return size, time and ETag of an object, or None without it."""
        path = self._path(key)
        try:
            head = self._call(key, lambda fs: fs.call_s3("head_object", **_address(fs, path)))
        except NotFoundError:
            return None
        return ObjectInfo(head["ContentLength"], head["LastModified"].timestamp(), head["ETag"].strip('"'))

    @property
    def can_presign(self) -> bool:
        """Whether addresses can be signed: a store without credentials has nothing to sign with."""
        return not self._options["anon"]

    def presign(self, key: str, seconds: int) -> str:
        """Return an address by which anybody may GET an object, for so many seconds, present or not."""
        path = self._path(key)
        return str(self._call(key, lambda fs: fs.url(path, expires=seconds)))

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and size of every object below `prefix`, a page of 1000 at a time."""
        for page in self._pages(prefix):
            for item in page.get("Contents", ()):
                yield self._key(item["Key"]), item["Size"]

    def children(self, prefix: str = "") -> Sequence[str]:
        """Return the names directly below `prefix`, sorted."""
        names: set[str] = set()
        for page in self._pages(prefix, Delimiter="/"):
            keys = [item["Key"] for item in page.get("Contents", ())]
            keys += [item["Prefix"] for item in page.get("CommonPrefixes", ())]
            names.update(key.rstrip("/").rpartition("/")[2] for key in keys)
        return sorted(names)

    def delete(self, key: str) -> None:
        """Delete one object; nothing happens without it."""
        path = self._path(key)
        self._call(key, lambda fs: fs.call_s3("delete_object", **_address(fs, path)))

    def delete_prefix(self, prefix: str) -> int:
        """Delete every object below `prefix`, 1000 a call, and return the bytes freed."""
        check_key(prefix.strip("/"))
        freed = 0
        for page in self._pages(prefix):
            objects = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if objects:
                self._delete_objects(prefix, objects)
            freed += sum(item["Size"] for item in page.get("Contents", ()))
        return freed

    def _delete_objects(self, prefix: str, objects: Sequence[dict[str, str]]) -> None:
        answer = self._call(
            prefix,
            lambda fs: fs.call_s3(
                "delete_objects", Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}
            ),
        )
        if answer.get("Errors"):
            raise UnavailableError(
                f"The store did not delete everything below {prefix!r}: "
                f"{answer['Errors'][0].get('Code', 'unknown')}. Retry.",
                reason="STORE_UNREACHABLE",
            )

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        folder = join(self.prefix, check_key(prefix.strip("/")) if prefix.strip("/") else "")
        arguments = {"Bucket": self.bucket, "Prefix": f"{folder}/" if folder else "", **options}
        while True:
            page = self._call(prefix, lambda fs: fs.call_s3("list_objects_v2", **arguments))
            yield page
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def _path(self, key: str) -> str:
        return join(self.bucket, self.prefix, check_key(key))

    def _key(self, full: str) -> str:
        return full[len(self.prefix) + 1 :] if self.prefix else full

    def _get(self, ranges: Sequence[ByteRange]) -> Sequence[bytes | None]:
        """Return the bytes of each range by a GET of its own; ask again for those that pass."""
        found: list[bytes | None] = [None] * len(ranges)
        waiting = list(range(len(ranges)))
        for attempt in self._attempts():
            answers = self._get_once([ranges[number] for number in waiting])
            failed, missing = [], False
            for number, answer in zip(waiting, answers, strict=True):
                error = None if isinstance(answer, bytes) else typed(answer, ranges[number].key)
                if error is None or error.metadata.get("code") in BEYOND_END:
                    found[number] = answer if error is None else b""
                elif isinstance(error, NotFoundError):
                    missing = True
                elif attempt.is_last or not is_passing(error):
                    raise error from answer
                else:
                    failed.append(number)
            if missing:
                self._check_bucket()
            if not failed:
                break
            waiting = failed
        return found

    def _get_once(self, ranges: Sequence[ByteRange]) -> Sequence[Any]:
        """Return bytes or exception of each range."""
        paths = [self._path(part.key) for part in ranges]
        starts = [part.start for part in ranges]
        ends = [None if part.length is None else part.start + max(1, part.length) for part in ranges]
        try:
            answers: Sequence[Any] = self._raw(
                lambda fs: fs.cat_ranges(paths, starts, ends, on_error="return")
            )
        except LarvikError:
            raise
        except Exception as error:
            answers = [error] * len(ranges)
        return answers

    def _attempts(self) -> Iterator[_Attempt]:
        """Yield attempts, with a pause before each but the first."""
        began = time.monotonic()
        for number in range(ATTEMPTS):
            if number:
                # Of different lengths, or clients that failed together would come back together.
                time.sleep(PAUSE_S * 2 ** (number - 1) * random.uniform(0.5, 1.5))
            is_late = time.monotonic() - began > self._options["timeout_s"]
            last = number == ATTEMPTS - 1 or (number > 0 and is_late)
            yield _Attempt(last)
            if last:
                return

    def _check_bucket(self) -> None:
        """Tell a missing object from a missing bucket: some servers call both ``NoSuchKey``."""
        try:
            self._raw(lambda fs: fs.call_s3("head_bucket", Bucket=self.bucket))
        except PermissionError:
            return  # the credentials may read objects, but not ask for the bucket
        except Exception as error:
            raise unreachable(f"The bucket {self.bucket!r} is missing or unreachable") from error

    def _call(self, key: str, request: Callable[[Any], Result]) -> Result:
        for attempt in self._attempts():
            try:
                return self._raw(request)
            except LarvikError:
                raise
            except Exception as error:
                ours = typed(error, key)
                if isinstance(ours, NotFoundError):
                    self._check_bucket()
                if attempt.is_last or not is_passing(ours):
                    raise ours from error
        raise AssertionError("the last attempt returns or raises")

    def _raw(self, request: Callable[[Any], Result]) -> Result:
        with self._lock:
            if self._filesystem is None:
                self._filesystem = self._open()
            filesystem = self._filesystem
        return request(filesystem)

    def _open(self) -> Any:
        try:
            from s3fs import S3FileSystem
        except ImportError as error:
            raise UnsupportedError(
                "Arrays in S3 need s3fs: pip install 'larvik[s3]'.", reason="PACKAGE_MISSING"
            ) from error

        options = self._options
        filesystem = S3FileSystem(
            anon=options["anon"],
            key=options["key"],
            secret=options["secret"],
            token=options["token"],
            endpoint_url=options["endpoint_url"],
            client_kwargs={"region_name": options["region"]} if options["region"] else {},
            config_kwargs={
                "connect_timeout": options["timeout_s"],
                "read_timeout": options["timeout_s"],
                "retries": {"max_attempts": 0},
                "max_pool_connections": CONNECTIONS,
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        filesystem.retries = 1  # it knows few of the errors that pass
        filesystem.close_session = partial(_close_session, os.getpid(), filesystem.close_session)
        return filesystem


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt of a request, and whether its error is final."""

    is_last: bool


def _close_session(pid: int, close: Callable[[Any, Any], None], loop: Any, session: Any) -> None:
    """Close a session when its filesystem goes, in the process that opened it."""
    if os.getpid() == pid:
        close(loop, session)


def _after_fork() -> None:
    """Let a forked child make its own connections, and leave those of its parent alone.

    Closing them here, even by the garbage collector, would take them out of the epoll set that the child
    shares with its parent, which would then wait for answers until it times out.
    """
    for store in tuple(_stores):
        _abandoned.append(store._filesystem)
        store._filesystem, store._lock = None, threading.Lock()


_stores: WeakSet[S3Store] = WeakSet()
_abandoned: list[Any] = []
os.register_at_fork(after_in_child=_after_fork)


def _reopen(url: str, options: dict[str, Any]) -> S3Store:
    return S3Store(url, **options)


def _address(filesystem: Any, path: str) -> dict[str, str]:
    bucket, key, _ = filesystem.split_path(path)
    return {"Bucket": bucket, "Key": key}
