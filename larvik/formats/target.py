"""Where an export goes: written beside its target, and moved there when it is whole."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from larvik.errors import (
    AlreadyExistsError,
    CallCancelledError,
    LarvikError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from larvik.formats.base import file_name

#: Ending of targets that are being written.
PARTIAL = ".partial"

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


@contextmanager
def new_target(path: str, *, overwrite: bool = False) -> Iterator[str]:
    """Yield a path beside `path` to write to; what is there in the end becomes `path`.

    After an error nothing of it stays, and what was at `path` is as it was.

    Raises
    ------
    AlreadyExistsError
        ``TARGET_EXISTS``, when `path` exists and `overwrite` does not say that it may go.
    NotFoundError
        ``FOLDER_NOT_FOUND``, when the folder that it should be in is missing.
    ResourceExhaustedError
        ``STORE_FULL``, when the disk is full.
    """
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        raise NotFoundError(
            f"The folder of {file_name(path)} does not exist: make it first.",
            reason="FOLDER_NOT_FOUND",
            file=name,
        )
    _refuse_existing(path, overwrite)
    partial = os.path.join(folder, f".{name[:180]}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        yield partial
        _refuse_existing(path, overwrite)
        _sync(partial)
        _move(partial, path)
    except OSError as error:
        if isinstance(error, LarvikError):
            raise
        raise _typed(error, path) from error
    finally:
        _remove(partial)


class Steps:
    """Counts the steps of an export for a progress bar, and stops it when it was cancelled."""

    def __init__(self, total: int, progress: Progress | None, cancelled: Cancelled | None) -> None:
        self._done, self._total = 0, max(1, total)
        self._progress, self._cancelled = progress, cancelled

    def is_cancelled(self) -> bool:
        """Tell whether the export was cancelled."""
        return self._cancelled is not None and self._cancelled()

    def check(self) -> None:
        """Raise CallCancelledError when the export was cancelled."""
        if self.is_cancelled():
            raise CallCancelledError("The export was cancelled; nothing was written.")

    def add(self, count: int) -> None:
        """Count `count` steps more."""
        self._done = min(self._total, self._done + count)
        if self._progress is not None:
            self._progress(self._done, self._total)


def _refuse_existing(path: str, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise AlreadyExistsError(
            f"{file_name(path)} exists already. Choose another name, or say overwrite=True (--overwrite).",
            reason="TARGET_EXISTS",
            file=file_name(path),
        )


def _move(partial: str, path: str) -> None:
    """Put `partial` in the place of `path`; a folder that is there is moved away first."""
    if os.path.isdir(path) and not os.path.islink(path):
        old = partial + ".old"
        os.rename(path, old)
        try:
            os.rename(partial, path)
        except OSError:
            os.rename(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(partial, path)


def _sync(path: str) -> None:
    if os.path.isfile(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(path)


def _typed(error: OSError, path: str) -> LarvikError:
    why = os.strerror(error.errno) if error.errno else type(error).__name__
    text = f"{file_name(path)} cannot be written: {why}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ResourceExhaustedError(
            f"{text} Free space, then export again.", reason="STORE_FULL", file=file_name(path)
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDeniedError(
            f"{text} Choose another folder.", reason="STORE_DENIED", file=file_name(path)
        )
    return UnavailableError(text, reason="STORE_UNREACHABLE", file=file_name(path))
