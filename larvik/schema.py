"""What a model is, as plain values: the one definition behind SQL, Arrow, wire and Python.

``larvik.models`` builds a `ModelSpec` from each class; ``larvik.db`` makes tables from it,
``larvik.wire`` sends it as a descriptor, and a client without the class makes a generic one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from larvik.errors import InvalidArgumentError, NotFoundError, suggestion


class FieldType(StrEnum):
    """The types that a field can have; each has one form in Python, SQL, Arrow and protobuf."""

    STRING = "string"  # str, without NUL; at most `max_length` characters
    INT64 = "int64"
    FLOAT64 = "float64"
    BOOL = "bool"
    TIMESTAMP = "timestamp"  # aware datetime in UTC, microseconds
    UUID = "uuid"  # canonical lower-case text
    JSON = "json"  # what json.dumps takes
    BINARY = "binary"
    INT64_LIST = "int64_list"  # tuple of int
    STRING_LIST = "string_list"  # tuple of str


class OnDelete(StrEnum):
    """What happens to a row when the row that it points at is purged."""

    CASCADE = "cascade"
    SET_NULL = "set_null"
    PROTECT = "protect"


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One column.

    ``name`` is the Python and SQL name; ``label`` the name people see in tables (OME's, for
    biometa). ``unit`` is a UCUM-like name (``micrometer``, ``second``) or None. ``read_only``
    fields are set by Larvik alone; ``immutable`` ones cannot change after creation.
    """

    name: str
    type: FieldType
    doc: str = ""
    nullable: bool = False
    default: object = None
    has_default: bool = False
    unit: str | None = None
    choices: tuple[str, ...] = ()
    max_length: int | None = None
    label: str | None = None
    read_only: bool = False
    immutable: bool = False


@dataclass(frozen=True, slots=True)
class RelationSpec:
    """A reference to one row of another model: column ``<name>_id``, seen back as `reverse`."""

    name: str
    target: str
    reverse: str | None
    doc: str = ""
    nullable: bool = True
    on_delete: OnDelete = OnDelete.SET_NULL
    read_only: bool = False
    immutable: bool = False

    @property
    def column(self) -> str:
        """Name of the column that holds the id."""
        return f"{self.name}_id"


@dataclass(frozen=True, slots=True)
class ReverseSpec:
    """The many side: rows of `model` whose `column` holds this row's id.

    ``generic`` is set where `column` is the ``object_id`` of a part (tags, key-value pairs,
    biometa), which may point at any model.
    """

    name: str
    model: str
    column: str
    generic: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model: its name, table, fields and relations, in declared order.

    ``is_array``: rows own an array. ``is_part``: rows belong to an object of any model through
    ``object_id``, share its rights and life, and have no owner or trash of their own.
    ``package`` is the import package that defines it; ``larvik`` for the built-in ones.
    """

    name: str
    table: str
    fields: tuple[FieldSpec, ...]
    relations: tuple[RelationSpec, ...]
    doc: str = ""
    is_array: bool = False
    is_part: bool = False
    part_of: str | None = None  # for parts: the accessor on objects, e.g. "tags", "biometa__channels"
    package: str = "larvik"
    indexes: tuple[tuple[str, ...], ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    _fields: Mapping[str, FieldSpec] = field(init=False, repr=False, compare=False)
    _relations: Mapping[str, RelationSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fields", {spec.name: spec for spec in self.fields})
        object.__setattr__(self, "_relations", {spec.name: spec for spec in self.relations})

    def field(self, name: str) -> FieldSpec | None:
        """Return the field called `name`, or None."""
        return self._fields.get(name)

    def relation(self, name: str) -> RelationSpec | None:
        """Return the relation called `name`, or None."""
        return self._relations.get(name)

    def columns(self) -> Iterator[FieldSpec]:
        """Yield every SQL column: the fields, then one UUID column for each relation."""
        yield from self.fields
        for relation in self.relations:
            yield FieldSpec(
                name=relation.column,
                type=FieldType.UUID,
                doc=relation.doc,
                nullable=relation.nullable,
                read_only=relation.read_only,
                immutable=relation.immutable,
            )

    def column(self, name: str) -> FieldSpec | None:
        """Return the column called `name` (a field, or ``<relation>_id``), or None."""
        return next((spec for spec in self.columns() if spec.name == name), None)


class Registry:
    """The models that one process or one server knows, by name."""

    def __init__(self) -> None:
        self._models: dict[str, ModelSpec] = {}

    def add(self, spec: ModelSpec) -> None:
        """Register `spec`; a reverse or table name that two models claim is refused."""
        for other in self._models.values():
            if other.name == spec.name:
                continue
            if other.table == spec.table:
                raise InvalidArgumentError(
                    f"Models {other.name} and {spec.name} both claim the table {spec.table!r}.",
                    reason="MODEL_INVALID",
                )
        for relation in spec.relations:
            self._refuse_taken_reverse(spec, relation)
        self._models[spec.name] = spec

    def _refuse_taken_reverse(self, spec: ModelSpec, relation: RelationSpec) -> None:
        if relation.reverse is None:
            return
        claims = [
            f"{other.name}.{known.name}"
            for other in [*self._models.values(), spec]
            for known in other.relations
            if known.reverse == relation.reverse
            and known.target == relation.target
            and (other.name, known.name) != (spec.name, relation.name)
        ]
        target = self._models.get(relation.target)
        if target and (target.column(relation.reverse) or target.relation(relation.reverse)):
            claims.append(f"{target.name}.{relation.reverse}")
        if claims:
            raise InvalidArgumentError(
                f"{spec.name}.{relation.name} wants the reverse name {relation.reverse!r} on"
                f" {relation.target}, which {claims[0]} has already.",
                reason="MODEL_INVALID",
            )

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._models.values())

    def get(self, name: str) -> ModelSpec:
        """Return the model called `name`.

        Raises
        ------
        NotFoundError
            ``MODEL_UNKNOWN``; suggests the nearest name.
        """
        try:
            return self._models[name]
        except (KeyError, TypeError):
            raise NotFoundError(
                f"There is no model {str(name)[:80]!r}. {suggestion(str(name)[:80], self._models)}",
                reason="MODEL_UNKNOWN",
                model=str(name)[:80],
            ) from None

    def reverses(self, model: str) -> dict[str, ReverseSpec]:
        """Return the to-many relations of `model`, by name: declared ones, then parts."""
        found: dict[str, ReverseSpec] = {}
        spec = self.get(model)
        for other in self._models.values():
            for relation in other.relations:
                if relation.reverse and relation.target == model:
                    found[relation.reverse] = ReverseSpec(relation.reverse, other.name, relation.column)
            if other.is_part and other.part_of and not spec.is_part:
                if other.part_of.startswith("biometa__") and not spec.is_array:
                    continue
                found[other.part_of] = ReverseSpec(other.part_of, other.name, "object_id", generic=True)
        return found
