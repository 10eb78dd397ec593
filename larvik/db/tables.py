"""Core tables, made from the models of a registry, and the tables that only Larvik sees.

Every foreign key has an index. Declared indexes that end in ``id`` get ``deleted_at`` appended, so
that counts of live rows need the index alone and rows still come in the order of their ids.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    FromClause,
    Index,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
)

from larvik.db.columns import HEAVY, TEXT, UUID, Json, JsonList, Timestamp, sql_type
from larvik.schema import FieldSpec, ModelSpec, OnDelete, Registry

#: PostgreSQL cuts longer names.
_MAX_NAME = 63
#: Aliases of one table that are kept for the next statement.
_MAX_ALIASES = 32
_NAMES = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}
_ON_DELETE = {OnDelete.CASCADE: "CASCADE", OnDelete.SET_NULL: "SET NULL", OnDelete.PROTECT: "NO ACTION"}


class Tables:
    """The tables of one database: one for each model, and Larvik's own.

    Attributes
    ----------
    metadata : MetaData
        All of them.
    api_key, upload, metadata_dirty, larvik_store, schema_package : Table
        Keys; upload sessions; arrays whose group's copy of the metadata is behind; facts about
        this store; packages whose models have tables here.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.metadata = MetaData(naming_convention=_NAMES)
        self._models: dict[str, tuple[ModelSpec, Table]] = {}
        self._aliases: dict[str, list[FromClause]] = {}
        for spec in registry:
            self._add(spec)
        self._add_internal()

    def of(self, model: str) -> Table:
        """Return the table of `model`; one registered since is added.

        Raises
        ------
        NotFoundError
            ``MODEL_UNKNOWN``.
        """
        known = self._models.get(model)
        spec = self.registry.get(model)
        if known is None or known[0] is not spec:
            return self._add(spec)
        return known[1]

    def alias(self, model: str, number: int) -> FromClause:
        """Return the alias of the table of `model` with this number, from 0; each is made once.

        Making one costs half a millisecond, which a page would pay several times.
        """
        table = self.of(model)
        made = self._aliases.setdefault(model, [])
        while len(made) <= min(number, _MAX_ALIASES):
            made.append(table.alias())
        return made[number] if number < _MAX_ALIASES else table.alias()

    def is_model(self, name: str) -> bool:
        """Return whether the table called `name` stores rows of a model."""
        return any(table.name == name for _, table in self._models.values())

    def internal(self) -> list[Table]:
        """Return the tables that belong to no model."""
        return [table for table in self.metadata.sorted_tables if not self.is_model(table.name)]

    def of_package(self, package: str) -> list[Table]:
        """Return the tables of the models that `package` defines."""
        return [table for spec, table in self._models.values() if spec.package == package]

    def _add(self, spec: ModelSpec) -> Table:
        self._aliases.pop(spec.name, None)
        known = self.metadata.tables.get(spec.table)
        if known is not None:
            self.metadata.remove(known)
        columns = sorted(spec.columns(), key=_weight)
        table = Table(spec.table, self.metadata, *(self._column(spec, field) for field in columns))
        for names in spec.unique:
            table.append_constraint(
                UniqueConstraint(*(table.c[name] for name in names), name=_name("uq", spec.table, names))
            )
        for names in _indexes(spec):
            Index(_name("ix", spec.table, names), *(table.c[name] for name in names))
        if "deleted_at" in table.c:
            trashed = table.c.deleted_at.is_not(None)
            Index(
                _name("ix", spec.table, ("trash",)), table.c.deleted_at,
                sqlite_where=trashed, postgresql_where=trashed,
            )  # fmt: skip
        self._models[spec.name] = (spec, table)
        return table

    def _column(self, spec: ModelSpec, field: FieldSpec) -> Column[object]:
        arguments: list[ForeignKey] = []
        relation = spec.relation(field.name.removesuffix("_id"))
        if relation is not None and relation.column == field.name:
            arguments.append(
                ForeignKey(
                    f"{self.registry.get(relation.target).table}.id",
                    name=_name("fk", spec.table, (field.name,)),
                    ondelete=_ON_DELETE[relation.on_delete],
                )
            )
        return Column(
            field.name, sql_type(field), *arguments, nullable=field.nullable, primary_key=field.name == "id"
        )

    def _add_internal(self) -> None:
        metadata = self.metadata
        subject = self._models["Subject"][1].name if "Subject" in self._models else None
        owner = (
            [ForeignKey(f"{subject}.id", name="fk_api_key_subject_id", ondelete="CASCADE")] if subject else []
        )
        self.api_key = Table(
            "api_key", metadata,
            Column("id", TEXT, primary_key=True),
            Column("subject_id", UUID, *owner, nullable=False, index=True),
            Column("name", TEXT, nullable=False),
            Column("hash", LargeBinary, nullable=False),
            Column("scopes", JsonList, nullable=False),
            Column("is_preset", Boolean, nullable=False),
            Column("created_at", Timestamp, nullable=False),
            Column("expires_at", Timestamp),
            Column("revoked_at", Timestamp),
        )  # fmt: skip
        self.upload = Table(
            "upload", metadata,
            Column("id", UUID, primary_key=True),
            Column("model", TEXT, nullable=False),
            Column("array_id", UUID, nullable=False, unique=True),
            Column("subject_id", UUID),
            Column("location", TEXT, nullable=False),
            Column("created_at", Timestamp, nullable=False),
            Column("touched_at", Timestamp, nullable=False, index=True),
            Column("content", Json, nullable=False),
        )  # fmt: skip
        self.metadata_dirty = Table(
            "metadata_dirty", metadata,
            Column("array_id", UUID, primary_key=True),
            Column("model", TEXT, nullable=False),
            Column("revision", BigInteger, nullable=False),
            Column("marked_at", Timestamp, nullable=False, index=True),
        )  # fmt: skip
        self.larvik_store = Table(
            "larvik_store",
            metadata,
            Column("key", TEXT, primary_key=True),
            Column("value", TEXT, nullable=False),
        )
        self.schema_package = Table(
            "schema_package", metadata,
            Column("package", TEXT, primary_key=True),
            Column("fingerprint", TEXT, nullable=False),
            Column("migrated_at", Timestamp, nullable=False),
        )  # fmt: skip


def _weight(field: FieldSpec) -> int:
    """Return 1 for columns whose values may be large, which then come last in a row."""
    return int(field.type in HEAVY or (field.max_length or 0) > 10_000)


def _indexes(spec: ModelSpec) -> list[tuple[str, ...]]:
    """Return the columns of each index: the declared ones, then one for each other foreign key."""
    has_trash = spec.field("deleted_at") is not None
    found: list[tuple[str, ...]] = []
    for names in spec.indexes:
        if names not in spec.unique:
            covering = has_trash and len(names) > 1 and names[-1] == "id"
            found.append((*names, "deleted_at") if covering else names)
    leading = {names[0] for names in (*found, *spec.unique)}
    found += [(relation.column,) for relation in spec.relations if relation.column not in leading]
    if spec.is_part and "object_id" not in leading:
        found.append(("object_id",))
    return found


def _name(kind: str, table: str, columns: tuple[str, ...]) -> str:
    name = "_".join((kind, table, *columns))
    if len(name) > _MAX_NAME:
        name = name[: _MAX_NAME - 9] + "_" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return name
