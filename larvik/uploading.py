"""Storing arrays of this process as rows: what ``Representation.objects.from_xarray`` does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from larvik.biometa.carry import carried
from larvik.errors import CallCancelledError, LarvikError
from larvik.formats.memory import from_memory
from larvik.query.fetch import columns_to_create
from larvik.services.prefetch import read_ahead
from larvik.storage.regions import regions

if TYPE_CHECKING:
    from larvik.array.spec import ArraySpec
    from larvik.connection import Cancelled, Progress
    from larvik.formats.base import SeriesSource
    from larvik.models.base import Model

#: Share of the work that is writing the finest level; the levels above it are the rest.
_WRITING = 0.75


def upload(
    row: Model,
    array: Any,
    *,
    dims: Sequence[str] | None = None,
    kind: str | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> None:
    """Store `array` as the pixels of the new `row`, which then has what the database gave it.

    Parameters are those of `larvik.query.special.ArrayQuerySet.from_xarray`. Read and written shard
    by shard; whatever ends it early leaves nothing.
    """
    source = from_memory(array, name=row._values["name"], kind=kind, dims=dims)
    along = carried(array, source.info, source.biometa).rows()
    arrays = row._bound().arrays
    session = arrays.begin(row._spec.name, _values(row, source), source.spec, along)
    steps = _Steps(progress, max(source.info.nbytes, 1))
    try:
        with read_ahead(_blocks(source, session.spec, steps, cancelled)) as blocks:
            arrays.put_many(session, blocks)
        record = arrays.commit(
            session,
            progress=lambda done, total: steps.tell(_WRITING + (1 - _WRITING) * done / max(total, 1)),
            cancelled=cancelled,
        )
    except BaseException:  # Ctrl-C included: the session must not outlive the call
        with suppress(LarvikError):
            arrays.abort(session)
        raise
    row._absorb(record)
    steps.tell(1.0)


class _Steps:
    """Tells the progress of one upload in bytes of its array, never backwards."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._told = -1

    def tell(self, fraction: float) -> None:
        done = int(self._total * fraction)
        if self._progress is not None and done > self._told:
            self._told = done
            self._progress(done, self._total)


def _values(row: Model, source: SeriesSource) -> dict[str, object]:
    values = columns_to_create(row)
    if row._spec.field("kind") is not None and "kind" not in row._changed:
        values["kind"] = source.info.kind
    return values


def _blocks(
    source: SeriesSource, spec: ArraySpec, steps: _Steps, cancelled: Cancelled | None
) -> Iterator[tuple[tuple[int, ...], Any]]:
    level = spec.levels[0]
    shards = list(regions(level.shape, level.shards))
    for number, region in enumerate(shards, start=1):
        if cancelled is not None and cancelled():
            raise CallCancelledError("Storing the array was cancelled.")
        yield tuple(part.start for part in region), source.read(region)
        steps.tell(_WRITING * number / len(shards))
