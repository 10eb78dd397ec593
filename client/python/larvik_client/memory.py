"""The C allocator of the caller's process, asked to keep a little of what is freed."""

from __future__ import annotations

import ctypes
import sys

#: Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Blocks below this size come from the heap, and so much free heap stays with the process, in bytes.
HEAP_BLOCK_BYTES = 32 << 20
KEPT_BYTES = 64 << 20

_is_tuned = False


def keep_message_buffers() -> bool:
    """Let malloc keep up to 64 MiB that were freed; return whether it agreed.

    Notes
    -----
    gRPC takes a fresh block of memory for every message of a stream. By default glibc gives these back to the
    system at once, and their pages are faulted in anew. Blocks of 32 MiB and more, such as large arrays, are
    mapped and given back as before. Only glibc has these parameters; what the variables ``MALLOC_*`` or
    ``GLIBC_TUNABLES`` say of them is overruled for this process.
    """
    global _is_tuned
    if _is_tuned or not sys.platform.startswith("linux"):
        return _is_tuned
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        wanted = ((_M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES), (_M_TRIM_THRESHOLD, KEPT_BYTES))
        _is_tuned = all(mallopt(parameter, value) == 1 for parameter, value in wanted)
    return _is_tuned
