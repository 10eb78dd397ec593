"""A store in a folder: atomic durable writes, and no way out of the folder by ``..`` or symlinks."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat as modes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

from larvik.errors import (
    InvalidArgumentError,
    LarvikError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from larvik.storage.base import ByteRange, ObjectInfo, SingleReads, check_key

#: Ending of files that are being written; a crash leaves them, ``larvik doctor`` removes them.
PARTIAL = ".partial"

_MISSING = (errno.ENOENT, errno.ENOTDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_OPEN_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO in the folder must not block us


class LocalStore(SingleReads):
    """Objects as files below a folder. Satisfies `Store`.

    Parameters
    ----------
    root : str or Path
        The folder.
    create : bool
        Make the folder when it is missing.

    Notes
    -----
    A write goes to a temporary file in the same folder, which is fsynced and renamed; then the folder is
    fsynced. Reads look at where the opened file really is, so a symlink that leads out of the root is
    refused without a race between looking and opening.
    """

    batch_bytes = 4 << 20

    def __init__(self, root: str | Path, *, create: bool = False) -> None:
        path = os.path.abspath(os.path.expanduser(root))
        if create:
            with _typed_errors(""):
                os.makedirs(path, exist_ok=True)
        self.root = os.path.realpath(path)
        self._check_root()

    def __repr__(self) -> str:
        return f"LocalStore({self.root!r})"

    @property
    def url(self) -> str:
        """The folder as a ``file://`` URL."""
        return Path(self.root).as_uri()

    def read_many(self, requests: Sequence[ByteRange]) -> list[bytes | None]:
        """Return the bytes of each request, opening a file once for its consecutive requests."""
        results: list[bytes | None] = []
        for key, group in groupby(requests, key=lambda request: request.key):
            results += self._read_ranges(key, tuple(group))
        return results

    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Create or replace a file, whole and durable when this returns."""
        target = self._path(key)
        folder, name = os.path.split(target)
        with _typed_errors(key):
            self._make_folder(folder)
            temporary = os.path.join(folder, f"{name[:180]}.{secrets.token_hex(6)}{PARTIAL}")
            try:
                _write_durably(temporary, data)
                os.replace(temporary, target)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
            _fsync_folder(folder)

    def stat(self, key: str) -> ObjectInfo | None:
        """Return size, time and tag (size, time, inode) of a file, or None without it."""
        descriptor = self._open(key)
        if descriptor is None:
            return None
        try:
            info = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        tag = f"{info.st_size:x}-{info.st_mtime_ns:x}-{info.st_ino:x}"
        return ObjectInfo(info.st_size, info.st_mtime, tag)

    def open(self, key: str) -> int | None:
        """Return a descriptor of a file, open for reading alone, or None without it; the caller closes it."""
        return self._open(key)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and size of every file below `prefix`; symlinks are not followed."""
        pending = [prefix.strip("/")]
        while pending:
            folder = pending.pop()
            with _typed_errors(folder):
                for entry in self._entries(folder):
                    key = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(key)
                    elif entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):
                            yield key, entry.stat(follow_symlinks=False).st_size

    def children(self, prefix: str = "") -> Sequence[str]:
        """Return the names of files and folders directly below `prefix`, sorted."""
        with _typed_errors(prefix):
            return sorted(entry.name for entry in self._entries(prefix.strip("/")))

    def delete(self, key: str) -> None:
        """Delete one file; nothing happens without it."""
        path = self._path(key)
        with _typed_errors(key), suppress(FileNotFoundError, NotADirectoryError):
            self._check_inside(os.path.realpath(os.path.dirname(path)), key)
            os.unlink(path)

    def delete_prefix(self, prefix: str) -> int:
        """Delete the folder `prefix` and return the bytes freed; a symlink is unlinked, not followed."""
        prefix = prefix.strip("/")
        path = self._path(prefix)
        freed = 0
        with _typed_errors(prefix), suppress(FileNotFoundError, NotADirectoryError):
            self._check_inside(os.path.realpath(os.path.dirname(path)), prefix)
            if os.path.islink(path):
                os.unlink(path)
            elif os.path.isdir(path):
                freed = sum(size for _, size in self.list(prefix))
                while os.path.isdir(path):  # once more when somebody else deletes here too
                    with suppress(FileNotFoundError):
                        shutil.rmtree(path)
            _fsync_folder(os.path.dirname(path))
        return freed

    def _path(self, key: str) -> str:
        return os.path.join(self.root, check_key(key))

    def _open(self, key: str) -> int | None:
        """Return a read descriptor of the regular file `key`, or None when there is none."""
        path = self._path(key)
        try:
            with _typed_errors(key):
                descriptor = os.open(path, _OPEN_READ)
        except NotFoundError:
            self._check_root()
            return None
        try:
            if not modes.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                return None
            self._check_inside(_real_path(descriptor, path), key)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        return descriptor

    def _read_ranges(self, key: str, requests: Sequence[ByteRange]) -> Sequence[bytes | None]:
        descriptor = self._open(key)
        if descriptor is None:
            return [None] * len(requests)
        try:
            with _typed_errors(key):
                return [read_range(descriptor, request) for request in requests]
        finally:
            os.close(descriptor)

    def _entries(self, folder: str) -> Sequence[os.DirEntry[str]]:
        path = self._path(folder) if folder else self.root
        try:
            with os.scandir(path) as entries:
                found = tuple(entries)
        except (FileNotFoundError, NotADirectoryError):
            self._check_root()
            return ()
        self._check_inside(os.path.realpath(path), folder)
        return found

    def _make_folder(self, folder: str) -> None:
        """Make `folder` and its missing parents below the root, durably."""
        if not os.path.isdir(folder):
            if folder == self.root:
                self._check_root()
            self._make_folder(os.path.dirname(folder))
            with suppress(FileExistsError):
                os.mkdir(folder)
            _fsync_folder(os.path.dirname(folder))
        self._check_inside(os.path.realpath(folder), os.path.relpath(folder, self.root))

    def _check_root(self) -> None:
        if not os.path.isdir(self.root):
            raise UnavailableError(
                "The folder of the array store is missing. Mount or restore it, then retry.",
                reason="STORE_UNREACHABLE",
            )

    def _check_inside(self, path: str, key: str) -> None:
        if path != self.root and not path.startswith(self.root.rstrip("/") + "/"):
            raise InvalidArgumentError(
                f"{key!r} leads out of the store through a symbolic link, which is refused.",
                reason="KEY_INVALID",
                field="key",
                key=key,
            )


def read_range(descriptor: int, request: ByteRange) -> bytes:
    """Return the bytes of a request from an open file, short at its end; its key does not matter."""
    start, length = request.start, request.length
    if start < 0 or length is None:
        size = os.fstat(descriptor).st_size
        start = max(0, size + start) if start < 0 else start
        length = size - start if length is None else length
    parts = []
    while length > 0 and (data := os.pread(descriptor, length, start)):  # the kernel gives 2 GiB at most
        parts.append(data)
        start, length = start + len(data), length - len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write_durably(path: str, data: bytes | bytearray | memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _real_path(descriptor: int, path: str) -> str:
    """Return where an open file is: by the kernel where it tells, else by resolving the path again."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return os.path.realpath(path)


@contextmanager
def _typed_errors(key: str) -> Iterator[None]:
    """Turn operating system errors into ours; messages name the key, not the path of the host."""
    try:
        yield
    except LarvikError:
        raise
    except OSError as error:
        raise _typed(error, key) from error


def _typed(error: OSError, key: str) -> LarvikError:
    why = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in _MISSING:
        return NotFoundError(f"The store has no object {key!r}.", reason="OBJECT_MISSING", key=key)
    if error.errno in _FULL:
        return ResourceExhaustedError(
            f"The store cannot take {key!r}: {why}. Free space or raise the limit, then retry.",
            reason="STORE_FULL",
            key=key,
        )
    if error.errno in _DENIED:
        return PermissionDeniedError(
            f"The operating system does not let Larvik use {key!r}: {why}. Correct the file's owner or mode.",
            reason="STORE_DENIED",
            key=key,
        )
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.EINVAL):
        return InvalidArgumentError(
            f"The store cannot use {key!r}: {why}.", reason="KEY_INVALID", field="key"
        )
    return UnavailableError(f"The store failed at {key!r}: {why}.", reason="STORE_UNREACHABLE", key=key)
