"""Sending the blocks of an upload: only what is not stored yet, again and again until all is."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from larvik.array.spec import ArraySpec
from larvik.errors import (
    CallCancelledError,
    DataLossError,
    LarvikError,
    ResourceExhaustedError,
    UnavailableError,
)
from larvik.services.prefetch import read_ahead
from larvik.storage.regions import regions

if TYPE_CHECKING:
    import numpy as np

Region = tuple[slice, ...]
Blocks = Iterator[tuple[tuple[int, ...], "np.ndarray"]]

#: Pauses between attempts of which none stores anything, in seconds, each shortened by chance: longer than a
#: data process needs to start again. After the last of them the upload is given up.
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0)


class Session(Protocol):
    """An open upload session."""

    @property
    def spec(self) -> ArraySpec:
        """The grid that was chosen."""


class BlockUploads(Protocol):
    """The part of a connection's arrays that sending needs."""

    def put_many(self, upload: Any, blocks: Blocks, stored: Callable[[int], object] | None = None) -> None:
        """Store blocks."""

    def stored(self, upload: Any) -> Sequence[int]:
        """Tell which blocks are stored."""


def send_blocks(
    uploads: BlockUploads,
    session: Session,
    read: Callable[[Region], np.ndarray],
    *,
    advance: Callable[[float], object],
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Store every block of a session that is not stored, going on where it was after a cut.

    Parameters
    ----------
    uploads : BlockUploads
        Where to.
    session : Session
        The session.
    read : callable
        Gives the pixels of a region; asked for the same one again when it may have been lost.
    advance : callable
        Told which share of the blocks is known to be stored.
    cancelled : callable, optional
        Asked before each block.

    Raises
    ------
    CallCancelledError
        When `cancelled` says so.
    UnavailableError, ResourceExhaustedError, DataLossError
        Of the last attempt, when several in a row stored nothing.
    """
    level = session.spec.levels[0]
    shards = list(regions(level.shape, level.shards))
    patience = _Patience()
    while True:
        known = frozenset(uploads.stored(session))
        patience.note(len(known))
        advance(len(known) / len(shards))
        rest = [region for number, region in enumerate(shards) if number not in known]
        if not rest:
            return
        try:
            with read_ahead(_blocks(rest, read, cancelled)) as blocks:
                uploads.put_many(session, blocks, lambda done: advance((len(known) + done) / len(shards)))  # noqa: B023  # called by put_many alone
            return
        except (UnavailableError, ResourceExhaustedError, DataLossError) as error:
            patience.wait(error)


def _blocks(
    rest: Sequence[Region], read: Callable[[Region], np.ndarray], cancelled: Callable[[], bool] | None
) -> Blocks:
    for region in rest:
        if cancelled is not None and cancelled():
            raise CallCancelledError("Storing the array was cancelled.")
        yield tuple(part.start for part in region), read(region)


class _Patience:
    """How long to wait before the next attempt; runs out when attempts store nothing."""

    def __init__(self) -> None:
        self._stored = 0
        self._failures = 0
        self._error: LarvikError | None = None

    def note(self, stored: int) -> None:
        """Note how many blocks are stored; raise the last error when attempts go on storing none."""
        if stored > self._stored:
            self._stored, self._failures = stored, 0
        if self._error is not None and self._failures > len(PAUSES_S):
            raise self._error

    def wait(self, error: LarvikError) -> None:
        """Wait after `error`; raise it when waiting does not cure it."""
        if isinstance(error, DataLossError) and error.reason != "STREAM_INCOMPLETE":
            raise error
        after = error.metadata.get("retry_after_s")
        if isinstance(error, ResourceExhaustedError) and after is None:
            raise error
        if after is None:
            pause = PAUSES_S[min(self._failures, len(PAUSES_S) - 1)] * random.uniform(0.5, 1.0)
        else:
            # The server says when; spread, so that those it refused do not come back together.
            pause = float(after) * random.uniform(0.5, 1.5)
        self._error = error
        self._failures += 1
        time.sleep(pause)
