"""Large evaluations on a Dask cluster, whose workers read the store themselves."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from larvik.errors import CallCancelledError, LarvikError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    import numpy as np

    from larvik.array.budget import Budget
    from larvik.array.expression import Expression, Source
    from larvik.array.regions import Region
    from larvik.services.arrays import StoredArray
    from larvik.storage.base import Store

    Block = tuple[tuple[int, ...], np.ndarray]

#: Decoded bytes below which the server computes by itself: sending tasks would take longer.
LEAST_BYTES = 1 << 30
#: Blocks that are under way for one evaluation, and how often its caller is asked for, in seconds.
AHEAD = 8
ASKED_S = 0.1
#: Options of a store that tasks carry; workers have credentials of their own.
CARRIED = ("endpoint_url", "region", "anon", "timeout_s")

_stores: dict[tuple[int, str], Store] = {}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A scheduler, and where the arrays are for its workers.

    Attributes
    ----------
    address : str
        Of the scheduler; empty without a cluster.
    store_url : str
        Folder or bucket, the same for workers as for the server.
    store_options : mapping
        Those of the store that are no secrets.
    least_bytes : int
        Decoded bytes from which an evaluation is sent there.
    """

    address: str = ""
    store_url: str = ""
    store_options: Mapping[str, Any] = field(default_factory=dict)
    least_bytes: int = LEAST_BYTES

    def takes(self, source_bytes: int, arrays: Mapping[str, StoredArray]) -> bool:
        """Return whether an evaluation belongs there: it is large, and of arrays that workers reach."""
        is_ours = all(stored.fingerprint is None for stored in arrays.values())
        return bool(self.address) and source_bytes >= self.least_bytes and is_ours

    def evaluate(
        self,
        expression: Expression,
        arrays: Mapping[str, StoredArray],
        regions: Iterable[Region],
        budget: Budget,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Block]:
        """Yield the blocks of `regions` in order, computed by the workers, a few ahead.

        Raises
        ------
        UnavailableError
            ``SERVER_UNREACHABLE``, when the scheduler does not answer or workers are lost.
        CallCancelledError
            When `cancelled` said so.
        """
        from larvik.array.cluster import client_of
        from larvik.array.serial import to_dict

        client = client_of(self.address)
        carried = {
            key: value for key, value in self.store_options.items() if key in CARRIED and value is not None
        }
        shared = (to_dict([expression]), dict(arrays), self.store_url, carried, budget)
        running: deque[tuple[Region, Any]] = deque()
        try:
            for region in regions:
                running.append((region, client.submit(compute_block, *shared, region, pure=False)))
                if len(running) >= AHEAD:
                    yield self._taken(*running.popleft(), cancelled)
            while running:
                yield self._taken(*running.popleft(), cancelled)
        finally:
            client.cancel([future for _, future in running], force=True)

    def _taken(self, region: Region, future: Any, cancelled: Callable[[], bool] | None) -> Block:
        while True:
            if cancelled is not None and cancelled():
                future.cancel(force=True)
                raise CallCancelledError("The evaluation was cancelled.")
            try:
                block = future.result(timeout=ASKED_S)
            except LarvikError:
                raise
            except Exception as error:
                if isinstance(error, TimeoutError) and not future.done():
                    continue
                raise UnavailableError(
                    "The Dask cluster of the server lost its workers, or they could not compute. Try again.",
                    reason="SERVER_UNREACHABLE",
                ) from error
            return tuple(int(picks[0]) if len(picks) else 0 for picks in region), block


def compute_block(
    payload: Mapping[str, Any],
    arrays: Mapping[str, StoredArray],
    store_url: str,
    store_options: Mapping[str, Any],
    budget: Budget,
    region: Region,
) -> np.ndarray:
    """Return one block of an expression; run by workers, which open the store by themselves."""
    from larvik.array.evaluate import evaluate
    from larvik.array.serial import from_dict
    from larvik.storage.engine import open_reader

    (expression,) = from_dict(payload)
    store = _store(store_url, store_options)

    def open_source(source: Source) -> Any:
        stored = arrays.get(source.array_id)
        if stored is None:
            raise NotFoundError(f"There is no array {source.array_id}.", reason="ARRAY_NOT_FOUND")
        return open_reader(store, stored.location, stored.spec.levels[source.level], stored.spec.dtype)

    ((_, block),) = evaluate(expression, open_source, budget=budget, regions=[region])
    return block


def _store(url: str, options: Mapping[str, Any]) -> Store:
    from larvik.storage.base import open_store

    key = (os.getpid(), url)
    if key not in _stores:
        _stores[key] = open_store(url, **options)
    return _stores[key]
