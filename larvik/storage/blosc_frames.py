"""Single blocks of a blosc chunk: read and decoded as a smaller chunk of their own.

A chunk of c-blosc 1 is a header of 16 bytes, the offset of every block, and the blocks, each of which is
compressed alone (README_HEADER.rst of c-blosc). Nothing here decodes: what blosc checks in a whole chunk it
checks in the smaller one too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

HEADER_BYTES = 16

_HEADER = struct.Struct("<BBBBIII")
_MEMCPYED, _NOT_SPLIT = 0x02, 0x10


@dataclass(frozen=True, slots=True)
class Blocks:
    """Some neighbouring blocks of a chunk.

    Attributes
    ----------
    start, stop : int
        Bytes of the decoded chunk that they hold.
    offset, length : int
        Bytes of the stored chunk that they are.
    head : bytes
        What makes these stored bytes a blosc chunk when it is put before them; empty for raw bytes.
    """

    start: int
    stop: int
    offset: int
    length: int
    head: bytes


def find_blocks(head: bytes | memoryview, start: int, stop: int) -> Blocks | None:
    """Return the blocks that hold the decoded bytes from `start` to `stop`.

    Parameters
    ----------
    head : bytes-like
        The first bytes of a chunk, the header at least; `start` and `stop` lie inside what it says.

    Returns
    -------
    Blocks or None
        None when all blocks are needed, when they are not stored in order, or when `head` does not
        have their offsets.

    Raises
    ------
    ValueError
        When header or offsets contradict each other.
    """
    version, codec_version, flags, typesize, size, block, stored = _HEADER.unpack_from(head)
    if flags & _MEMCPYED:
        if stored != HEADER_BYTES + size:
            raise ValueError("the sizes in the blosc header do not fit")
        return Blocks(start, stop, HEADER_BYTES + start, stop - start, b"")
    if not 0 < block <= size:
        return None
    count, first, last = -(-size // block), start // block, -(-stop // block)
    table = HEADER_BYTES + 4 * count
    read = min(last + 1, count)
    if last - first >= count or HEADER_BYTES + 4 * read > len(head):
        return None
    offsets = np.frombuffer(head, "<i4", read - first, HEADER_BYTES + 4 * first)
    bounds = [*offsets.tolist(), stored][: last - first + 1]
    if sorted(bounds) != bounds:
        return None  # compressed by several threads
    if bounds[0] < table or bounds[-1] > stored:
        raise ValueError("the offsets in the blosc header do not fit")
    begin, end = first * block, min(last * block, size)
    if end - begin < block:
        # The short last block alone: it is never split, and is as long as a chunk of one block.
        block, flags = end - begin, flags | _NOT_SPLIT
    length, own_table = bounds[-1] - bounds[0], HEADER_BYTES + 4 * (last - first)
    own_offsets = [bound - bounds[0] + own_table for bound in bounds[:-1]]
    own_head = _HEADER.pack(version, codec_version, flags, typesize, end - begin, block, own_table + length)
    return Blocks(begin, end, bounds[0], length, own_head + struct.pack(f"<{last - first}i", *own_offsets))
