"""The stored schema, on both databases: created, migrated, checked, extended by user packages."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from larvik.db.engine import Database, open_database
from larvik.db.migrations import migrate
from larvik.db.migrations.migrate import _HERE, _config
from larvik.db.schema_state import HEAD, check_schema, create_schema, prepare_schema
from larvik.db.unit_of_work import UnitOfWork
from larvik.errors import PreconditionError
from larvik.models import registry
from larvik.query.query import Query
from larvik.schema import FieldSpec, FieldType, ModelSpec, OnDelete, Registry, RelationSpec
from larvik.services.catalog import CatalogService
from larvik.services.principal import SCOPES, Principal


@contextmanager
def opened(url: str, models: Registry = registry) -> Iterator[Database]:
    database = open_database(url, models)
    try:
        yield database
    finally:
        database.close()


def differences(database: Database) -> list[object]:
    with database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "include_name": lambda name, kind, _: name != "alembic_version"},
        )
        return compare_metadata(context, database.tables.metadata)


def test_head_is_the_newest_revision():
    assert ScriptDirectory(str(_HERE)).get_heads() == [HEAD]


def test_the_revisions_make_the_tables_of_the_models(empty_database_url):
    from alembic import command

    with opened(empty_database_url) as database:
        with database.write("models") as connection:
            command.upgrade(_config(connection), "head")
        assert differences(database) == []
        check_schema(database)


def test_tables_made_at_once_are_the_same(empty_database_url):
    with opened(empty_database_url) as database:
        prepare_schema(database)
        assert differences(database) == []
        assert migrate(database) == []


def test_an_up_to_date_database_opens_without_alembic(tmp_path):
    url = f"sqlite:///{tmp_path}/larvik.sqlite"
    with opened(url) as database:
        prepare_schema(database)
    script = (
        "import sys\n"
        "from larvik.db.engine import open_database\n"
        "from larvik.db.schema_state import prepare_schema\n"
        "from larvik.models import registry\n"
        "prepare_schema(open_database(sys.argv[1], registry))\n"
        "heavy = {'alembic', 'sqlalchemy.orm', 'pyarrow', 'pandas', 'adbc_driver_manager'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, url], check=True)


def test_another_schema_is_refused_and_the_cure_named(empty_database_url):
    with opened(empty_database_url) as database:
        with pytest.raises(PreconditionError, match="larvik migrate"):
            check_schema(database)
        prepare_schema(database)
        for revision, reason, cure in (
            ("0000", "SCHEMA_OUTDATED", "larvik migrate"),
            ("9999", "SCHEMA_UNKNOWN", "Upgrade"),
        ):
            with database.write("models") as connection:
                connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": revision})
            with pytest.raises(PreconditionError, match=cure) as caught:
                prepare_schema(database)
            assert caught.value.reason == reason


def test_a_database_of_something_else_is_refused(empty_database_url):
    with opened(empty_database_url) as database:
        with database.write("models") as connection:
            connection.execute(text("CREATE TABLE other (x integer)"))
        for call in (prepare_schema, check_schema, migrate):
            with pytest.raises(PreconditionError, match="database of its own") as caught:
                call(database)
            assert caught.value.reason == "SCHEMA_UNKNOWN"


def test_migrating_an_empty_database_creates_it_and_a_dry_run_does_not(empty_database_url):
    with opened(empty_database_url) as database:
        assert migrate(database, dry_run=True) == [f"Create the tables of schema {HEAD}."]
        with pytest.raises(PreconditionError):
            check_schema(database)
        migrate(database)
        check_schema(database)


# Models of user packages


def models(*extra: ModelSpec) -> Registry:
    known = Registry()
    for spec in (*registry, *extra):
        if spec.package in {"larvik", "lab"}:
            known.add(spec)
    return known


def slide(*more: FieldSpec, name: str = "Slide") -> ModelSpec:
    base = registry.get("Team").fields[:4]
    fields = (*base, FieldSpec("label", FieldType.STRING, nullable=True, has_default=True), *more)
    relation = RelationSpec("sample", "Sample", f"lab_{name.lower()}s", on_delete=OnDelete.CASCADE)
    return ModelSpec(
        name, f"lab_{name.lower()}", fields, (relation,), package="lab", indexes=(("label", "id"),)
    )


def someone(database: Database) -> Principal:
    with UnitOfWork(database) as work:
        row = work.find_or_create("Subject", {"name": "someone"}, {})
    return Principal(str(row.values["id"]), "someone", "user", SCOPES)


def test_one_command_makes_the_tables_of_a_users_models(empty_database_url):
    with opened(empty_database_url, models()) as database:
        prepare_schema(database)
    known = models(slide())
    with opened(empty_database_url, known) as database:
        with pytest.raises(PreconditionError, match="larvik migrate"):
            check_schema(database, ["lab"])
        catalog = CatalogService(database, known)
        with pytest.raises(PreconditionError, match="larvik migrate"):
            catalog.page(someone(database), Query("Slide"))
        planned = migrate(database, dry_run=True)
        done = migrate(database)
        assert (
            planned
            == [step for step in done if not step.startswith("Copy")]
            == ["Create the table lab_slide."]
        )
        check_schema(database, ["lab"])
        assert migrate(database) == []
        assert differences(database) == []
        sample = catalog.create(someone(database), "Sample", [{"name": "s"}])[0].values["id"]
        catalog.create(someone(database), "Slide", [{"label": "x", "sample_id": sample}])
        query = Query("Slide", select_related=(("sample",),))
        assert catalog.page(someone(database), query).records[0].related["sample"].values["name"] == "s"


def test_a_new_field_of_a_users_model_becomes_a_column(empty_database_url):
    with opened(empty_database_url, models(slide())) as database:
        prepare_schema(database, ["lab"])
        catalog = CatalogService(database, database.registry)
        catalog.create(someone(database), "Slide", [{"label": "before"}])
    known = models(slide(FieldSpec("weight", FieldType.FLOAT64, nullable=True, has_default=True)))
    with opened(empty_database_url, known) as database:
        with pytest.raises(PreconditionError, match="larvik migrate"):
            check_schema(database, ["lab"])
        assert "Add the column weight to the table lab_slide." in migrate(database)
        check_schema(database, ["lab"])
        rows = CatalogService(database, known).page(someone(database), Query("Slide")).records
        assert [(row.values["label"], row.values["weight"]) for row in rows] == [("before", None)]


def test_a_change_that_is_no_addition_is_refused_and_changes_nothing(empty_database_url):
    with opened(empty_database_url, models(slide())) as database:
        create_schema(database)
    required = models(slide(FieldSpec("weight", FieldType.FLOAT64)), slide(name="Box"))
    with opened(empty_database_url, required) as database:
        with pytest.raises(PreconditionError, match="make it nullable") as caught:
            migrate(database)
        assert caught.value.reason == "SCHEMA_CHANGE_UNSUPPORTED"
        with database.read() as connection:
            assert not connection.dialect.has_table(connection, "lab_box")


def test_sqlite_is_copied_before_it_is_migrated(tmp_path):
    url = f"sqlite:///{tmp_path}/larvik.sqlite"
    with opened(url, models()) as database:
        prepare_schema(database)
        CatalogService(database, registry).create(someone(database), "Sample", [{"name": "kept"}])
    with opened(url, models(slide())) as database:
        assert migrate(database)[0] == f"Copy the database to larvik.sqlite.{HEAD}.backup."
    copy = sqlite3.connect(tmp_path / f"larvik.sqlite.{HEAD}.backup")
    assert copy.execute("SELECT name FROM sample").fetchall() == [("kept",)]
    assert copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'lab_slide'").fetchone() is None
    copy.close()
