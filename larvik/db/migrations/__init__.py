"""Bringing the tables of a database up to date; loads Alembic, so only `larvik migrate` imports it.

Larvik's own tables follow the revisions in ``versions``. Tables of models in user packages follow
their models directly: what is new (tables, columns, indexes) is added, anything else is refused, so
that a package needs no migration files of its own and no data is ever dropped.
"""

from larvik.db.migrations.migrate import migrate

__all__ = ["migrate"]
