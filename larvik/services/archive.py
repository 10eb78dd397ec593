"""A backup's container: a folder, or one tar file; written whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from larvik.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from larvik.storage.base import check_key

_PARTIAL = ".partial"


class ArchiveWriter:
    """Adds named objects to a new backup at `target`: a tar file when its name ends in ``.tar``.

    A context manager: the backup appears when the block ends, and nothing stays of it after an error.

    Raises
    ------
    AlreadyExistsError
        ``BACKUP_EXISTS``, when there is something at `target`.
    """

    def __init__(self, target: Path) -> None:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise AlreadyExistsError(
                f"There is something at {target.name!r} already. Name another target.", reason="BACKUP_EXISTS"
            )
        self._target = target
        self._partial = target.with_name(target.name + _PARTIAL)
        with _typed_errors(target):
            self._remove()
            target.parent.mkdir(parents=True, exist_ok=True)
            self._tar = tarfile.open(self._partial, "w") if target.suffix == ".tar" else None  # noqa: SIM115  # closed in __exit__
            if self._tar is None:
                self._partial.mkdir()

    def add(self, name: str, data: bytes) -> None:
        """Add an object."""
        with _typed_errors(self._target):
            if self._tar is not None:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                self._tar.addfile(member, io.BytesIO(data))
                return
            path = self._partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def add_file(self, name: str, source: Path) -> None:
        """Add the content of a file."""
        with _typed_errors(self._target):
            if self._tar is not None:
                self._tar.add(source, name)
                return
            path = self._partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _typed_errors(self._target):
            try:
                if self._tar is not None:
                    self._tar.close()  # writes the end, for which there may be no space either
                if error is None:
                    if self._target.is_dir():
                        self._target.rmdir()  # empty, as it was at the start
                    os.replace(self._partial, self._target)
            finally:
                self._remove()

    def _remove(self) -> None:
        with suppress(FileNotFoundError):
            if self._partial.is_dir():
                shutil.rmtree(self._partial)
            else:
                self._partial.unlink()


def read_archive(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every object of a backup, one in memory at a time.

    Raises
    ------
    NotFoundError
        ``BACKUP_NOT_FOUND``.
    InvalidArgumentError
        ``BACKUP_INVALID``, for a damaged archive or names that lead out of it.
    """
    with _typed_errors(source):
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    yield path.relative_to(source).as_posix(), path.read_bytes()
            return
        if not source.exists():
            raise NotFoundError(f"There is no backup {source.name!r}.", reason="BACKUP_NOT_FOUND")
        try:
            with tarfile.open(source, "r:") as archive:
                for member in archive:
                    if member.issparse():  # a few bytes that claim to be terabytes of zeros
                        raise tarfile.ReadError
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is not None:
                        yield check_key(member.name, field="name"), content.read()
        except (tarfile.TarError, EOFError) as error:
            raise InvalidArgumentError(
                f"{source.name!r} is not a backup of Larvik, or is damaged.", reason="BACKUP_INVALID"
            ) from error


@contextmanager
def _typed_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ResourceExhaustedError(
                f"There is no space left for {path.name!r}.", reason="STORE_FULL"
            ) from error
        raise UnavailableError(
            f"{path.name!r} cannot be used: {error.strerror or type(error).__name__}.",
            reason="STORE_UNREACHABLE",
        ) from error
