"""Migrating one database: Larvik's revisions, then the tables of user packages."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from larvik.db.engine import Database
from larvik.db.migrations.packages import package_steps
from larvik.db.schema_state import (
    HEAD,
    create_schema,
    has_tables,
    lock_schema,
    packages,
    record_packages,
    stored_revision,
)
from larvik.errors import PreconditionError

_HERE = Path(__file__).parent


def migrate(database: Database, *, dry_run: bool = False) -> list[str]:
    """Bring the tables of `database` up to date; return what was done, one sentence each.

    A SQLite file is copied first, beside itself, as ``<name>.<old revision>.backup``. Everything
    happens in one transaction: a migration that fails changes nothing.

    Parameters
    ----------
    dry_run : bool
        Only tell what would be done.

    Raises
    ------
    PreconditionError
        ``SCHEMA_UNKNOWN``, for tables of something else or of a newer Larvik;
        ``SCHEMA_CHANGE_UNSUPPORTED``, for a change of a user's model that would lose data.
    """
    with database.read() as connection:
        empty = not has_tables(connection, database.dialect)
        revision = None if empty else stored_revision(connection, database.dialect)
        steps = [] if revision is None else _steps(connection, database, revision)
    if revision is None:
        if not dry_run:
            create_schema(database)
        return [f"Create the tables of schema {HEAD}."]
    if steps and not dry_run:
        saved = _copy(database, revision)
        with database.write("models") as connection:
            lock_schema(connection, database.dialect)
            if revision != HEAD:
                command.upgrade(_config(connection), "head")
            for step in package_steps(connection, database.tables):
                step.apply(connection)
            record_packages(connection, database.tables, packages(database.tables))
        steps = saved + steps
    return steps


def _steps(connection: Connection, database: Database, revision: str) -> list[str]:
    steps = []
    if revision != HEAD:
        script = ScriptDirectory(str(_HERE))
        newer = [found for found in script.walk_revisions() if found.revision > revision]
        steps = [f"Apply revision {found.revision}: {found.doc}" for found in reversed(newer)]
    return steps + [step.text for step in package_steps(connection, database.tables)]


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _copy(database: Database, revision: str) -> list[str]:
    """Copy a SQLite database, consistently even while others write; nothing on PostgreSQL."""
    if database.path is None:
        return []
    target = database.path.with_name(f"{database.path.name}.{revision}.backup")
    try:
        with closing(sqlite3.connect(database.path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
    except sqlite3.Error as error:
        raise PreconditionError(
            "The database could not be copied before its migration; nothing was changed. Free some space"
            f" for {target.name} in its folder.",
            reason="BACKUP_FAILED",
        ) from error
    return [f"Copy the database to {target.name}."]
