"""Write the next revision: ``python -m larvik.db.migrations 0002 "what changed"``.

Compares the models with a fresh database at the newest revision; read what it writes before it is
committed, and set ``HEAD`` of `larvik.db.schema_state`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext

from larvik.db.columns import TEXT, UUID, Json, Timestamp
from larvik.db.engine import open_database
from larvik.db.migrations.migrate import _HERE, _config
from larvik.models import registry

_HEAD = '''"""{message}"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "{revision}"
down_revision = {before!r}

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UUID = sa.Text().with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIMESTAMP = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")


def upgrade() -> None:
    """Apply the revision."""
    {upgrade}
'''


def main(revision: str, message: str) -> None:
    """Write ``versions/<revision>.py``."""
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{folder}/empty.sqlite", registry)
        with database.write("models") as connection:
            before = str(int(revision) - 1).zfill(4) if int(revision) > 1 else None
            if before:
                command.upgrade(_config(connection), before)
            context = MigrationContext.configure(connection, opts={"render_item": _render})
            found = produce_migrations(context, database.tables.metadata)
        assert found.upgrade_ops is not None
        upgrade = render_python_code(found.upgrade_ops, render_item=_render, migration_context=context)
    upgrade = "\n".join(line for line in upgrade.splitlines() if "###" not in line).strip()
    source = _HEAD.format(message=message, revision=revision, before=before, upgrade=upgrade)
    Path(_HERE / "versions" / f"{revision}.py").write_text(source)


def _render(kind: str, item: Any, context: Any) -> str | Literal[False]:
    if kind != "type":
        return False
    names = {id(TEXT): "TEXT", id(UUID): "UUID"}
    if isinstance(item, Timestamp):
        return "TIMESTAMP"
    return "JSON" if isinstance(item, Json) else names.get(id(item), False)


if __name__ == "__main__":
    main(*sys.argv[1:])
