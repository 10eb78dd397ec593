"""One database on one host: processes, forks, locks, full disks, damaged files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from larvik.db import engine
from larvik.db.engine import Database, open_database
from larvik.db.schema_state import prepare_schema
from larvik.db.unit_of_work import UnitOfWork
from larvik.errors import (
    DataLossError,
    InvalidArgumentError,
    PreconditionError,
    ResourceExhaustedError,
    UnavailableError,
)
from larvik.models import registry
from larvik.query.query import Query
from larvik.services.catalog import CatalogService
from larvik.services.identity import IdentityService


def names(database: Database) -> list[object]:
    catalog, principal = CatalogService(database, registry), IdentityService(database).local()
    return [record.values["name"] for record in catalog.page(principal, Query("Experiment")).records]


def create(database: Database, name: str) -> None:
    with UnitOfWork(database) as work:
        work.create("Experiment", [{"name": name}])


@pytest.mark.parametrize(
    "url",
    ["", "x", "sqlite://", "sqlite:///:memory:", "mysql://h/d", "postgresql", None, 5, "sqlite:///a\0b"],
)
def test_what_is_no_database_url_is_refused(url):
    with pytest.raises(InvalidArgumentError) as caught:
        prepare_schema(open_database(url, registry))
    assert caught.value.reason == "DATABASE_URL_INVALID"


def test_sqlite_keeps_what_was_acknowledged_when_its_process_is_killed(tmp_path: Path):
    script = (
        "import os, signal, sys\n"
        "from larvik.db.engine import open_database; from larvik.db.schema_state import prepare_schema\n"
        "from larvik.db.unit_of_work import UnitOfWork; from larvik.models import registry\n"
        "database = open_database(sys.argv[1], registry); prepare_schema(database)\n"
        "with UnitOfWork(database) as work: work.create('Experiment', [{'name': 'kept'}])\n"
        "work = UnitOfWork(database).__enter__(); work.create('Experiment', [{'name': 'not committed'}])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    url = f"sqlite:///{tmp_path}/larvik.sqlite"
    assert subprocess.run([sys.executable, "-c", script, url], check=False).returncode == -9
    database = open_database(url, registry)
    assert names(database) == ["kept"]
    database.close()


def test_sqlite_runs_durably_in_wal_mode_with_foreign_keys(sqlite_database):
    with sqlite_database.read() as connection:
        found = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


def test_processes_may_create_one_database_together(tmp_path: Path):
    script = (
        "import sys; from larvik.db.engine import open_database\n"
        "from larvik.db.schema_state import prepare_schema\n"
        "from larvik.db.unit_of_work import UnitOfWork; from larvik.models import registry\n"
        "database = open_database(sys.argv[1], registry); sys.stdin.readline(); prepare_schema(database)\n"
        "with UnitOfWork(database) as work: work.create('Experiment', [{'name': sys.argv[2]}])\n"
        "database.close()\n"
    )
    url = f"sqlite:///{tmp_path}/larvik.sqlite"
    commands = [[sys.executable, "-c", script, url, f"e{index}"] for index in range(4)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    database = open_database(url, registry)
    assert sorted(names(database)) == ["e0", "e1", "e2", "e3"]
    database.close()


def test_a_forked_child_opens_its_own_connections(database):
    create(database, "before")
    assert names(database) == ["before"]
    child = os.fork()
    if child == 0:
        status = 1
        try:
            create(database, "of the child")
            status = 0 if "of the child" in names(database) else 2
            database.close()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    create(database, "after")
    assert names(database) == ["before", "of the child", "after"]


def test_a_writer_that_waits_too_long_is_told_that_the_database_is_busy(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.05)
    database = open_database(f"sqlite:///{tmp_path}/larvik.sqlite", registry)
    prepare_schema(database)
    with closing(sqlite3.connect(tmp_path / "larvik.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError) as caught:
            create(database, "x")
        assert caught.value.reason == "DATABASE_BUSY"
        assert names_without_writing(database) == 0
        other.execute("ROLLBACK")
    create(database, "x")
    database.close()


def names_without_writing(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM experiment")).scalar_one())


def test_a_full_disk_stores_nothing_and_says_so(sqlite_database):
    create(sqlite_database, "before")
    with UnitOfWork(sqlite_database) as work:
        pages = work.connection.execute(text("PRAGMA page_count")).scalar_one()
        work.connection.execute(text(f"PRAGMA max_page_count={pages + 2}"))
        with pytest.raises(ResourceExhaustedError) as caught:
            work.create("Experiment", [{"name": "x", "description": "x" * 90_000} for _ in range(20)])
        work.connection.execute(text("PRAGMA max_page_count=1073741823"))
    assert caught.value.reason == "DISK_FULL"
    assert names_without_writing(sqlite_database) == 1


def test_a_file_that_is_no_database_is_reported_as_damaged(tmp_path):
    (tmp_path / "larvik.sqlite").write_bytes(b"not a database at all, but long enough" * 100)
    with pytest.raises(DataLossError) as caught:
        prepare_schema(open_database(f"sqlite:///{tmp_path}/larvik.sqlite", registry))
    assert caught.value.reason == "DATABASE_CORRUPT"
    assert str(tmp_path) not in str(caught.value)


def test_a_folder_that_is_not_there_is_unreachable(tmp_path):
    with pytest.raises(UnavailableError) as caught:
        prepare_schema(open_database(f"sqlite:///{tmp_path}/missing/larvik.sqlite", registry))
    assert caught.value.reason == "DATABASE_UNREACHABLE"


def test_a_postgres_that_is_not_there_is_unreachable():
    with pytest.raises(UnavailableError) as caught:
        prepare_schema(open_database("postgresql+psycopg://u:secret@127.0.0.1:1/x", registry))
    assert caught.value.reason == "DATABASE_UNREACHABLE"
    assert "secret" not in str(caught.value)


def test_a_postgres_that_went_away_and_came_back_is_used_again(postgres_database):
    create(postgres_database, "before")
    with postgres_database.read() as connection, pytest.raises(UnavailableError):
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    create(postgres_database, "after")
    assert names_without_writing(postgres_database) == 2


def test_a_missing_table_names_the_command(sqlite_database):
    with sqlite_database.write("models") as connection:
        connection.execute(text("DROP TABLE antibody"))
    with pytest.raises(PreconditionError, match="larvik migrate"):
        CatalogService(sqlite_database, registry).count(
            IdentityService(sqlite_database).local(), Query("Antibody")
        )


def test_statistics_are_refreshed(database):
    for index in range(3):
        create(database, f"e{index}")
    database.analyze()
    statement = "SELECT count(*) FROM sqlite_stat1"
    if database.dialect == "postgresql":
        statement = "SELECT count(*) FROM pg_stats WHERE tablename = 'experiment'"
    with database.read() as connection:
        assert connection.execute(text(statement)).scalar_one() > 0
