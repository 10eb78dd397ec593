"""What a tile channel has opened, and the bytes of one tile of it."""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.budget import Budget, Estimates
from larvik.array.evaluate import evaluate
from larvik.array.evaluator import Cancelled
from larvik.array.expression import Expression, Source
from larvik.array.regions import Region, lengths
from larvik.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError, SelectionError
from larvik.proto.v1 import flight_pb2
from larvik.services.arrays import ArrayService, StoredArray
from larvik.services.principal import Principal
from larvik.storage.engine import RegionReader
from larvik.wire.expressions import decode_expressions

#: Largest tile, in bytes.
MAX_TILE = 16 << 20
#: Most expressions that one channel keeps open, the bytes of their messages together, and those of one.
MAX_HANDLES = 256
MAX_OPENED = 16 << 20
MAX_OPEN = 1 << 20
#: Rights to an opened expression are looked up again after this time, in seconds.
RIGHTS_AGE_S = 5.0
#: What the evaluation of one tile may hold.
BUDGET = Budget(memory_bytes=64 << 20)

Pixels = NDArray[Any]


@dataclass(slots=True)
class Opened:
    """One expression that a channel reads from.

    Attributes
    ----------
    expression : Expression
        What is read.
    size_bytes : int
        Of its message.
    arrays : mapping
        Where its arrays are stored, by id.
    checked_at : float
        When rights to them were looked up, by ``time.monotonic``.
    reader : RegionReader or None
        Of an expression that is a stored level.
    seconds : float
        What a tile of it took lately.
    last : tuple or None
        First element and size of the tile that was read last.
    """

    expression: Expression
    size_bytes: int
    arrays: Mapping[str, StoredArray] = field(default_factory=dict)
    checked_at: float = -math.inf
    reader: RegionReader | None = None
    seconds: float = 1.0
    last: tuple[tuple[int, ...], tuple[int, ...]] | None = None


class Tiles:
    """What one channel has opened. Thread-safe: readers are, and each evaluation is of one thread.

    Parameters
    ----------
    arrays : ArrayService
        Checks rights and reads.
    principal : Principal
        Whose rights.
    """

    def __init__(self, arrays: ArrayService, principal: Principal) -> None:
        self._arrays = arrays
        self._principal = principal
        self._opened: OrderedDict[int, Opened] = OrderedDict()

    def open(self, handle: int, message: flight_pb2.TileOpen) -> str:
        """Open an expression under a handle; return the metadata of a stored level, else an empty text.

        Raises
        ------
        InvalidArgumentError
            ``EXPRESSION_INVALID``; other errors as of `ArrayService.locate`.

        Notes
        -----
        Of more than `MAX_HANDLES`, or `MAX_OPENED` bytes, those that were not read for longest are closed.
        """
        size_bytes = message.ByteSize()
        if size_bytes > MAX_OPEN:
            raise InvalidArgumentError(
                f"The expression takes {size_bytes:,} bytes; a tile channel opens {MAX_OPEN:,}. Read it with"
                " DoGet.",
                reason="EXPRESSION_INVALID",
                field="open.expression",
            )
        expressions = decode_expressions(message.expression)
        if len(expressions) != 1:
            raise InvalidArgumentError(
                "A tile channel reads one result; open several expressions for several.",
                reason="EXPRESSION_INVALID",
                field="open.expression.results",
            )
        opened = Opened(expressions[0], size_bytes)
        self._check_rights(opened)
        self._opened[handle] = opened
        while (
            len(self._opened) > MAX_HANDLES or sum(o.size_bytes for o in self._opened.values()) > MAX_OPENED
        ):
            self._opened.popitem(last=False)
        return json.dumps(opened.reader.metadata.document) if opened.reader is not None else ""

    def find(self, handle: int) -> Opened:
        """Return what a handle stands for.

        Raises
        ------
        NotFoundError
            ``TILE_HANDLE_UNKNOWN``.
        """
        opened = self._opened.get(handle)
        if opened is None:
            raise NotFoundError(
                f"Nothing is open under the handle {handle} any more. Open the expression again.",
                reason="TILE_HANDLE_UNKNOWN",
            )
        self._opened.move_to_end(handle)
        return opened

    def size_bytes(self, opened: Opened, message: flight_pb2.TileRead) -> int:
        """Return the bytes of what is asked for, or of a decoded chunk where one is.

        Raises
        ------
        InvalidArgumentError
            ``TILE_INVALID``, for what cannot be asked of the expression.
        SelectionError
            ``SELECTION_OUT_OF_BOUNDS``.
        """
        dtype = opened.expression.dtype
        if message.encoding == flight_pb2.ENCODING_CHUNKS:
            chunks = opened.reader.chunks if opened.reader is not None else ()
            return min(MAX_TILE, math.prod(chunks) * dtype.itemsize)
        if message.encoding not in (flight_pb2.ENCODING_UNSPECIFIED, flight_pb2.ENCODING_DENSE):
            raise _invalid("takes ENCODING_DENSE or ENCODING_CHUNKS", "read.encoding")
        return _check_box(opened.expression, message) * dtype.itemsize

    def read(
        self, opened: Opened, message: flight_pb2.TileRead, cancelled: Cancelled
    ) -> Pixels | bytes | None:
        """Return what is asked for: elements in C order and little endian, or the stored bytes of a chunk.

        Check it with `size_bytes` first.

        Raises
        ------
        InvalidArgumentError
            ``TILE_INVALID``; errors of rights, of the store and of the evaluation besides.
        SelectionError
            ``SELECTION_OUT_OF_BOUNDS``.
        """
        if time.monotonic() - opened.checked_at > RIGHTS_AGE_S:
            self._check_rights(opened)
        if message.encoding == flight_pb2.ENCODING_CHUNKS:
            return self._chunk(opened, message)
        start, size = tuple(message.start), tuple(message.size)
        began = time.perf_counter()
        if opened.reader is not None:
            pixels = opened.reader.read(tuple(map(_slice, start, size)))
            self._prefetch(opened, start, size)
        else:
            pixels = self._evaluate(opened, tuple(map(_range, start, size)), cancelled)
        opened.seconds += (time.perf_counter() - began - opened.seconds) / 4
        return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))

    def _check_rights(self, opened: Opened) -> None:
        now = time.monotonic()
        opened.arrays = self._arrays.locate(self._principal, [opened.expression])
        if isinstance(opened.expression, Source):
            opened.reader = self._arrays.opener(opened.arrays)(opened.expression)
        opened.checked_at = now

    def _chunk(self, opened: Opened, message: flight_pb2.TileRead) -> bytes | None:
        if opened.reader is None:
            raise _invalid(
                "reads stored chunks of a stored level alone, not of a computed expression", "read"
            )
        if len(message.start) != opened.expression.ndim or message.size:
            raise _invalid(
                f"takes the index of a chunk in {opened.expression.ndim} numbers, and no size", "read.start"
            )
        data = opened.reader.stored_chunk(tuple(message.start))
        if data is not None and len(data) > MAX_TILE:
            raise _invalid(
                f"is a chunk of {len(data):,} bytes; a tile has at most {MAX_TILE:,}", "read.start"
            )
        return data

    def _evaluate(self, opened: Opened, region: Region, cancelled: Cancelled) -> Pixels:
        out = np.empty(lengths(region), opened.expression.dtype)
        parts = list(_parts(opened.expression, region))
        blocks = evaluate(
            opened.expression,
            self._arrays.opener(opened.arrays),
            budget=BUDGET,
            regions=parts,
            cancelled=cancelled,
        )
        for part, (_, block) in zip(parts, blocks, strict=True):
            place: Any = tuple(
                slice(picks[0] - whole[0], picks[-1] + 1 - whole[0])
                for picks, whole in zip(part, region, strict=True)
            )
            out[(*place, ...)] = block
        return out

    def _prefetch(self, opened: Opened, start: tuple[int, ...], size: tuple[int, ...]) -> None:
        """Have the next tile decoded, where this one and the one before lie one step apart along an axis."""
        last, opened.last = opened.last, (start, size)
        if last is None or last[1] != size or opened.reader is None:
            return
        steps = [a - b for a, b in zip(start, last[0], strict=True)]
        if sum(step != 0 for step in steps) != 1:
            return
        bounds = zip(start, steps, size, opened.reader.shape, strict=True)
        following = [(max(0, a + d), min(n, a + d + s)) for a, d, s, n in bounds]
        if all(a < b for a, b in following):
            opened.reader.prefetch(tuple(slice(a, b) for a, b in following))


def _check_box(expression: Expression, message: flight_pb2.TileRead) -> int:
    """Return the number of elements of a box that lies in the expression."""
    if len(message.start) != expression.ndim or len(message.size) != expression.ndim:
        raise _invalid(
            f"takes {expression.ndim} numbers, one per dim of the expression", "read.start and size"
        )
    count = 1
    for axis, (start, size, length) in enumerate(
        zip(message.start, message.size, expression.shape, strict=True)
    ):
        if size == 0 or start + size > length:
            raise SelectionError(
                f"The tile's {size} elements from {start} along dim {axis} are not some of the {length} that"
                " the expression has.",
                field="read.start",
            )
        count *= size
    if count * expression.dtype.itemsize > MAX_TILE:
        raise _invalid(f"asks for more than {MAX_TILE:,} bytes. Read it with DoGet", "read.size")
    return count


def _parts(expression: Expression, region: Region) -> Iterator[Region]:
    """Cut a region until the budget holds the evaluation of each part."""
    estimates = Estimates(BUDGET)
    pending = [region]
    while pending:
        part = pending.pop()
        shape = lengths(part)
        if estimates.peak(expression, shape) <= BUDGET.most_bytes:
            yield part
            continue
        axis = max(range(len(shape)), key=shape.__getitem__, default=0)
        if not shape or shape[axis] == 1:
            raise ResourceExhaustedError(
                "A single element of the tile takes more memory than a tile may. Read it with DoGet.",
                reason="MEMORY_EXHAUSTED",
            )
        half = shape[axis] // 2
        pending += [
            (*part[:axis], part[axis][half:], *part[axis + 1 :]),
            (*part[:axis], part[axis][:half], *part[axis + 1 :]),
        ]


def _slice(start: int, size: int) -> slice:
    return slice(start, start + size)


def _range(start: int, size: int) -> range:
    return range(start, start + size)


def _invalid(problem: str, name: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{name} {problem}.", reason="TILE_INVALID", field=name)
