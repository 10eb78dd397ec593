"""Connections: the one seam between what people write and where it runs.

`connect` opens a folder in this process or a server over the network; both give a `Connection`
whose calls return the same values and raise the same errors.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from larvik.errors import InvalidArgumentError, PreconditionError, UnsupportedError
from larvik.query.query import Page, Query, Record
from larvik.schema import Registry

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from larvik.array.evaluator import Evaluator
    from larvik.array.spec import ArraySpec

#: Called with (done, total) steps of long work.
Progress = Callable[[int, int], None]
#: Called now and then during long work; True asks it to stop with CallCancelledError.
Cancelled = Callable[[], bool]


class Catalog(Protocol):
    """Rows: queries and writes. Values are those of `larvik.schema.FieldType`."""

    def page(self, query: Query, *, size: int = 100, token: str | None = None) -> Page:
        """Return one page of rows, in order, and the token of the next; one SELECT.

        Stable under inserts: a token holds the last row's keys, never an offset.
        """

    def count(self, query: Query) -> int:
        """Return the number of rows."""

    def table(self, query: Query) -> pa.RecordBatchReader:
        """Return all rows of `query` columnar, streamed; columns named by field, parts with labels."""

    def create(self, model: str, rows: Sequence[Mapping[str, object]]) -> list[Record]:
        """Store rows in one transaction; a row with a stored id and the same content is returned as it is."""

    def update(self, model: str, id: str, changes: Mapping[str, object], revision: int | None) -> Record:
        """Change one row; with `revision`, only if it is still the stored one (else ConflictError)."""

    def update_many(self, query: Query, changes: Mapping[str, object]) -> int:
        """Change every row of `query` in one transaction; return how many."""

    def delete(self, model: str, id: str) -> Record:
        """Move a row to the trash (a part is removed for good)."""

    def delete_many(self, query: Query) -> int:
        """Move every row of `query` to the trash; return how many."""

    def restore(self, model: str, id: str) -> Record:
        """Bring a row back from the trash."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload session: where the blocks of an array that does not exist yet are put.

    ``spec`` has the grid that was chosen: blocks are the shard regions of level 0.
    """

    id: str
    model: str
    array_id: str
    spec: ArraySpec


class Arrays(Protocol):
    """Pixels: reading expressions, and writing new arrays through upload sessions."""

    @property
    def evaluator(self) -> Evaluator:
        """What lazy arrays of this connection evaluate through."""

    def begin(
        self, model: str, values: Mapping[str, object], spec: ArraySpec, biometa: Mapping[str, Sequence[Mapping[str, object]]]
    ) -> Upload:
        """Open a session for one new array of `model`.

        ``values`` are the columns of the row (id included, so that a repeat finds its session);
        ``spec`` needs axes, dtype, one level and coordinates: the grid is chosen by the service.
        ``biometa`` maps model names (``Channel``, ...) to rows without ``object_id``.
        """

    def put(self, upload: Upload, start: tuple[int, ...], block: np.ndarray) -> None:
        """Store the block of level 0 whose first element is at `start`; repeating it is harmless."""

    def put_many(self, upload: Upload, blocks: Iterator[tuple[tuple[int, ...], np.ndarray]]) -> None:
        """Store many blocks over one stream."""

    def commit(self, upload: Upload, *, progress: Progress | None = None, cancelled: Cancelled | None = None) -> Record:
        """Build the levels, then make the array visible in one transaction; return its row."""

    def abort(self, upload: Upload) -> None:
        """Drop the session and its bytes."""

    def write_table(self, values: Mapping[str, object], rows: pa.Table) -> Record:
        """Store a measurement table; return its row of model ``Table``."""

    def read_table(self, id: str) -> pa.Table:
        """Return the rows of a measurement table."""

    def import_path(self, path: str, options: Mapping[str, object], *, progress: Progress | None = None) -> list[Record]:
        """Import or register a path that the server sees, below one of its configured roots."""


class Connection(Protocol):
    """One way to a Larvik: a folder opened in this process, or a server."""

    url: str
    registry: Registry
    catalog: Catalog
    arrays: Arrays

    def close(self) -> None:
        """Release files and sockets; idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
