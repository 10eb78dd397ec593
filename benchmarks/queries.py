"""Queries over a million images: first page, count, and all rows as Arrow, on both databases.

20,000 samples in 500 experiments; one experiment in ten is called "Animal ...". The filters match much
(60,000 rows), little (50), nothing, and one row that is the last of all. Rows as Arrow are compared
with SQLAlchemy ORM objects of the same ten columns made into an Arrow table, in the same run.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlalchemy.orm import registry as orm_registry

from larvik.db.columns import to_micros
from larvik.db.engine import Database, open_database
from larvik.db.schema_state import prepare_schema
from larvik.db.unit_of_work import UnitOfWork
from larvik.models import registry
from larvik.query.predicate import And, Compare, Lookup, Predicate
from larvik.query.query import Query
from larvik.services.catalog import CatalogService
from larvik.services.principal import SCOPES, Principal

ROUNDS = 7
ORM_ROWS = 50_000
COLUMNS = (
    "id", "created_at", "name", "type", "kind", "version", "stored_bytes", "is_registered", "sample_id",
    "scope_id",
)  # fmt: skip
START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = {"axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"], "levels": []}
REACH = {"sqlite": 60, "postgresql": 15}


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return the figures of both databases."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from fixtures.postgres import started_postgres

    scale = 20_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(scale, f"sqlite:///{folder}/larvik.sqlite")
    with started_postgres("shared_buffers=512MB", "max_wal_size=4GB") as server:
        figures |= measure(scale, server.create_database())
    return figures


def measure(scale: int, database_url: str) -> dict[str, Any]:
    """Fill a database with `scale` images and return its figures."""
    database = open_database(database_url, registry)
    prepare_schema(database)
    catalog, principal = CatalogService(database, registry), fill(database, scale)
    name, figures = database.dialect, {}
    for label, where in filters().items():
        query = Query("Representation", where)
        page = median(lambda query=query: catalog.page(principal, query, size=100))
        count = median(lambda query=query: catalog.count(principal, query))
        figures[f"{name}: first page, {label}"] = {"value": page * 1e3, "unit": "ms", "reach": ("<=", 20)}
        figures[f"{name}: count, {label}"] = {"value": count * 1e3, "unit": "ms", "reach": ("<=", 100)}
    figures[f"{name}: rows to Arrow, against ORM objects"] = {
        "value": against_orm(database, catalog, principal, scale), "unit": "x", "reach": (">=", REACH[name]),
    }  # fmt: skip
    catalog.close()
    database.close()
    return figures


def filters() -> dict[str, tuple[Predicate, ...]]:
    """Return what is asked for: much, little, nothing, the last row alone, everything."""

    def named(lookup: Lookup, value: str) -> tuple[Predicate, ...]:
        initial = Compare(("type",), Lookup.EXACT, "initial")
        return (And((Compare(("sample", "experiment", "name"), lookup, value), initial)),)

    return {
        "much": named(Lookup.STARTSWITH, "Animal"),
        "little": (Compare(("sample", "name"), Lookup.EXACT, "sample 777"),),
        "nothing": named(Lookup.STARTSWITH, "Nothing"),
        "the last row": (
            *named(Lookup.EXACT, "last"),
            Compare(("sample", "name"), Lookup.STARTSWITH, "last"),
        ),
        "one type": (Compare(("type",), Lookup.EXACT, "initial"),),
        "everything": (),
    }


def against_orm(database: Database, catalog: CatalogService, principal: Principal, scale: int) -> float:
    """Return how many times more rows a second come as Arrow than as ORM objects made into Arrow."""
    objects = orm_class(database)
    rows = min(scale, ORM_ROWS)
    query = Query("Representation", columns=COLUMNS)
    ratios = []
    catalog.table(principal, query).read_all()
    for _ in range(5):
        orm = seconds(lambda: through_orm(database, objects, rows)) / rows
        arrow = seconds(lambda: catalog.table(principal, query).read_all()) / scale
        ratios.append(orm / arrow)
    return statistics.median(ratios)


def orm_class(database: Database) -> Any:
    """Return an ORM class of the ten columns."""

    class Image:
        pass

    table = database.tables.of("Representation")
    orm_registry().map_imperatively(Image, table, include_properties=COLUMNS)
    return Image


def through_orm(database: Database, image: Any, rows: int) -> pa.Table:
    """Return rows as ORM objects made into an Arrow table."""
    with Session(database.engine) as session:
        found = session.scalars(select(image).order_by(image.id).limit(rows)).all()
        return pa.table({name: [getattr(one, name) for one in found] for name in COLUMNS})


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(work: Callable[[], object]) -> float:
    """Return how long `work` usually takes, warm."""
    work()
    return statistics.median(seconds(work) for _ in range(ROUNDS))


# Filling


def fill(database: Database, scale: int) -> Principal:
    """Store experiments and samples as people do, images as fast as the database takes them."""
    experiments, samples = max(10, scale // 2000), max(20, scale // 50)
    with UnitOfWork(database) as work:
        subject = str(work.create("Subject", [{"name": "bench"}])[0].values["id"])
    with UnitOfWork(database, subject) as work:
        names = [f"{'Animal' if index % 10 == 0 else 'Study'} {index}" for index in range(experiments)]
        names.append("last")
        ids = [str(row.values["id"]) for row in work.create("Experiment", [{"name": name} for name in names])]
        chance = random.Random(1)
        rows = [
            {"name": f"sample {index}", "experiment_id": chance.choice(ids[:-1])} for index in range(samples)
        ]
        rows.append({"name": "last", "experiment_id": ids[-1]})
        stored = [
            (str(row.values["id"]), str(row.values["experiment_id"])) for row in work.create("Sample", rows)
        ]
    load(database, images(database, scale, subject, stored))
    database.analyze()
    return Principal(subject, "bench", "user", SCOPES)


def images(
    database: Database, scale: int, subject: str, samples: list[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """Yield rows; ids in the order of time, the last one alone in its sample."""
    chance = random.Random(2)
    types = ["initial"] * 6 + ["maxisp", "filtered", "segmented", "registered"]
    spec = json.dumps(SPEC)
    fixed = {
        "updated_at": START, "revision": 1, "created_by_id": subject, "owner_id": subject, "spec": spec,
        "dims": '["z","y","x"]', "shape": "[40,2048,2048]", "dtype": "uint16", "version": 1,
        "is_registered": False, "kind": "intensity",
    }  # fmt: skip
    for index in range(scale):
        moment = START + timedelta(milliseconds=20 * index)
        stamp = to_micros(moment) // 1000
        id = str(uuid.UUID(int=stamp << 80 | 0x7 << 76 | 0b10 << 62 | chance.getrandbits(62)))
        last = index == scale - 1
        sample, scope = samples[-1] if last else samples[chance.randrange(len(samples) - 1)]
        yield {
            **fixed, "id": id, "created_at": moment, "name": f"image {index}", "sample_id": sample,
            "scope_id": scope, "type": "initial" if last else types[chance.randrange(10)],
            "stored_bytes": chance.randrange(2**32), "location": f"arrays/{id[-2:]}/{id}.ome.zarr",
        }  # fmt: skip


def load(database: Database, rows: Iterator[dict[str, Any]]) -> None:
    """Load rows past the unit of work, with indexes made afterwards."""
    table = database.tables.of("Representation")
    with database.write("models") as connection:
        for index in table.indexes:
            index.drop(connection)
    first = next(rows)
    names = list(first)
    columns = ", ".join(f'"{name}"' for name in names)
    if database.dialect == "sqlite":
        marks = ", ".join("?" for _ in names)
        with closing(sqlite3.connect(str(database.path))) as raw:
            statement = f"INSERT INTO representation ({columns}) VALUES ({marks})"
            raw.execute(statement, _sqlite(first, names))
            raw.executemany(statement, (_sqlite(row, names) for row in rows))
            raw.commit()
    else:
        with database.write("models") as connection:
            cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
            with cursor.copy(f"COPY representation ({columns}) FROM STDIN") as copy:
                copy.write_row([first[name] for name in names])
                for row in rows:
                    copy.write_row([row[name] for name in names])
    with database.write("models") as connection:
        for index in table.indexes:
            index.create(connection)


def _sqlite(row: dict[str, Any], names: list[str]) -> list[Any]:
    return [to_micros(row[name]) if isinstance(row[name], datetime) else row[name] for name in names]


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
