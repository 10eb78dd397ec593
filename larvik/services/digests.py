"""Identity of content: digests that tell that the same original is imported again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from larvik.errors import CallCancelledError
from larvik.storage.base import Store

#: Bytes that are hashed on their own; pieces are hashed by several threads.
PIECE = 16 << 20
_THREADS = 4
_DOCUMENTS = ("zarr.json", ".zattrs", ".zarray", ".zgroup")

Cancelled = Callable[[], bool]


def file_digest(path: Path, *, cancelled: Cancelled | None = None) -> tuple[str, int]:
    """Return digest and size in bytes of a file's content, or of all that a folder holds.

    Raises
    ------
    CallCancelledError
        ``CALL_CANCELLED``, when `cancelled` says so.

    Notes
    -----
    SHA-256 over names, sizes and the SHA-256 of each piece of `PIECE` bytes, in order.
    """
    whole, total = hashlib.sha256(), 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, file in _files(path):
            size = file.stat().st_size
            whole.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
            for digest in pool.map(_piece, [(file, start, cancelled) for start in range(0, size, PIECE)]):
                whole.update(digest)
            total += size
    return f"sha256-pieces:{whole.hexdigest()}", total


def store_digest(store: Store) -> tuple[str, int]:
    """Return digest and size of everything in a store: names, sizes, and the text of metadata documents.

    Chunks are not read. On a local disk their times count; in a bucket a change that keeps their sizes
    is not noticed.
    """
    whole, total = hashlib.sha256(), 0
    is_local = store.url.startswith("file:")
    for key, size in sorted(store.list()):
        whole.update(f"{key}\0{size}\0".encode())
        if key.rpartition("/")[2] in _DOCUMENTS:
            whole.update(store.read(key))
        elif is_local and (info := store.stat(key)) is not None:
            whole.update(info.tag.encode())
        total += size
    return f"sha256-listing:{whole.hexdigest()}", total


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield relative names and paths: one without a name for a file, all below for a folder, sorted."""
    if not path.is_dir():
        yield "", path
        return
    found = [Path(parent, name) for parent, _, names in os.walk(path, followlinks=False) for name in names]
    yield from ((file.relative_to(path).as_posix(), file) for file in sorted(found) if file.is_file())


def _piece(job: tuple[Path, int, Cancelled | None]) -> bytes:
    path, start, cancelled = job
    if cancelled is not None and cancelled():
        raise CallCancelledError("The import was cancelled.")
    with path.open("rb", buffering=0) as file:
        return hashlib.sha256(os.pread(file.fileno(), PIECE, start)).digest()
