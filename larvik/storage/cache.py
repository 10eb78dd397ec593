"""Decoded chunks that are likely to be asked for again: a cache of bounded bytes, one per process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np

from larvik.storage.workers import run_later

#: Chunks whose first use is remembered.
REMEMBERED = 4096


class ChunkCache:
    """The decoded chunks that were used last, up to a number of bytes. Thread-safe.

    Parameters
    ----------
    most_bytes : int
        Of all decoded chunks together; 0 keeps none.

    Notes
    -----
    Chunks that are needed whole never come here: nobody needs them twice. A chunk of which a part can be
    decoded alone is kept from its second use on, so that single crops do not push out what is looked at.
    After a fork the child has a copy that ages on its own.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._chunks: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._used_once: OrderedDict[Hashable, None] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._background = threading.Semaphore(1)

    def __len__(self) -> int:
        with self._lock:
            return len(self._chunks)

    @property
    def size_bytes(self) -> int:
        """Bytes of the chunks that are kept."""
        return self._bytes

    def get(self, key: Hashable) -> np.ndarray | None:
        """Return a chunk that must not be written to, or None when it is not kept."""
        with self._lock:
            chunk = self._chunks.get(key)
            if chunk is not None:
                self._chunks.move_to_end(key)
            return chunk

    def put(self, key: Hashable, chunk: np.ndarray) -> None:
        """Keep a chunk; those that were not used for longest go."""
        if chunk.nbytes > self.most_bytes:
            return
        chunk.flags.writeable = False
        with self._lock:
            self._drop(key)
            self._chunks[key] = chunk
            self._bytes += chunk.nbytes
            while self._bytes > self.most_bytes:
                self._drop(next(iter(self._chunks)))

    def is_wanted(self, key: Hashable) -> bool:
        """Tell whether a chunk was used before; its use now is remembered."""
        with self._lock:
            if key in self._used_once:
                del self._used_once[key]
                return True
            self._used_once[key] = None
            if len(self._used_once) > REMEMBERED:
                self._used_once.popitem(last=False)
            return False

    def in_background(self, work: Callable[[], object]) -> bool:
        """Begin `work` in the pool; return False, and drop it, while other work of this kind goes on."""
        if not self._background.acquire(blocking=False):
            return False

        def run() -> None:
            try:
                work()
            finally:
                self._background.release()

        try:
            run_later(run)
        except RuntimeError:  # the interpreter is going down
            self._background.release()
            return False
        return True

    def _drop(self, key: Hashable) -> None:
        chunk = self._chunks.pop(key, None)
        if chunk is not None:
            self._bytes -= chunk.nbytes
