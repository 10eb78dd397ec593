"""Named crash points: where a process can be made to die, so that tests see what it leaves behind.

``LARVIK_FAULT=storage.shard.written`` kills the process (SIGKILL, as the kernel's out-of-memory killer
would) when it first reaches that point; ``LARVIK_FAULT=storage.shard.written:3`` the third time. The
variable is read once, when this module is first imported; without it `reach` does nothing.
"""

from __future__ import annotations

import os
import signal
import threading

#: Every crash point of the core, in the order in which creating an array passes them.
POINTS = (
    "uploads.begun",
    "storage.shard.written",
    "uploads.block.written",
    "storage.level.written",
    "storage.group.before",
    "storage.group.written",
    "uploads.finished",
    "uploads.row.committed",
)

_name, _, _count = os.environ.get("LARVIK_FAULT", "").partition(":")
_left = int(_count) if _count.isdigit() else 1
_lock = threading.Lock()


def reach(point: str) -> None:
    """Die here, at once and without cleaning up, when `point` is the armed one; else do nothing."""
    global _left
    if point != _name:
        return
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
