"""Reading arrays: where the sources of an expression are stored, who may read them, and their pixels."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from larvik.array.expression import Expression, Source, sources
from larvik.array.spec import ArraySpec
from larvik.errors import ConflictError, InvalidArgumentError, NotFoundError, PreconditionError
from larvik.ids import parse_id
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Page, Query, Record
from larvik.schema import Registry
from larvik.services.cluster import Cluster
from larvik.services.principal import Principal
from larvik.services.roots import Roots
from larvik.services.stored_objects import StoredObjects
from larvik.storage.base import Store
from larvik.storage.cache import ChunkCache
from larvik.storage.disk_cache import CachedStore
from larvik.storage.engine import RegionReader, open_reader
from larvik.storage.ngff import fingerprint

if TYPE_CHECKING:
    import numpy as np

    from larvik.array.budget import Budget
    from larvik.array.planner import Plan
    from larvik.array.regions import Region

#: Opened levels that are kept; each holds shard indexes, no pixels.
KEPT_READERS = 64
#: Decoded chunks that are kept, in bytes.
CACHE_BYTES = 128 << 20
#: A registered source is looked at again after this time.
FINGERPRINT_AGE_S = 1.0
_KEPT_MODELS = 10_000


class Pages(Protocol):
    """The part of the catalog that reads rows under a principal's rights."""

    def page(self, principal: Principal, query: Query, *, size: int = 100, token: str | None = None) -> Page:
        """Return one page of rows."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """Where one array is stored, as it was when the rights to it were checked.

    Attributes
    ----------
    id, version : str, int
        The array, and the version of its pixels.
    location : str
        Group below the store's root, or that of a registered source (see `larvik.services.roots`).
    spec : ArraySpec
        Axes, dtype and levels.
    fingerprint : str or None
        Of a registered source, when it was registered.
    stored_bytes : int
        Of all levels; 0 where nobody counted them.
    """

    id: str
    version: int
    location: str
    spec: ArraySpec
    fingerprint: str | None = None
    stored_bytes: int = 0

    @property
    def is_registered(self) -> bool:
        """Whether it lies in place, outside the store."""
        return self.fingerprint is not None


class ArrayService:
    """Reads expressions over stored arrays. Thread-safe.

    Parameters
    ----------
    catalog, registry, store, roots
        Rows, models, and where pixels are.
    cache_bytes : int
        Decoded chunks that may be kept because parts of them are used.
    """

    def __init__(
        self,
        catalog: Pages,
        registry: Registry,
        store: Store,
        roots: Roots,
        *,
        cache_bytes: int = CACHE_BYTES,
        cluster: Cluster | None = None,
    ) -> None:
        self._cluster = cluster or Cluster()
        self._catalog = catalog
        self._registry = registry
        self._store = store
        self._roots = roots
        self._models: OrderedDict[str, str] = OrderedDict()
        self._readers: OrderedDict[tuple[str, str | None, int], RegionReader] = OrderedDict()
        self._checked: dict[str, float] = {}
        self._cache = ChunkCache(cache_bytes)
        self._lock = threading.Lock()

    def record(self, principal: Principal, array_id: str) -> Record:
        """Return the row of an array, whatever its model.

        Raises
        ------
        NotFoundError
            ``ARRAY_NOT_FOUND``, also when `principal` may not read it.
        """
        array_id = parse_id(array_id, field="array")
        known = self._models.get(array_id)
        names = [spec.name for spec in self._registry if spec.is_array]
        for model in sorted(names, key=lambda name: (name != known, name != "Representation")):
            query = Query(model, where=(Compare(("id",), Lookup.EXACT, array_id),))
            found = self._catalog.page(principal, query, size=1).records
            if found:
                self._remember(array_id, model)
                return found[0]
        raise NotFoundError(
            f"There is no array {array_id}, or you may not read it.",
            reason="ARRAY_NOT_FOUND",
            array_id=array_id,
        )

    def locate(self, principal: Principal, expressions: Iterable[Expression]) -> dict[str, StoredArray]:
        """Return where every source of `expressions` is stored, by array id; checks rights and claims.

        Raises
        ------
        NotFoundError
            ``ARRAY_NOT_FOUND``.
        ConflictError
            ``ARRAY_VERSION_STALE``, when a source is of another version of the pixels.
        InvalidArgumentError
            ``EXPRESSION_INVALID``, when a source claims another shape, dtype or level.
        PreconditionError
            ``SOURCE_CHANGED``, when a registered source was changed since.

        Notes
        -----
        One statement for each array; reads no pixel.
        """
        found: dict[str, StoredArray] = {}
        for source in sources(expressions):
            if source.array_id not in found:
                found[source.array_id] = self.stored(self.record(principal, source.array_id))
            _check_source(source, found[source.array_id])
        return found

    def stored(self, record: Record) -> StoredArray:
        """Return where the array of a row is stored; checks the fingerprint of a registered one."""
        values = record.values
        stored = StoredArray(
            id=str(values["id"]),
            version=int(values["version"]),  # type: ignore[call-overload]  # INT64 column
            location=str(values["location"]),
            spec=ArraySpec.from_dict(values["spec"]),  # type: ignore[arg-type]  # JSON column
            fingerprint=values["fingerprint"],  # type: ignore[arg-type]  # STRING column
            stored_bytes=int(values["stored_bytes"] or 0),  # type: ignore[call-overload]  # INT64 column
        )
        self.check_unchanged(stored)
        return stored

    def reader(self, stored: StoredArray, level: int) -> RegionReader:
        """Return the reader of one level; opened readers are kept, the last `KEPT_READERS`."""
        key = (stored.location, stored.fingerprint, level)
        with self._lock:
            if key in self._readers:
                self._readers.move_to_end(key)
                return self._readers[key]
        store, location = self._open(stored)
        reader = open_reader(store, location, stored.spec.levels[level], stored.spec.dtype, cache=self._cache)
        with self._lock:
            self._readers[key] = reader
            while len(self._readers) > KEPT_READERS:
                self._readers.popitem(last=False)
        return reader

    def objects(self, stored: StoredArray, level: int) -> StoredObjects:
        """Return the stored objects of one level, to be handed out as they are."""
        store, _ = self._open(stored)
        if isinstance(store, CachedStore):
            store = store.store
        return StoredObjects(store, self.reader(stored, level), stored.is_registered)

    def source_reader(self, principal: Principal, source: Source) -> RegionReader:
        """Return the reader of `source`, after checking rights and what it claims."""
        return self.reader(self.locate(principal, [source])[source.array_id], source.level)

    def plan(self, principal: Principal, expression: Expression) -> Plan:
        """Return what evaluating `expression` here would read and give; checks rights, reads no pixel."""
        from larvik.array.planner import plan

        self.locate(principal, [expression])
        return plan(expression, remote=False)

    def read(
        self, principal: Principal, expression: Expression
    ) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Return the blocks of the value of `expression` with their starts, in no promised order.

        Rights are checked before this returns; blocks are computed one by one, in bounded memory.
        """
        return self.read_stored(expression, self.locate(principal, [expression]))

    def read_stored(
        self, expression: Expression, arrays: Mapping[str, StoredArray]
    ) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Return the blocks of `expression` over arrays that `locate` found, here or in another process."""
        from larvik.array.evaluate import evaluate

        return evaluate(expression, self.opener(arrays))

    def blocks(
        self,
        expression: Expression,
        arrays: Mapping[str, StoredArray],
        *,
        regions: Iterable[Region],
        budget: Budget,
        source_bytes: int,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Return the blocks of `expression` at `regions`, in their order: here, or by the Dask cluster.

        What reads many decoded bytes (`source_bytes`) goes to the cluster, if there is one.
        """
        from larvik.array.evaluate import evaluate

        if self._cluster.takes(source_bytes, arrays):
            return self._cluster.evaluate(expression, arrays, regions, budget, cancelled)
        return evaluate(expression, self.opener(arrays), budget=budget, regions=regions, cancelled=cancelled)

    def opener(self, arrays: Mapping[str, StoredArray]) -> Callable[[Source], RegionReader]:
        """Return what opens the sources of an expression over arrays that `locate` found."""

        def open_source(source: Source) -> RegionReader:
            stored = arrays.get(source.array_id)
            if stored is None:
                raise NotFoundError(
                    f"There is no array {source.array_id}, or you may not read it.", reason="ARRAY_NOT_FOUND"
                )
            _check_source(source, stored)
            return self.reader(stored, source.level)

        return open_source

    def _open(self, stored: StoredArray) -> tuple[Store, str]:
        if stored.fingerprint is None:
            return self._store, stored.location
        return self._roots.open(stored.location)

    def check_unchanged(self, stored: StoredArray) -> None:
        """Refuse a registered source that was changed; it is looked at every `FINGERPRINT_AGE_S`.

        Raises
        ------
        PreconditionError
            ``SOURCE_CHANGED``.
        """
        if stored.fingerprint is None:
            return
        now = time.monotonic()
        if now - self._checked.get(stored.id, -FINGERPRINT_AGE_S) < FINGERPRINT_AGE_S:
            return
        store, location = self._roots.open(stored.location)
        if fingerprint(store, location) != stored.fingerprint:
            self._checked.pop(stored.id, None)
            raise PreconditionError(
                f"The source of array {stored.id} was changed since it was registered. Import it again.",
                reason="SOURCE_CHANGED",
                array_id=stored.id,
            )
        if len(self._checked) >= _KEPT_MODELS:
            self._checked.clear()
        self._checked[stored.id] = now

    def _remember(self, array_id: str, model: str) -> None:
        with self._lock:
            self._models[array_id] = model
            while len(self._models) > _KEPT_MODELS:
                self._models.popitem(last=False)


def _check_source(source: Source, stored: StoredArray) -> None:
    if source.version != stored.version:
        raise ConflictError(
            f"Array {stored.id} has version {stored.version} now, not {source.version}: read its row again.",
            reason="ARRAY_VERSION_STALE",
            array_id=stored.id,
        )
    levels = stored.spec.levels
    if not 0 <= source.level < len(levels):
        raise InvalidArgumentError(
            f"Array {stored.id} has {len(levels)} levels; level {source.level} is none of them.",
            reason="EXPRESSION_INVALID",
            field="level",
        )
    level = levels[source.level]
    claimed = (source.shape, source.dtype.name, source.chunks)
    if claimed != (level.shape, stored.spec.dtype, level.chunks):
        raise InvalidArgumentError(
            f"Level {source.level} of array {stored.id} is {stored.spec.dtype} of shape {level.shape} in"
            f" chunks of {level.chunks}, not {claimed[1]} of {claimed[0]} in {claimed[2]}.",
            reason="EXPRESSION_INVALID",
            field="source",
        )
