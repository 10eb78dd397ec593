"""Locks in a forked child: one that another thread of the parent held would never be released there."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class HasLocks(Protocol):
    """Something that survives a fork with new locks."""

    def renew_locks(self) -> None:
        """Make new locks; called in the child, which has one thread."""


_known: WeakSet[HasLocks] = WeakSet()


def renew_after_fork(item: HasLocks) -> None:
    """Have the locks of `item` renewed in every child that is forked while it lives."""
    _known.add(item)


def _renew() -> None:
    for item in tuple(_known):
        item.renew_locks()


os.register_at_fork(after_in_child=_renew)
