"""Where imported images belong: the sample, its experiment, and the file they came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from larvik.ids import new_id
from larvik.query.predicate import Compare, Lookup, Predicate
from larvik.query.query import Page, Query, Record, Trash
from larvik.services.import_options import ImportOptions

Row = dict[str, object]


class Rows(Protocol):
    """The part of a connection's catalog that an import needs."""

    def page(self, query: Query, *, size: int = 100, token: str | None = None) -> Page:
        """Return one page of rows."""

    def restore(self, model: str, id: str) -> Record:
        """Bring a row back from the trash."""


@dataclass(slots=True)
class Parents:
    """The sample of an import; `new` are rows that do not exist yet, stored with the first image."""

    sample_id: str | None = None
    new: dict[str, list[Row]] = field(default_factory=dict)


def find_parents(rows: Rows, options: ImportOptions, file_name: str) -> Parents:
    """Return the sample that `options` name, found by name or to be made."""
    if options.sample_id is not None:
        return Parents(options.sample_id)
    if options.sample is None and options.experiment is None and options.experiment_id is None:
        return Parents()
    parents = Parents()
    experiment_id = options.experiment_id
    if experiment_id is None and options.experiment is not None:
        found = _first(rows, Query("Experiment", where=(_equals("name", options.experiment),)))
        experiment_id = str(found.values["id"]) if found else new_id()
        if found is None:
            parents.new["Experiment"] = [{"id": experiment_id, "name": options.experiment}]
    name = options.sample or file_name
    where: tuple[Predicate, ...] = (_equals("name", name),)
    if experiment_id is not None:
        where = (*where, _equals("experiment_id", experiment_id))
    sample = _first(rows, Query("Sample", where=where))
    parents.sample_id = str(sample.values["id"]) if sample else new_id()
    if sample is None:
        parents.new["Sample"] = [{"id": parents.sample_id, "name": name, "experiment_id": experiment_id}]
    return parents


@dataclass(slots=True)
class Original:
    """A file as the catalog knows it: its row, its series, and the images that came from each."""

    file: Row
    is_new: bool
    series: dict[int, Row] = field(default_factory=dict)
    images: dict[int, Record] = field(default_factory=dict)

    def series_row(self, index: int, name: str, info: dict[str, object]) -> tuple[Row, bool]:
        """Return the row of one series, and whether it is new."""
        known = self.series.get(index)
        if known is not None:
            return known, False
        row: Row = {
            "id": new_id(),
            "file_id": self.file["id"],
            "index": index,
            "name": name[:1000],
            "info": info,
        }
        return row, True


def find_original(rows: Rows, file: Row) -> Original:
    """Return what the catalog knows of a file with the digest of `file`; three statements.

    Of the images of one series, the newest stands for it.
    """
    known = _first(rows, Query("File", where=(_equals("digest", file["digest"]),)))
    if known is None:
        return Original({**file, "id": new_id()}, is_new=True)
    original = Original(dict(known.values), is_new=False)
    of_file = Query("Series", where=(_equals("file_id", known.values["id"]),), trash=Trash.INCLUDE)
    for record in _all(rows, of_file):
        live = (
            record
            if record.values["deleted_at"] is None
            else rows.restore("Series", str(record.values["id"]))
        )
        original.series[int(str(live.values["index"]))] = dict(live.values)
    numbers = {row["id"]: index for index, row in original.series.items()}
    images = Query(
        "Representation", where=(Compare(("series", "file_id"), Lookup.EXACT, known.values["id"]),)
    )
    for record in _all(rows, images):
        index = numbers.get(record.values["series_id"])  # none of a series that was made since we looked
        if index is not None and record.values["type"] in ("initial", "label"):
            original.images[index] = record
    return original


def _equals(column: str, value: object) -> Compare:
    return Compare((column,), Lookup.EXACT, value)


def _first(rows: Rows, query: Query) -> Record | None:
    return next(iter(rows.page(query, size=1).records), None)


def _all(rows: Rows, query: Query) -> Iterator[Record]:
    token: str | None = None
    while True:
        page = rows.page(query, size=500, token=token)
        yield from page.records
        token = page.next_token
        if token is None:
            return
