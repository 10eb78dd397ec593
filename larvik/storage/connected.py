"""Arrays of a connection as read-only Zarr stores: ``connection.store(row)``.

Each level is presented by its inner chunks, unsharded, so that every key is one small read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from larvik.array.expression import Source
from larvik.array.open import level_sources
from larvik.array.rows import open_array
from larvik.array.spec import ArraySpec
from larvik.errors import UnsupportedError
from larvik.query.fetch import records
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Order, Query
from larvik.storage.documents import json_bytes
from larvik.storage.group import channel_displays, omero_document
from larvik.storage.multiscale import multiscales_document
from larvik.storage.presented import Documents, Form, form_of
from larvik.storage.presented_objects import Level, PresentedObjects
from larvik.storage.zarr_metadata import ArrayMetadata
from larvik.storage.zarr_store import ReadOnlyStore

if TYPE_CHECKING:
    import xarray as xr

    from larvik.array.evaluator import Evaluator
    from larvik.models.array import LarvikArray

#: Name of the pixels where one level is presented with its coordinates, as in ``row.tree``.
IMAGE = "image"
#: How long an opened level is read before rights and version are asked for again, in seconds.
KEPT_S = 1.0


@runtime_checkable
class StoredReader(Protocol):
    """What a reader of a stored level can do beyond reading pixels."""

    @property
    def metadata(self) -> ArrayMetadata:
        """Of the array as stored."""

    def stored_chunk(self, index: tuple[int, ...]) -> bytes | None:
        """Return the stored bytes of one inner chunk, or None when it is not stored."""


class EvaluatorChunks:
    """Chunks of the levels of one array, as a connection's evaluator reads them. Thread-safe; pickles by URL.

    Parameters
    ----------
    sources : sequence of Source
        The levels, finest first.
    evaluator : Evaluator or str
        Of the connection, or the connection's URL.
    """

    def __init__(self, sources: Sequence[Source], evaluator: Evaluator | str) -> None:
        self._sources = tuple(sources)
        self._evaluator = evaluator
        self._kept: dict[int, tuple[float, StoredReader]] = {}

    def metadata(self, level: int) -> ArrayMetadata:
        """Return the metadata of a level, as stored."""
        return self._reader(level).metadata

    def chunk(self, level: int, index: tuple[int, ...]) -> bytes | None:
        """Return the stored bytes of one inner chunk, or None when it is not stored."""
        return self._reader(level).stored_chunk(index)

    def _reader(self, level: int) -> StoredReader:
        now = time.monotonic()
        kept = self._kept.get(level)
        if kept is not None and now - kept[0] < KEPT_S:
            return kept[1]
        if isinstance(self._evaluator, str):
            from larvik.connection import evaluator_for

            self._evaluator = evaluator_for(self._evaluator)
        reader = self._evaluator.reader(self._sources[level])
        if not isinstance(reader, StoredReader):
            raise UnsupportedError(
                f"{self._evaluator.url} gives pixels alone, no stored chunks. Read row.array instead."
            )
        self._kept[level] = now, reader
        return reader

    @property
    def _url(self) -> str:
        return self._evaluator if isinstance(self._evaluator, str) else self._evaluator.url

    def _key(self) -> tuple[Any, ...]:
        return self._url, *(source.token for source in self._sources)

    def __repr__(self) -> str:
        return f"{self._url}/arrays/{self._sources[0].array_id}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EvaluatorChunks) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        from larvik.array.serial import to_dict

        return _reopen, (to_dict(self._sources), self._url)


def _reopen(sources: Mapping[str, Any], url: str) -> EvaluatorChunks:
    from larvik.array.serial import from_dict

    return EvaluatorChunks([item for item in from_dict(sources) if isinstance(item, Source)], url)


def open_store(row: LarvikArray, evaluator: Evaluator, level: int | None = None) -> ReadOnlyStore:
    """Return the array of a row as a read-only Zarr store.

    Parameters
    ----------
    row : LarvikArray
        A stored row.
    evaluator : Evaluator
        Of the connection that reads.
    level : int, optional
        Presents this level alone, as the variable ``image`` of a group with its coordinates, which is what
        ``xarray.open_zarr`` opens. Without it the group is an OME-Zarr image with the arrays ``"0"``, ...

    Returns
    -------
    ReadOnlyStore
        Chunks are the stored bytes of inner chunks, nothing is decoded on the way.

    Raises
    ------
    SelectionError
        ``SELECTION_OUT_OF_BOUNDS``, for a level that is not there.
    PreconditionError
        ``PRECONDITION_FAILED``, for a row that was not stored yet.
    UnsupportedError
        ``OPERATION_UNSUPPORTED``, when the connection does not give stored chunks.
    """
    array = open_array(row, level or 0)  # checks the row and the level
    spec = ArraySpec.from_dict(row.spec or {})
    chunks = EvaluatorChunks(level_sources(spec, row.id, row.version), evaluator)
    numbers = {str(number): number for number in range(len(spec.levels))} if level is None else {IMAGE: level}
    stored = {name: chunks.metadata(number) for name, number in numbers.items()}
    form = form_of(list(stored.values()))
    levels = {name: Level.of(numbers[name], metadata, form) for name, metadata in stored.items()}
    if level is None:
        arrays = {name: form.array(metadata, spec.dims, {}) for name, metadata in stored.items()}
        group = form.group(_image_attributes(row, spec, form), arrays)
        return ReadOnlyStore(PresentedObjects(_encoded(group, arrays), levels, chunks))
    grid = dict(zip(spec.dims, stored[IMAGE].chunks, strict=True))
    coordinates = {str(name): _coordinate(form, item, grid) for name, item in array.coords.items()}
    arrays = {IMAGE: form.array(stored[IMAGE], spec.dims, _array_attributes(array))}
    arrays.update({name: documents for name, (documents, _) in coordinates.items()})
    values = {
        f"{name}/{key}": data for name, (_, found) in coordinates.items() for key, data in found.items()
    }
    group = form.group({"title": row.name}, arrays)
    return ReadOnlyStore(PresentedObjects({**_encoded(group, arrays), **values}, levels, chunks))


def _image_attributes(row: LarvikArray, spec: ArraySpec, form: Form) -> dict[str, Any]:
    """Return the attributes of the group of all levels: OME-Zarr's, the row's own, and ids."""
    kind = getattr(row, "kind", "intensity")
    larvik = {"array_id": row.id, "version": row.version, "name": row.name, "kind": kind}
    attributes = {**(row.attributes or {}), "larvik": larvik}
    if not spec.format.startswith("ome-zarr"):
        return attributes
    levels = (replace(level, path=str(number)) for number, level in enumerate(spec.levels))
    document: dict[str, Any] = {
        "multiscales": multiscales_document(replace(spec, levels=tuple(levels)), row.name, kind)
    }
    if "c" in spec.dims:
        channels = channel_displays(spec.channel_names, _channel_rows(row))
        document["omero"] = omero_document(channels, spec.dtype)
    if form.version == 3:
        return {**attributes, "ome": {"version": "0.5", **document}}
    document["multiscales"][0]["version"] = "0.4"
    return {**attributes, **document}


def _channel_rows(row: LarvikArray) -> list[Mapping[str, Any]]:
    where = Compare(("object_id",), Lookup.EXACT, row.id)
    query = Query("Channel", (where,), (Order(("index",)),))
    return [record.values for page in records(row._bound(), query) for record in page]


def _array_attributes(array: xr.DataArray) -> dict[str, Any]:
    """Return the attributes of the pixels; as CF has it, they name the coordinates that are no dims."""
    others = " ".join(str(name) for name in array.coords if name not in array.dims)
    return {**array.attrs, "coordinates": others} if others else dict(array.attrs)


def _coordinate(
    form: Form, coordinate: xr.DataArray, chunks: Mapping[str, int]
) -> tuple[Documents, dict[str, bytes]]:
    """Return a coordinate as `form` has it, in one chunk where it is a dim's, else in those of the pixels."""
    dims = [str(dim) for dim in coordinate.dims]
    grid = coordinate.shape if dims == [coordinate.name] else [chunks[dim] for dim in dims]
    return form.coordinate(dims, coordinate.values, coordinate.attrs, grid)


def _encoded(group: Documents, arrays: Mapping[str, Documents]) -> dict[str, bytes]:
    """Return the documents of a group and of its members as JSON, by key."""
    members = {f"{name}/{key}": item for name, found in arrays.items() for key, item in found.items()}
    return {key: json_bytes(document, key) for key, document in {**group, **members}.items()}
