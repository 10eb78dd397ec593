"""The coarser levels of arrays that are being uploaded, built in the background shard by shard."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime

from larvik.errors import LarvikError
from larvik.storage.stored_shards import Shard

log = logging.getLogger(__name__)

#: Shards that wait for the builder at most; the commit builds what was dropped.
MOST_WAITING = 65_536


class LevelBuilder:
    """One thread that builds shards, one after another. Thread-safe.

    Parameters
    ----------
    build : callable
        Called with the id of a session, when it was begun, and a shard; returns the shards that can be built
        next. What it raises ends nothing: the commit builds what is missing, and tells.
    """

    def __init__(self, build: Callable[[str, datetime, Shard], Iterable[Shard]]) -> None:
        self._build = build
        self._waiting: deque[tuple[str, datetime, Shard]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._working_on: str | None = None
        self._is_closed = False

    def add(self, upload_id: str, begun_at: datetime, shards: Iterable[Shard]) -> None:
        """Have shards of a session built when their turn comes."""
        with self._changed:
            room = MOST_WAITING - len(self._waiting)
            self._waiting.extend((upload_id, begun_at, shard) for shard in list(shards)[:room])
            if self._waiting and self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="larvik-levels", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def forget(self, upload_id: str) -> None:
        """Drop what waits for a session that ends."""
        with self._changed:
            self._waiting = deque(item for item in self._waiting if item[0] != upload_id)
            self._changed.notify_all()

    def wait(self, upload_id: str, timeout_s: float | None = None) -> bool:
        """Wait until nothing of a session is left to build; False when the time was too short."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._has(upload_id), timeout_s)

    def close(self) -> None:
        """End the thread after the shard that it builds; idempotent."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _has(self, upload_id: str) -> bool:
        return self._working_on == upload_id or any(item[0] == upload_id for item in self._waiting)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._working_on = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                upload_id, begun_at, shard = self._waiting.popleft()
                self._working_on = upload_id
            try:
                self.add(upload_id, begun_at, self._build(upload_id, begun_at, shard))
            except LarvikError as error:
                log.info("upload.level.postponed", extra={"upload_id": upload_id, "reason": error.reason})
            except Exception:
                log.exception("upload.level.postponed", extra={"upload_id": upload_id})
