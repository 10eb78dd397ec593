"""Sending blocks: only what is not stored, until all is, and not for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from larvik.array.spec import ArraySpec, Level, default_axis
from larvik.errors import CallCancelledError, DataLossError, ResourceExhaustedError, UnavailableError
from larvik.services import sending
from larvik.services.sending import send_blocks

LEVEL = Level("0", (10, 4), (2, 4), (2, 4), (1.0, 1.0), (0.0, 0.0))
PIXELS = np.arange(40, dtype="u1").reshape(10, 4)


@dataclass
class MemoryUploads:
    """Blocks in memory, behind a line that fails as it is told to: after so many blocks, with an error."""

    failures: list[tuple[int, Exception]] = field(default_factory=list)
    spec: ArraySpec = field(
        default_factory=lambda: ArraySpec((default_axis("y"), default_axis("x")), "uint8", (LEVEL,))
    )
    blocks: dict[int, np.ndarray] = field(default_factory=dict)
    received: list[int] = field(default_factory=list)

    def put_many(
        self, upload: object, blocks: Iterator, stored: Callable[[int], object] | None = None
    ) -> None:
        left, error = self.failures.pop(0) if self.failures else (99, None)
        count = 0
        for start, pixels in blocks:
            if count == left:
                raise error
            self.received.append(start[0] // 2)
            self.blocks[start[0] // 2] = pixels
            count += 1
            stored(count)
        if count == left:
            raise error

    def stored(self, upload: object) -> list[int]:
        return sorted(self.blocks)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PAUSES_S", (0.001, 0.001))


def send(uploads: MemoryUploads, **options: object) -> list[float]:
    told: list[float] = []
    send_blocks(uploads, uploads, lambda region: PIXELS[region], advance=told.append, **options)
    return told


def test_every_block_is_sent_once() -> None:
    uploads = MemoryUploads()
    told = send(uploads)
    assert uploads.received == [0, 1, 2, 3, 4]
    assert (np.concatenate([uploads.blocks[n] for n in range(5)]) == PIXELS).all()
    assert told == [0, 0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("cut"),
        DataLossError("short", reason="STREAM_INCOMPLETE"),
        ResourceExhaustedError("full", reason="STREAMS_EXHAUSTED", retry_after_s=0.001),
    ],
)
def test_after_a_cut_the_rest_is_sent(error) -> None:
    uploads = MemoryUploads([(2, error), (0, error), (1, error)])
    told = send(uploads)
    assert uploads.received == [0, 1, 2, 3, 4]
    assert told == sorted(told)


def test_what_is_stored_already_is_not_read() -> None:
    uploads = MemoryUploads(blocks=dict.fromkeys((0, 1, 2, 3, 4), PIXELS[:2]))
    send_blocks(uploads, uploads, lambda region: pytest.fail("read"), advance=lambda share: None)
    del uploads.blocks[3]
    assert send(uploads)[0] == 0.8
    assert uploads.received == [3]


def test_patience_ends_when_nothing_is_stored_and_begins_anew_when_something_is() -> None:
    cut = UnavailableError("cut")
    uploads = MemoryUploads([(0, cut), (0, cut), (1, cut), (0, cut), (0, cut), (1, cut)])
    send(uploads)
    with pytest.raises(UnavailableError):
        send(MemoryUploads([(0, cut)] * 3))


@pytest.mark.parametrize(
    "error",
    [ResourceExhaustedError("disk", reason="STORE_FULL"), DataLossError("no", reason="CHUNK_CORRUPT")],
)
def test_what_waiting_does_not_cure_is_raised_at_once(error) -> None:
    uploads = MemoryUploads([(1, error)])
    with pytest.raises(type(error)):
        send(uploads)
    assert uploads.received == [0]


def test_the_caller_may_stop_it() -> None:
    uploads = MemoryUploads()
    with pytest.raises(CallCancelledError):
        send(uploads, cancelled=lambda: len(uploads.received) > 1)
