"""What a store holds, for ``larvik doctor`` and ``larvik admin usage``: arrays, their bytes, leftovers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from larvik.errors import InvalidArgumentError
from larvik.storage.base import Store, join
from larvik.storage.local import PARTIAL

#: Folder of all arrays of a store.
ARRAYS = "arrays"
#: Ending of an array's group.
SUFFIX = ".ome.zarr"


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One group below `ARRAYS`.

    Attributes
    ----------
    array_id : str
        Id in its name; a row with this id makes it visible.
    location : str
        Key of the group.
    size_bytes : int
        Stored bytes, partial files included.
    partial : tuple of str
        Keys of files whose writing was interrupted, or that are being written.
    modified : float
        Time of the last write known (of ``zarr.json``, else of any object), in POSIX seconds.
    """

    array_id: str
    location: str
    size_bytes: int
    partial: tuple[str, ...]
    modified: float


def array_location(array_id: str) -> str:
    """Return the key of the group of an array: spread over folders by the end of its id, which is random."""
    return f"{ARRAYS}/{array_id[-2:]}/{array_id}{SUFFIX}"


def stored_bytes(store: Store, location: str) -> int:
    """Return the bytes of everything below `location`."""
    return sum(size for _, size in store.list(location))


def delete_partial(store: Store, location: str) -> None:
    """Delete what interrupted writes left below `location`, where nobody writes now."""
    for key in [key for key, _ in store.list(location) if key.endswith(PARTIAL)]:
        store.delete(key)


def list_arrays(store: Store) -> Iterator[StoredArray]:
    """Yield every array group of the store, whole or not; one array's keys at a time in memory.

    A folder without any object is none: some servers of S3 keep showing the folders of deleted objects.
    """
    for folder in store.children(ARRAYS):
        for name in store.children(join(ARRAYS, folder)):
            found = _inspect(store, join(ARRAYS, folder, name)) if name.endswith(SUFFIX) else None
            if found is not None:
                yield found


def delete_array(store: Store, location: str) -> int:
    """Delete the group at `location` below `ARRAYS` and return the bytes freed.

    Raises
    ------
    InvalidArgumentError
        ``KEY_INVALID``, for a location that is not an array's: registered sources are never deleted.
    """
    parts = location.split("/")
    if len(parts) != 3 or parts[0] != ARRAYS or not parts[2].endswith(SUFFIX):
        raise InvalidArgumentError(
            f"{location!r} is not the group of an array that Larvik wrote.",
            reason="KEY_INVALID",
            field="location",
        )
    # The group document first: what a crash leaves is then no array, and found again as a leftover.
    document = join(location, "zarr.json")
    freed = store.size(document) or 0
    store.delete(document)
    return freed + store.delete_prefix(location)


def _inspect(store: Store, location: str) -> StoredArray | None:
    size, partial, last = 0, [], ""
    for key, stored in store.list(location):
        size += stored
        last = key
        if key.endswith(PARTIAL):
            partial.append(key)
    if not last:
        return None
    info = store.stat(join(location, "zarr.json")) or store.stat(last)
    array_id = location.rpartition("/")[2].removesuffix(SUFFIX)
    modified = info.modified if info else 0.0
    return StoredArray(array_id, location, size, tuple(partial), modified)
