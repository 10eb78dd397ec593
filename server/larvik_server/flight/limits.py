"""What one data process takes at once. Light: its parent makes it, without the libraries of Flight."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of one data process; `larvik_server.settings.Limits` says what each is for."""

    streams: int
    streams_per_subject: int
    channels: int
    channels_per_subject: int
    held_bytes: int
    held_bytes_per_subject: int
    stall_s: float
    stream_s: float
