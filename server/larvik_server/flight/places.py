"""Room that callers share: so much in all, and so much for each subject."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from larvik.errors import ResourceExhaustedError


class Places:
    """Counts what is taken, and refuses more than the limits allow. Thread-safe.

    Parameters
    ----------
    what : str
        What is counted, for messages: ``"streams"``.
    most, most_per_subject : int
        Places in all, and for one subject: no subject can take all of them from the others.
    reason : str
        Of the refusal.
    retry_after_s : float
        When a refused caller may try again.
    """

    def __init__(
        self, what: str, most: int, most_per_subject: int, *, reason: str, retry_after_s: float = 1.0
    ) -> None:
        self._what = what
        self._most = most
        self._most_per_subject = min(most, most_per_subject)
        self._reason = reason
        self._retry_after_s = retry_after_s
        self._taken: Counter[str] = Counter()
        self._total = 0
        self._waiting = 0
        self._changed = threading.Condition(threading.Lock())

    @property
    def total(self) -> int:
        """What is taken in all."""
        return self._total

    @contextmanager
    def hold(self, subject: str, count: int = 1, *, wait_s: float = 0.0) -> Iterator[None]:
        """Hold `count` places for the block; raises as `take`."""
        self.take(subject, count, wait_s=wait_s)
        try:
            yield
        finally:
            self.give(subject, count)

    def take(self, subject: str, count: int = 1, *, wait_s: float = 0.0) -> None:
        """Take `count` places, after a wait of `wait_s` at most; no more callers wait than there are places.

        Raises
        ------
        ResourceExhaustedError
            The reason that was given; ``metadata["retry_after_s"]`` says when to try again.

        Notes
        -----
        Whoever has nothing yet is given more than the limits hold, when nothing else is taken: a limit below
        what one call needs would refuse it for ever.
        """
        with self._changed:
            if wait_s and not self._fits(subject, count) and self._waiting < self._most:
                self._waiting += 1
                try:
                    self._changed.wait_for(lambda: self._fits(subject, count), wait_s)
                finally:
                    self._waiting -= 1
            if not self._fits(subject, count):
                raise self._refusal(subject)
            self._taken[subject] += count
            self._total += count

    def give(self, subject: str, count: int = 1) -> None:
        """Give `count` places back."""
        with self._changed:
            self._total -= count
            self._taken[subject] -= count
            if not self._taken[subject]:
                del self._taken[subject]
            if self._waiting:
                self._changed.notify_all()

    def _fits(self, subject: str, count: int) -> bool:
        own = self._taken.get(subject, 0)
        is_within = self._total + count <= self._most and own + count <= self._most_per_subject
        return is_within or not self._total

    def _refusal(self, subject: str) -> ResourceExhaustedError:
        return ResourceExhaustedError(
            f"Too many {self._what}: {self._taken.get(subject, 0):,} are yours and {self._total:,} are taken"
            f" in all, of {self._most_per_subject:,} and {self._most:,}. Await or close some, or retry in a"
            " moment.",
            reason=self._reason,
            retry_after_s=self._retry_after_s,
        )
