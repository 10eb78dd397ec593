"""What a connection has learnt of its link and its server from its own transfers."""

from __future__ import annotations

import threading

#: Weight of the newest observation.
WEIGHT = 0.3
#: Transfers below it tell the latency, those above the bandwidth.
LEAST_BYTES = 256 << 10


class Link:
    """Bandwidth, latency and the server's speed, exponentially weighted. Thread-safe.

    Attributes
    ----------
    bandwidth : float or None
        Bytes per second; None before the first large transfer.
    latency_s : float or None
        Of a small call, there and back; None before the first.
    server_rate : float or None
        Decoded bytes per second that the server computes from; None before the first push-down.
    """

    def __init__(self) -> None:
        self.bandwidth: float | None = None
        self.latency_s: float | None = None
        self.server_rate: float | None = None
        self._lock = threading.Lock()

    def renew_locks(self) -> None:
        """Forget a lock that a thread of the parent process may hold."""
        self._lock = threading.Lock()

    def observe(self, size_bytes: int, seconds: float) -> None:
        """Learn from `size_bytes` that took `seconds` to arrive; few bytes tell the latency."""
        with self._lock:
            if size_bytes < LEAST_BYTES:
                self.latency_s = _joined(self.latency_s, seconds)
            elif seconds > 0:
                self.bandwidth = _joined(self.bandwidth, size_bytes / seconds)

    def observe_server(self, source_bytes: int, seconds: float) -> None:
        """Learn from a push-down that read `source_bytes` and took `seconds` until its result came."""
        with self._lock:
            if source_bytes >= LEAST_BYTES and seconds > 0:
                self.server_rate = _joined(self.server_rate, source_bytes / seconds)


def _joined(before: float | None, now: float) -> float:
    return now if before is None else (1 - WEIGHT) * before + WEIGHT * now
