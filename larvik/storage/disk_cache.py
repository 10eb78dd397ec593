"""Stored bytes of far stores on the local disk: a cache of bounded bytes that processes share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import google_crc32c

from larvik.storage.base import ByteRange, ObjectInfo, SingleReads, Store

#: Keys of chunks and shards, whose bytes never change once their array is committed.
_CHUNK_KEY = re.compile(r"(?:.*/)?(?:c\.)?\d+(?:\.\d+)*")
#: Magic, CRC-32C of the bytes, and how many they are.
_HEADER = struct.Struct("<4sIQ")
_MAGIC = b"LVK1"
_PARTIAL = ".partial"
#: A file that is being written for longer than this was left by a crash, in seconds.
_ABANDONED_S = 600.0


class CachedStore(SingleReads):
    """A store whose chunks, shards and shard indexes are kept on the local disk. Satisfies `Store`.

    Parameters
    ----------
    store : Store
        Where the objects are; documents are always read from there.
    folder : str or Path
        Of the cache; made when it is missing. Several processes may use it at once.
    most_bytes : int
        Of all files of the folder together.

    Notes
    -----
    For arrays whose bytes are immutable: what somebody else replaces in the store behind is not noticed.
    A file has exactly the range that was asked for and a checksum, and appears by a rename; one that a
    crash or the disk damaged is read again from the store. Files that were not used for longest are
    deleted, down to three quarters of `most_bytes`, before a process adds more than a sixteenth of it: up to
    four processes stay within `most_bytes`. A disk that is full or fails costs the cache, not the read.
    """

    def __init__(self, store: Store, folder: str | Path, most_bytes: int) -> None:
        self.store = store
        self.most_bytes = most_bytes
        self._folder = os.path.abspath(os.path.expanduser(folder))
        self._lock_path = os.path.join(self._folder, "lock")
        self._added = most_bytes  # what an earlier process left is counted with the first addition

    def __repr__(self) -> str:
        return f"CachedStore({self.store!r}, {self._folder!r}, {self.most_bytes})"

    def __reduce__(self) -> tuple[object, ...]:
        return CachedStore, (self.store, self._folder, self.most_bytes)

    @property
    def url(self) -> str:
        """Address of the store behind."""
        return self.store.url

    @property
    def batch_bytes(self) -> int:
        """Of the store behind."""
        return self.store.batch_bytes

    def read_many(self, requests: Sequence[ByteRange]) -> list[bytes | None]:
        """Return the bytes of each request, asking the store behind for what is not on the disk."""
        found: list[bytes | None] = [self._cached(request) for request in requests]
        missed = [number for number, data in enumerate(found) if data is None]
        answers = self.store.read_many([requests[number] for number in missed]) if missed else ()
        for number, data in zip(missed, answers, strict=True):
            found[number] = data
            if data is not None:
                self._keep(requests[number], data)
        return found

    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Write to the store behind."""
        self.store.write(key, data)
        self._forget(key)

    def stat(self, key: str) -> ObjectInfo | None:
        """Ask the store behind."""
        return self.store.stat(key)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """List the store behind."""
        return self.store.list(prefix)

    def children(self, prefix: str = "") -> Sequence[str]:
        """List the store behind."""
        return self.store.children(prefix)

    def delete(self, key: str) -> None:
        """Delete in the store behind."""
        self.store.delete(key)
        self._forget(key)

    def delete_prefix(self, prefix: str) -> int:
        """Delete in the store behind."""
        keys = [key for key, _ in self.store.list(prefix)]
        freed = self.store.delete_prefix(prefix)
        for key in keys:
            self._forget(key)
        return freed

    def _cached(self, request: ByteRange) -> bytes | None:
        if not _CHUNK_KEY.fullmatch(request.key):
            return None
        path = self._path(request)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            data = _checked(descriptor)
            with suppress(OSError):
                os.utime(descriptor)
        except OSError:
            data = None
        finally:
            os.close(descriptor)
        if data is None:
            with suppress(OSError):
                os.unlink(path)
        return data

    def _keep(self, request: ByteRange, data: bytes) -> None:
        if not _CHUNK_KEY.fullmatch(request.key) or len(data) > self.most_bytes // 16:
            return
        if request.start < 0 and len(data) < -request.start:
            return  # a shard that is cut may be whole the next time
        with suppress(OSError):
            if self._added + len(data) > self.most_bytes // 16 and not self._trim():
                return
            self._write(self._path(request), data)
            self._added += len(data) + _HEADER.size

    def _write(self, path: str, data: bytes) -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        partial = f"{path}.{secrets.token_hex(6)}{_PARTIAL}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                file.write(_HEADER.pack(_MAGIC, google_crc32c.value(data), len(data)))
                if file.write(data) != len(data):
                    raise OSError("the disk is full")
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)
            raise

    def _trim(self) -> bool:
        """Delete the files that were not used for longest; return False while another process does."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with open(self._lock_path, "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            self._added = 0
            files = sorted(self._files())
            total = sum(size for _, size, _ in files)
            abandoned = time.time() - _ABANDONED_S
            for used, size, path in files:
                is_abandoned = path.endswith(_PARTIAL) and used < abandoned
                if total > self.most_bytes * 3 // 4 or is_abandoned:
                    with suppress(OSError):
                        os.unlink(path)
                    total -= size
        return True

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Yield time of last use, size and path of every file; drop folders that are empty."""
        for folder, folders, names in os.walk(self._folder):
            if not names and not folders and folder != self._folder:
                with suppress(OSError):
                    os.rmdir(folder)
            for name in names:
                path = os.path.join(folder, name)
                if path == self._lock_path:
                    continue
                with suppress(OSError):
                    info = os.lstat(path)
                    yield info.st_mtime, info.st_size, path

    def _forget(self, key: str) -> None:
        shutil.rmtree(self._object_folder(key), ignore_errors=True)

    def _path(self, request: ByteRange) -> str:
        length = "" if request.length is None else request.length
        return os.path.join(self._object_folder(request.key), f"{request.start}_{length}")

    def _object_folder(self, key: str) -> str:
        name = hashlib.blake2b(f"{self.store.url}\0{key}".encode(), digest_size=20).hexdigest()
        return os.path.join(self._folder, name[:2], name[2:])


def _checked(descriptor: int) -> bytes | None:
    """Return the bytes of a file of the cache, or None when they are not what was written."""
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size:
        return None
    magic, checksum, length = _HEADER.unpack(header)
    if magic != _MAGIC or length != os.fstat(descriptor).st_size - _HEADER.size:
        return None
    data = os.pread(descriptor, length, _HEADER.size)
    return data if len(data) == length and google_crc32c.value(data) == checksum else None
