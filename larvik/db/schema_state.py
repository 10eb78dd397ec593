"""Whether the tables in a database are those that this Larvik knows, without importing Alembic.

An empty database gets its tables at once; an older one is refused and the cure named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, select, text

from larvik.db.engine import Database
from larvik.db.tables import Tables
from larvik.errors import PreconditionError
from larvik.ids import new_id

#: The newest revision in migrations/versions; a test compares.
HEAD = "0001"
#: Key of the advisory lock that replicas take before they create or migrate tables.
_LOCK = 0x6C617276

_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def prepare_schema(database: Database, packages: Iterable[str] = ()) -> None:
    """Create the tables of an empty database, and check those of another.

    Parameters
    ----------
    packages : iterable of str
        Import packages with models of their own that must be there too.

    Raises
    ------
    PreconditionError
        As `check_schema`.
    """
    with database.read() as connection:
        empty = not has_tables(connection, database.dialect)
    if empty:
        create_schema(database)
    check_schema(database, packages)


def check_schema(database: Database, packages: Iterable[str] = ()) -> None:
    """Refuse a database whose tables are not those that this Larvik knows; two SELECTs.

    Raises
    ------
    PreconditionError
        ``SCHEMA_OUTDATED``, for an older one or a package whose models changed: names ``larvik
        migrate``. ``SCHEMA_UNKNOWN``, for a newer one or a database of something else.
    """
    with database.read() as connection:
        if not has_tables(connection, database.dialect):
            raise PreconditionError(
                "The database has no tables yet. Run `larvik migrate`.", reason="SCHEMA_OUTDATED"
            )
        revision = stored_revision(connection, database.dialect)
        table = database.tables.schema_package
        rows = connection.execute(select(table.c.package, table.c.fingerprint))
        stored: dict[str, str] = {row.package: row.fingerprint for row in rows}
    if revision != HEAD:
        raise PreconditionError(
            f"The database has schema {revision}, this Larvik needs {HEAD}. Run `larvik migrate`; it copies a"
            " SQLite database first.",
            reason="SCHEMA_OUTDATED",
            stored=revision,
            needed=HEAD,
        )
    for package in packages:
        if stored.get(package) != fingerprint(database.tables, package):
            raise PreconditionError(
                f"The models of {package!r} are new or have changed since their tables were made."
                " Run `larvik migrate`.",
                reason="SCHEMA_OUTDATED",
                package=package,
            )


def has_tables(connection: Connection, dialect: str) -> bool:
    """Return whether there is any table."""
    statement = "SELECT 1 FROM sqlite_master LIMIT 1"
    if dialect == "postgresql":
        statement = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() LIMIT 1"
    return connection.execute(text(statement)).first() is not None


def stored_revision(connection: Connection, dialect: str) -> str:
    """Return the revision of the stored schema.

    Raises
    ------
    PreconditionError
        ``SCHEMA_UNKNOWN``, when it is no Larvik's or a newer one's.
    """
    exists = "SELECT name FROM sqlite_master WHERE name = 'alembic_version'"
    if dialect == "postgresql":
        exists = "SELECT tablename FROM pg_catalog.pg_tables WHERE tablename = 'alembic_version'"
    if connection.execute(text(exists)).first() is None:
        raise PreconditionError(
            "The database holds tables of something else. Give Larvik a database of its own.",
            reason="SCHEMA_UNKNOWN",
        )
    revision = str(connection.execute(select(_VERSION.c.version_num)).scalar_one_or_none())
    if revision > HEAD:
        raise PreconditionError(
            f"The database has schema {revision}, which is newer than this Larvik ({HEAD}). Upgrade Larvik.",
            reason="SCHEMA_UNKNOWN",
            stored=revision,
        )
    return revision


def create_schema(database: Database) -> None:
    """Create every table in an empty database; others may try at the same time."""
    with database.write() as connection:
        lock_schema(connection, database.dialect)
        if has_tables(connection, database.dialect):
            return
        database.tables.metadata.create_all(connection, checkfirst=False)
        _VERSION.create(connection)
        connection.execute(insert(_VERSION), {"version_num": HEAD})
        connection.execute(insert(database.tables.larvik_store), {"key": "store_id", "value": new_id()})
        record_packages(connection, database.tables, packages(database.tables))


def lock_schema(connection: Connection, dialect: str) -> None:
    """Wait until nobody else creates or migrates tables; until the transaction ends."""
    if dialect == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def packages(tables: Tables) -> Sequence[str]:
    """Return the import packages other than Larvik's that define models."""
    return sorted({spec.package for spec in tables.registry} - {"larvik"})


def record_packages(connection: Connection, tables: Tables, names: Iterable[str]) -> None:
    """Note that the tables of the packages `names` are as their models want them."""
    table = tables.schema_package
    for name in names:
        connection.execute(table.delete().where(table.c.package == name))
        now = datetime.now(UTC)
        row = {"package": name, "fingerprint": fingerprint(tables, name), "migrated_at": now}
        connection.execute(insert(table), row)


def fingerprint(tables: Tables, package: str) -> str:
    """Return what tells whether the tables of `package` must change."""
    specs = sorted((spec for spec in tables.registry if spec.package == package), key=lambda spec: spec.name)
    shape = [
        (
            spec.table,
            [(field.name, field.type.value, field.nullable) for field in spec.fields],
            [(r.column, r.target, r.nullable, r.on_delete.value) for r in spec.relations],
            spec.indexes,
            spec.unique,
        )
        for spec in specs
    ]
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:32]
