"""Import roots: the folders and buckets outside the store that imports and registered arrays may read."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from larvik.errors import InvalidArgumentError, PreconditionError
from larvik.services.locks import SessionLocks
from larvik.storage.base import Store, check_key, open_store
from larvik.storage.local import LocalStore

#: File of the data folder that lists the roots which an embedded process registered arrays below.
ROOTS_FILE = "registered-roots.json"
_PREFIX = "registered:"


@dataclass(frozen=True, slots=True)
class Root:
    """One folder (real path) or bucket prefix; ``key`` stands for it in locations, without naming it."""

    url: str

    @property
    def key(self) -> str:
        """Short digest of the address."""
        return hashlib.sha256(self.url.encode(errors="surrogateescape")).hexdigest()[:16]

    @property
    def is_remote(self) -> bool:
        """Whether this is a bucket."""
        return self.url.startswith("s3://")


class Roots:
    """The configured roots, and those that this data folder registered arrays below.

    Parameters
    ----------
    data : Path
        The data folder.
    configured : sequence of str
        Folders and ``s3://bucket/prefix`` URLs.
    options : mapping
        Options of remote stores, as for `larvik.storage.base.open_store`.
    """

    def __init__(
        self, data: Path, configured: Sequence[str] = (), options: dict[str, object] | None = None
    ) -> None:
        self._file = data / ROOTS_FILE
        self._options = options or {}
        self._roots = tuple(Root(_canonical(root)) for root in configured)
        self._stores: dict[str, Store] = {}
        self._lock = threading.Lock()

    def find(self, path: str) -> tuple[Root, str]:
        """Return the configured root that holds `path`, and the path relative to it.

        Raises
        ------
        InvalidArgumentError
            ``PATH_OUTSIDE_ROOTS``, when no root holds it, also after symbolic links are followed.
        """
        found = _below(_canonical(path, roots=self._roots), self._roots)
        if found is None:
            known = f"{len(self._roots)} are configured" if self._roots else "none is configured"
            raise InvalidArgumentError(
                f"{path!r} is not below an import root of Larvik; {known}. Name its folder in import_roots.",
                reason="PATH_OUTSIDE_ROOTS",
                field="path",
            )
        return found

    def local_path(self, root: Root, key: str) -> str:
        """Return the path or URL of `key` below `root`, for readers of files."""
        return f"{root.url}/{key}" if key else root.url

    def adopt(self, path: str) -> tuple[Root, str]:
        """Return root and relative path of `path`; its parent becomes a root when none holds it.

        Only for embedded use, where the caller may read whatever the process may.
        """
        where = _canonical(path)
        found = _below(where, (*self._roots, *self._adopted()))
        if found is not None:
            return found
        root = Root(where.rpartition("/")[0] or "/")
        locks = SessionLocks(self._file.parent)
        with locks.exclusive(ROOTS_FILE):  # other processes adopt roots too
            known = [item.url for item in self._adopted()]
            text = json.dumps([*known, root.url], indent=2)
            LocalStore(self._file.parent).write(ROOTS_FILE, text.encode())
            locks.remove(ROOTS_FILE)
        return root, where.rpartition("/")[2]

    def location(self, root: Root, key: str) -> str:
        """Return what the row of a registered array stores: the root's key and the relative path."""
        return f"{_PREFIX}{root.key}/{key}"

    def open(self, location: str) -> tuple[Store, str]:
        """Return the store and the group of a registered array's `location`.

        Raises
        ------
        PreconditionError
            ``ROOT_UNKNOWN``, when its root is not configured here.
        """
        key, _, group = location.removeprefix(_PREFIX).partition("/")
        root = next((item for item in (*self._roots, *self._adopted()) if item.key == key), None)
        if root is None or not location.startswith(_PREFIX):
            raise PreconditionError(
                f"The array is registered at {group!r}, below an import root that is not configured here."
                " Add its folder to import_roots.",
                reason="ROOT_UNKNOWN",
            )
        return self.store(root), check_key(group, field="location")

    def store(self, root: Root) -> Store:
        """Return the store of `root`; opened once."""
        with self._lock:
            if root.url not in self._stores:
                self._stores[root.url] = open_store(root.url, **(self._options if root.is_remote else {}))
            return self._stores[root.url]

    def _adopted(self) -> tuple[Root, ...]:
        try:
            return tuple(Root(url) for url in json.loads(self._file.read_text()))
        except FileNotFoundError:
            return ()


def _canonical(path: str, roots: Sequence[Root] = ()) -> str:
    """Return the real path, or the URL without a slash at its end; a relative one is tried below `roots`."""
    if "\0" in path or len(path) > 4096:
        raise InvalidArgumentError("The path is not one of a file.", reason="PATH_INVALID", field="path")
    if path.startswith("s3://"):
        check_key(path.removeprefix("s3://").rstrip("/"), field="path")
        return path.rstrip("/")
    path = unquote(path.removeprefix("file://")) if path.startswith("file://") else os.path.expanduser(path)
    if roots and not os.path.isabs(path):
        for root in roots:
            if not root.is_remote and os.path.exists(os.path.join(root.url, path)):
                return os.path.realpath(os.path.join(root.url, path))
    return os.path.realpath(path)


def _below(where: str, roots: Sequence[Root]) -> tuple[Root, str] | None:
    for root in roots:
        if where == root.url:
            return root, ""
        if where.startswith(root.url.rstrip("/") + "/"):
            return root, where[len(root.url.rstrip("/")) + 1 :]
    return None
