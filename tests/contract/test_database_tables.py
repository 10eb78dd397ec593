"""Whole tables as Arrow, on both databases: small and large results, types, failures."""

from __future__ import annotations

import gc
import json
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fixtures.databases import principal_of
from larvik.db import bulk
from larvik.db.engine import Database
from larvik.db.unit_of_work import UnitOfWork
from larvik.errors import UnavailableError
from larvik.ids import new_id
from larvik.models import registry
from larvik.query.predicate import And, Compare, Lookup, Not
from larvik.query.query import Order, Query
from larvik.services.catalog import CatalogService
from larvik.testing.statements import count_statements

LARGE = bulk.SMALL + 500
TEXTS = ["", "%s %(x)s $1 :x ?", "'; DROP TABLE sample; --", "\\", "é\U0001f600", "\n\t\"'"]


@pytest.fixture
def catalog(database: Database):
    service = CatalogService(database, registry)
    yield service
    service.close()


def fill(database: Database, count: int) -> None:
    """Store arrays, one region each and channels of every shape of value."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with UnitOfWork(database) as work:
        rows = [
            {
                "id": new_id(),
                "name": TEXTS[index % len(TEXTS)],
                "acquired_at": start + timedelta(microseconds=index) if index > LARGE // 2 else None,
                "acquired_local": None if index < count - 5 else "2026-01-01T00:00",
                "attributes": {"index": index, "text": TEXTS[index % len(TEXTS)]} if index % 3 else None,
            }
            for index in range(count)
        ]
        computed = [
            {
                "dims": ("y", "x")[: index % 3],
                "shape": (index, 2**40)[: index % 3],
                "dtype": "uint8",
                "spec": {"a": [index]},
            }
            for index in range(count)
        ]
        work.create("Representation", rows, computed=computed)
        regions = [
            {"representation_id": row["id"], "kind": "point", "vertices": struct.pack("<2d", index, 0.1)}
            for index, row in enumerate(rows)
        ]
        work.create("ROI", regions)
        channels = [
            {
                "object_id": row["id"],
                "index": index,
                "emission_wavelength": None if index < count - 5 else 0.1 * index,
                "name": None if index % 2 else TEXTS[index % len(TEXTS)],
            }
            for index, row in enumerate(rows)
        ]
        work.create("Channel", channels)


def pages(catalog: CatalogService, principal, query: Query) -> list[dict[str, object]]:
    found, token = [], None
    while True:
        page = catalog.page(principal, query, size=1000, token=token)
        found += [dict(record.values) for record in page.records]
        token = page.next_token
        if token is None:
            return found


def plain(value: object) -> object:
    """Return a value of a record as Arrow gives it back."""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("count", [0, 3, LARGE])
@pytest.mark.parametrize("model", ["Representation", "ROI", "Channel"])
def test_a_table_has_the_rows_of_the_pages(database, catalog, principal, model, count):
    fill(database, count)
    query = Query(model)
    table = catalog.table(principal, query).read_all()
    table.validate(full=True)
    spec = registry.get(model)
    labels = {column.name: column.label or column.name for column in spec.columns()}
    wanted = [
        {labels[name]: plain(value) for name, value in row.items()}
        for row in pages(catalog, principal, query)
    ]
    assert table.schema == catalog.table_schema(principal, query)
    assert table.to_pylist() == wanted


def test_the_types_are_those_of_the_contract(catalog, principal):
    schema = catalog.table_schema(principal, Query("Representation"))
    assert schema.field("id").type == pa.utf8()
    assert schema.field("created_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("is_registered").type == pa.bool_()
    assert schema.field("shape").type == pa.list_(pa.int64())
    assert schema.field("dims").type == pa.list_(pa.utf8())
    assert catalog.table_schema(principal, Query("ROI")).field("vertices").type == pa.binary()
    channel = catalog.table_schema(principal, Query("Channel", columns=("emission_wavelength", "object_id")))
    assert channel.names == ["EmissionWavelength", "object_id"]
    assert channel.field("EmissionWavelength").metadata == {b"unit": b"nanometer"}


def test_values_of_every_type_are_bound_safely(database, catalog, principal):
    fill(database, LARGE)
    known = pages(catalog, principal, Query("Representation", limit=5))
    name, dims, revision = Compare(("name",), Lookup.IN, TEXTS), ("dims",), ("revision",)
    ids = [str(new_id()) for _ in range(1000)] + [str(row["id"]) for row in known]
    for where in (
        name,
        Compare(("name",), Lookup.CONTAINS, "%(x)s"),
        Not(Compare(("name",), Lookup.EXACT, "'; DROP TABLE sample; --")),
        Not(Compare(("id",), Lookup.IN, ids)),
        And(
            (Compare(dims, Lookup.IN, [("y",), ("y", "x"), ()]), Compare(revision, Lookup.RANGE, (0, 2**62)))
        ),
        Compare(("created_at",), Lookup.LTE, datetime.now(UTC)),
        Compare(("is_registered",), Lookup.EXACT, False),
        Not(Compare(("biometa__channels", "emission_wavelength"), Lookup.IN, [0.1, 5.0])),
        Not(Compare(("rois", "representation_id"), Lookup.IN, Query("Representation", limit=3))),
    ):
        query = Query("Representation", (where,), (Order(("name",), True),), columns=("id",))
        wanted = [row["id"] for row in pages(catalog, principal, query)]
        assert wanted
        assert catalog.table(principal, query).read_all()["id"].to_pylist() == wanted


@pytest.mark.parametrize("bounds", [(0, 10), (5, 2100), (2300, None), (LARGE, 5)])
def test_offset_and_limit_hold(database, catalog, principal, bounds):
    fill(database, LARGE)
    query = Query(
        "Channel", order_by=(Order(("index",), True),), offset=bounds[0], limit=bounds[1], columns=("index",)
    )
    wanted = list(range(LARGE))[::-1][bounds[0] :][: bounds[1]]
    assert catalog.table(principal, query).read_all()["Index"].to_pylist() == wanted


def test_few_rows_cost_one_statement_and_many_two(database, catalog, principal):
    fill(database, LARGE)
    for query, cost in ((Query("Channel", limit=3), 1), (Query("Channel"), 2)):
        with count_statements(database) as statements:
            catalog.table(principal, query).read_all()
        assert len(statements) == cost


def test_a_reader_that_is_dropped_leaves_nothing_behind(database, catalog, principal):
    fill(database, LARGE)
    for _ in range(3):
        reader = catalog.table(principal, Query("Representation"))
        reader.read_next_batch()
        del reader
    gc.collect()
    assert catalog.table(principal, Query("Representation")).read_all().num_rows == LARGE
    assert database.engine.pool.checkedout() == 0


def test_tables_are_read_by_several_threads_at_once(database, catalog, principal):
    fill(database, LARGE)
    counts: list[int] = []

    def read() -> None:
        counts.append(catalog.table(principal, Query("Channel")).read_all().num_rows)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [LARGE] * 4


@pytest.fixture
def local(sqlite_database: Database):
    """Give a catalog on SQLite that has started a reading process, and who may read it."""
    service, principal = CatalogService(sqlite_database, registry), principal_of(sqlite_database)
    fill(sqlite_database, LARGE)
    service.table(principal, Query("Channel")).read_all()
    yield service, principal
    service.close()


def test_a_reading_process_that_dies_is_an_error_and_the_next_table_works(local):
    catalog, principal = local
    idle = catalog._tables._processes._idle
    (process,) = idle
    process.send_signal(signal.SIGSTOP)
    reader = catalog.table(principal, Query("Representation"))

    def kill_when_taken() -> None:
        while idle:
            pass
        process.kill()

    killer = threading.Thread(target=kill_when_taken)
    killer.start()
    with pytest.raises(UnavailableError, match="broke off"):
        reader.read_all()
    killer.join()
    assert catalog.table(principal, Query("Channel")).read_all().num_rows == LARGE


def test_reading_tables_never_loses_what_is_committed(local, sqlite_database):
    """Two copies of SQLite in one process would delete each other's write-ahead log."""
    catalog, principal = local
    for index in range(5):
        catalog.create(principal, "Experiment", [{"name": f"e{index}"}])
        catalog.table(principal, Query("Channel")).read_all()
    catalog.create(principal, "Experiment", [{"name": "last"}])
    script = (
        "import sqlite3, sys\n"
        "found = sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM experiment')\n"
        "print(found.fetchone()[0])"
    )
    command = [sys.executable, "-c", script, str(sqlite_database.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "6"
    assert "libadbc_driver_sqlite" not in Path("/proc/self/maps").read_text()


def test_a_closed_catalog_leaves_no_process(local, sqlite_database):
    catalog, _ = local
    (process,) = catalog._tables._processes._idle
    catalog.close()
    assert process.poll() is not None
    with closing(sqlite3.connect(sqlite_database.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
