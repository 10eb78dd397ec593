"""Locks between the processes of one host: who serves a data folder, and who writes one array.

All of them are ``flock`` locks: the kernel frees them when their process dies, however it dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from larvik.errors import PermissionDeniedError, PreconditionError, ResourceExhaustedError

FOLDER_LOCK = "larvik.lock"
#: Folder of the locks of upload sessions, below the data folder.
SESSION_LOCKS = "locks"


class FolderLock:
    """Holds a data folder: shared by the processes that opened it, exclusive by the one that serves it.

    Parameters
    ----------
    folder : Path
        The data folder, which exists.
    url : str or None
        Address of the server that takes the folder for itself; None for a process that shares it.

    Raises
    ------
    PreconditionError
        ``FOLDER_SERVED``, when a server holds the folder (names its URL); ``FOLDER_IN_USE``, when a
        server wants what other processes have open.
    """

    def __init__(self, folder: Path, *, url: str | None = None) -> None:
        self._folder = folder
        self._is_shared = url is None
        self._pid = os.getpid()
        try:
            self._descriptor: int | None = os.open(
                folder / FOLDER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise _typed(error, folder) from error
        try:
            if url is None:
                self._share()
            else:
                self._take(url)
        except BaseException:
            self.release()
            raise

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Tell whether nobody else has the folder open, and keep it so; False for a server's own lock."""
        if self._descriptor is None or not self._is_shared:
            yield False
            return
        is_alone = _flock(self._descriptor, fcntl.LOCK_EX)
        if is_alone:
            self._write("maintenance")
        try:
            if not is_alone:
                self._share()  # a failed change of the lock gave it up
            yield is_alone
        finally:
            if is_alone:
                self._share()

    def _share(self) -> None:
        assert self._descriptor is not None
        if not _flock(self._descriptor, fcntl.LOCK_SH):
            url = os.pread(self._descriptor, 2000, 0).decode(errors="replace").strip()
            raise PreconditionError(
                f"A Larvik server holds the data folder {self._folder.name!r}. Connect to {url} instead."
                if "://" in url
                else f"Another process works alone on the data folder {self._folder.name!r}. Try later.",
                reason="FOLDER_SERVED",
                url=url,
            )

    def _take(self, url: str) -> None:
        assert self._descriptor is not None
        if not _flock(self._descriptor, fcntl.LOCK_EX):
            raise PreconditionError(
                f"Other processes have the data folder {self._folder.name!r} open. Close them first.",
                reason="FOLDER_IN_USE",
            )
        self._write(url)

    def _write(self, text: str) -> None:
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Give the folder free; idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _free(descriptor, self._pid)


class SessionLocks:
    """Locks of upload sessions: writers of shards share one, commit and abort take it alone.

    Whoever wants a session alone passes before those that come to share it later, so that a stream of
    writers does not keep a commit waiting for its end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / SESSION_LOCKS

    @contextmanager
    def shared(self, session: str) -> Iterator[ShardLocks]:
        """Hold the session with other writers of shards; waits for a commit or abort to end."""
        with self._held(session, fcntl.LOCK_SH) as descriptor:
            yield ShardLocks(descriptor)

    @contextmanager
    def exclusive(self, session: str) -> Iterator[None]:
        """Hold the session alone; waits for the writers of shards."""
        with self._held(session, fcntl.LOCK_EX):
            yield

    @contextmanager
    def if_free(self, session: str) -> Iterator[bool]:
        """Hold the session alone when nobody else does; else give False, and hold nothing."""
        try:
            with self._held(session, fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield True
        except _HeldError:
            yield False

    def remove(self, session: str) -> None:
        """Remove the lock's file; only while it is held alone, or when nobody can want it."""
        with suppress(FileNotFoundError):
            os.unlink(self._folder / session)

    def sessions(self) -> list[str]:
        """Return the sessions that have a lock file."""
        with suppress(FileNotFoundError):
            return sorted(os.listdir(self._folder))
        return []

    @contextmanager
    def _held(self, session: str, kind: int) -> Iterator[int]:
        path, pid = self._folder / session, os.getpid()
        while True:
            try:
                self._folder.mkdir(exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise _typed(error, self._folder.parent) from error
            try:
                _pass_gate(descriptor, kind)
                if _is_still(path, descriptor):
                    yield descriptor
                    return
            finally:
                _free(descriptor, pid)


class ShardLocks:
    """Locks of the single shards of a session that is held."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @contextmanager
    def shard(self, level: int, number: int) -> Iterator[None]:
        """Hold one shard alone, among all threads and processes; no two are held at once by one holder."""
        place = 1 + (level << 40) + number
        _lock_byte(self._descriptor, fcntl.F_WRLCK, place)
        try:
            yield
        finally:
            _lock_byte(self._descriptor, fcntl.F_UNLCK, place)


def _pass_gate(descriptor: int, kind: int) -> None:
    """Take a lock of the session, behind a gate that whoever wants it alone keeps shut until it has it."""
    if kind & fcntl.LOCK_NB:
        _wait(descriptor, kind)
        return
    _lock_byte(descriptor, fcntl.F_RDLCK if kind == fcntl.LOCK_SH else fcntl.F_WRLCK, 0)
    try:
        _wait(descriptor, kind)
    finally:
        _lock_byte(descriptor, fcntl.F_UNLCK, 0)


def _lock_byte(descriptor: int, kind: int, place: int) -> None:
    """Lock or unlock one byte of the file on behalf of this opening of it, which no other one shares."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", kind, os.SEEK_SET, place, 1, 0))


class _HeldError(Exception):
    """Somebody else has the lock."""


def _wait(descriptor: int, kind: int) -> None:
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        raise _HeldError from None


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free(descriptor: int, pid: int) -> None:
    """Close the lock that process `pid` took, and unlock it there.

    Closing alone would leave it with children that were forked meanwhile; these leave it to their parent.
    """
    if os.getpid() == pid:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Tell whether `path` is the opened file: whoever held it before may have removed it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _typed(error: OSError, folder: Path) -> Exception:
    why = os.strerror(error.errno or 0)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDeniedError(
            f"Larvik may not write in the data folder {folder.name!r}: {why}. Correct its owner or mode.",
            reason="STORE_DENIED",
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
        return ResourceExhaustedError(
            f"The data folder {folder.name!r} cannot be locked: {why}.", reason="STORE_FULL"
        )
    return PreconditionError(
        f"The data folder {folder.name!r} cannot be locked: {why}.", reason="FOLDER_UNUSABLE"
    )
