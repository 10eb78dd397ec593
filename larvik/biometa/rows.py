"""biometa of rows and of queries: ``rep.biometa.channels``, ``query.biometa.channels``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from larvik.biometa.frame import BiometaFrame, frame_from_arrow
from larvik.biometa.tables import MODELS
from larvik.query.predicate import Compare, Lookup, Predicate
from larvik.query.query import Order, Query

if TYPE_CHECKING:
    from larvik.connection import Connection
    from larvik.models.array import LarvikArray
    from larvik.query.queryset import QuerySet

#: Order of the rows of one array.
ORDER = {
    "channels": ("index",),
    "planes": ("the_t", "the_c", "the_z"),
    "detector": ("index",),
}
#: Columns beside the metadata: the array that a row belongs to, and the row's own id.
IDS = {"array_id": "object_id", "id": "id"}


class Tables(ABC):
    """The five tables, and the original metadata, of some arrays; each is read when it is asked for."""

    @abstractmethod
    def _table(self, name: str) -> BiometaFrame:
        """Return one table, by its name in `larvik.biometa.tables.MODELS`."""

    @property
    def scan(self) -> BiometaFrame:
        """How the image was scanned: sizes, physical sizes in micrometer, time increment in second."""
        return self._table("scan")

    @property
    def channels(self) -> BiometaFrame:
        """One row for each position along ``c``: names, wavelengths in nanometer, colors."""
        return self._table("channels")

    @property
    def planes(self) -> BiometaFrame:
        """One row for each acquired plane: time in second, exposure, stage position in micrometer."""
        return self._table("planes")

    @property
    def objective(self) -> BiometaFrame:
        """The objective."""
        return self._table("objective")

    @property
    def detector(self) -> BiometaFrame:
        """The detectors."""
        return self._table("detector")

    @property
    def original(self) -> BiometaFrame:
        """The metadata as the file had it."""
        return self._table("original")

    def __repr__(self) -> str:
        return f"<biometa: {', '.join(MODELS)}>"


class RowBiometa(Tables):
    """biometa of one row that owns an array. Every table costs one statement.

    Parameters
    ----------
    row : LarvikArray
        A stored row.
    """

    def __init__(self, row: LarvikArray) -> None:
        self._row = row

    def _table(self, name: str) -> BiometaFrame:
        where = Compare(("object_id",), Lookup.EXACT, self._row.id)
        return fetch(self._row._bound(), name, (where,)).drop(columns=[*IDS])


class QueryBiometa(Tables):
    """biometa of every row of a query: one table, with the column ``array_id``. One statement each.

    Parameters
    ----------
    queryset : QuerySet
        Of a model whose rows own arrays.
    """

    def __init__(self, queryset: QuerySet[Any]) -> None:
        self._queryset = queryset

    def _table(self, name: str) -> BiometaFrame:
        where = Compare(("object_id",), Lookup.IN, self._queryset._query)
        return fetch(self._queryset._bound(), name, (where,), by_array=True).drop(columns=["id"])


def fetch(
    connection: Connection, name: str, where: Sequence[Predicate], *, by_array: bool = False
) -> BiometaFrame:
    """Return rows of one table as a frame, with the columns ``array_id`` and ``id`` at the end."""
    keys = (("object_id",) if by_array else ()) + ORDER.get(name, ())
    query = Query(MODELS[name], tuple(where), tuple(Order((key,)) for key in keys))
    return frame_from_arrow(name, connection.catalog.table(query).read_all(), IDS)
