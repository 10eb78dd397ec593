"""Storing arrays of this process as rows: what ``Representation.objects.from_xarray`` does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from larvik.biometa.carry import carried
from larvik.errors import LarvikError, UnavailableError
from larvik.formats.memory import from_memory
from larvik.query.fetch import columns_to_create
from larvik.services.sending import send_blocks

if TYPE_CHECKING:
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
    by shard. After a cut it goes on where it was. Whatever ends it early leaves nothing, except a server that
    cannot be reached while the caller chose the id: then a repeated call goes on with what is stored.
    """
    source = from_memory(array, name=row._values["name"], kind=kind, dims=dims)
    along = carried(array, source.info, source.biometa).rows()
    arrays = row._bound().arrays
    session = arrays.begin(row._spec.name, _values(row, source), source.spec, along)
    steps = _Steps(progress, max(source.info.nbytes, 1))
    try:
        send_blocks(
            arrays,
            session,
            source.read,
            advance=lambda share: steps.tell(_WRITING * share),
            cancelled=cancelled,
        )
        record = arrays.commit(
            session,
            progress=lambda done, total: steps.tell(_WRITING + (1 - _WRITING) * done / max(total, 1)),
            cancelled=cancelled,
        )
    except BaseException as error:  # Ctrl-C included: the session must not outlive the call
        if not (isinstance(error, UnavailableError) and "id" in row._changed):
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
