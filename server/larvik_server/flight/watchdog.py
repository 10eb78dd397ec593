"""The watchdog of a data process: it ends calls that wait for their caller for too long, and trims memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.flight as flight

from larvik_server.flight import sockets
from larvik_server.flight.gate import Call
from larvik_server.flight.memory import IdleTrim

log = logging.getLogger(__name__)

#: How often the watchdog looks, and how often it looks for new connections, in seconds.
TICK_S = 1.0
SOCKETS_S = 10.0


class Watched:
    """One call that is looked at.

    Attributes
    ----------
    waits_since : float
        Since when it waits for its caller, by ``time.monotonic``; 0.0 while it does not.
    patience_s : float
        How long it may.
    """

    __slots__ = ("call", "ends_at", "patience_s", "peer", "waits_since")

    def __init__(self, call: Call, peer: str, patience_s: float, ends_at: float) -> None:
        self.call = call
        self.peer = peer
        self.patience_s = patience_s
        self.ends_at = ends_at
        self.waits_since = 0.0

    def waits(self) -> None:
        """Note that the caller's turn begins: to take what is sent, or to send more."""
        self.waits_since = time.monotonic()

    def goes_on(self) -> None:
        """Note that the caller did its part."""
        self.waits_since = 0.0


class Watchdog:
    """Looks at the open calls, once a second, in a thread of its own.

    Parameters
    ----------
    patience_s : float
        How long a call waits for its caller to take what was sent. Uploads wait ten times as long for more.
    longest_s : float
        How long a stream may take in all.
    trim : IdleTrim
        Asked to give memory back.
    """

    def __init__(self, patience_s: float, longest_s: float, trim: IdleTrim) -> None:
        self._patience_s = patience_s
        self._longest_s = longest_s
        self._trim = trim
        self._watched: set[Watched] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def watch(
        self, call: Call, context: flight.ServerCallContext, *, patience: float = 1.0, endless: bool = False
    ) -> Iterator[Watched]:
        """Look at a call for the block.

        Parameters
        ----------
        patience : float
            How many times the usual patience it gets.
        endless : bool
            Whether it may stay open for ever.
        """
        ends_at = float("inf") if endless else time.monotonic() + self._longest_s
        watched = Watched(call, context.peer(), patience * self._patience_s, ends_at)
        with self._lock:
            self._watched.add(watched)
        try:
            yield watched
        finally:
            with self._lock:
                self._watched.discard(watched)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        peers: set[tuple[str, int]] = set()
        looked_at = 0.0
        tick = min(TICK_S, self._patience_s / 4)
        while not self._stopped.wait(tick):
            now = time.monotonic()
            try:
                self._end_stalled(now)
                self._trim.when_idle(now)
                if now - looked_at >= SOCKETS_S:
                    looked_at, peers = now, sockets.keep_alive(peers)
            except Exception:  # it must go on, whatever it met
                log.exception("watchdog.failed")

    def _end_stalled(self, now: float) -> None:
        with self._lock:
            watched = list(self._watched)
        for one in watched:
            since = one.waits_since
            is_stalled = since and now - since > one.patience_s
            if is_stalled or now > one.ends_at:
                fields = {"method": one.call.method, "request_id": one.call.request_id, "peer": one.peer}
                reason = "STREAM_STALLED" if is_stalled else "CALL_TIMED_OUT"
                log.warning("flight.cut", extra={**fields, "reason": reason, "is_cut": sockets.cut(one.peer)})
                with self._lock:
                    self._watched.discard(one)
