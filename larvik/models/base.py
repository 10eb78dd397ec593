"""Typed model classes: what a row is and can do; `declaration` reads how one is declared.

A model is declared once, with annotations::

    class Slide(Model):
        name: str = field(max_length=200, doc="What the label says.")
        sample: Sample | None = relation("Sample", reverse="slides", default=None)

Standard library only: SQL tables, Arrow schemas and messages are made elsewhere from the spec.
Rows are plain objects: equal by model and id, picklable, free of any database session.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast, dataclass_transform, overload

from larvik.errors import InvalidArgumentError, NotFoundError, suggestion
from larvik.ids import new_id
from larvik.models.declaration import declarations, field, relation, spec_of
from larvik.models.values import clean
from larvik.schema import FieldSpec, FieldType, ModelSpec, Registry, RelationSpec

if TYPE_CHECKING:
    from larvik.connection import Connection
    from larvik.models.array import LarvikArray
    from larvik.models.table import Table
    from larvik.query.queryset import QuerySet
    from larvik.query.special import ArrayQuerySet, KeyValueQuerySet, TableQuerySet, TagQuerySet

M = TypeVar("M", bound="Model")
A = TypeVar("A", bound="LarvikArray")
T = TypeVar("T", bound="Table")

#: The spec of every model class of this process; user packages add theirs on import.
registry = Registry()
#: The classes behind `registry`, by model name.
classes: dict[str, type[Model]] = {}


class ForeignKeyDescriptor:
    """The forward side: reads as the related row, fetched through the row's connection once."""

    def __init__(self, spec: RelationSpec) -> None:
        self.spec = spec

    def __get__(self, row: Model | None, owner: type[Model]) -> Any:
        if row is None:
            return self
        key = row._values.get(self.spec.column)
        if key is None:
            return None
        cached = row._related.get(self.spec.name)
        if cached is None or cached.id != key:
            cached = row._fetch_related(self.spec)
            row._related[self.spec.name] = cached
        return cached

    def __set__(self, row: Model, value: Model | str | None) -> None:
        if isinstance(value, Model):
            if value._spec.name != self.spec.target:
                raise InvalidArgumentError(
                    f"{row._spec.name}.{self.spec.name} takes a {self.spec.target},"
                    f" not a {value._spec.name}.",
                    reason="FIELD_INVALID",
                    field=f"{row._spec.name}.{self.spec.name}",
                )
            row._related[self.spec.name] = value
            row._assign(self.spec.column, value.id)
        else:
            row._related.pop(self.spec.name, None)
            row._assign(self.spec.column, value)


class ColumnDescriptor:
    """One stored value of a row; assignment checks it and remembers the change for `save`."""

    def __init__(self, spec: FieldSpec) -> None:
        self.spec = spec

    def __get__(self, row: Model | None, owner: type[Model]) -> Any:
        return self if row is None else row._values.get(self.spec.name)

    def __set__(self, row: Model, value: object) -> None:
        row._assign(self.spec.name, value)


class Related(Generic[M]):
    """The to-many side, declared for type checkers: ``slides: ClassVar[Related[Slide]]``.

    Reads as a `QuerySet` of the rows that point here.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, row: None, owner: type[Model]) -> Self: ...
    @overload
    def __get__(self: Related[A], row: Model, owner: type[Model]) -> ArrayQuerySet[A]: ...
    @overload
    def __get__(self, row: Model, owner: type[Model]) -> QuerySet[M]: ...
    def __get__(self, row: Model | None, owner: type[Model]) -> Any:
        return self if row is None else row.related(self.name)


class Manager:
    """``Model.objects``: a fresh query over all visible rows of the class."""

    @overload
    def __get__(self, row: object, owner: type[A]) -> ArrayQuerySet[A]: ...
    @overload
    def __get__(self, row: object, owner: type[T]) -> TableQuerySet[T]: ...
    @overload
    def __get__(self, row: object, owner: type[M]) -> QuerySet[M]: ...
    def __get__(self, row: object, owner: type[Model]) -> QuerySet[Any]:
        from larvik.query.queryset import QuerySet

        return QuerySet.of(owner)


@dataclass_transform(kw_only_default=True, field_specifiers=(field, relation))
class ModelMeta(type):
    """Turns annotations into a `ModelSpec`, registers it, and installs the descriptors."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        body: dict[str, Any],
        *,
        abstract: bool = False,
        **options: Any,
    ) -> Any:
        declared = declarations(body)
        for key in declared:
            body.pop(key, None)
        cls: Any = super().__new__(mcs, name, bases, body)
        inherited: dict[str, tuple[str, Any]] = {}
        for base in reversed(cls.__mro__[1:]):
            inherited.update(vars(base).get("_declared", {}))
        cls._declared = {**inherited, **declared}
        if not abstract:
            spec = spec_of(cls, options)
            registry.add(spec)
            classes[spec.name] = cls
            install(cls, spec)
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], **options: Any) -> None:
        super().__init__(name, bases, body)


def install(cls: Any, spec: ModelSpec) -> None:
    """Give `cls` its spec, and a descriptor for every column and relation."""
    cls._spec = spec
    for column in spec.columns():
        setattr(cls, column.name, ColumnDescriptor(column))
    for item in spec.relations:
        setattr(cls, item.name, ForeignKeyDescriptor(item))


class Model(metaclass=ModelMeta, abstract=True):
    """Base of every model. Constructing a row touches nothing; `save` or a manager stores it.

    Parameters
    ----------
    **values : object
        Fields by name; relations as a row or, as ``<name>_id``, an id.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_UNKNOWN``, ``FIELD_INVALID`` or ``FIELD_MISSING``; names the field.
    """

    _spec: ClassVar[ModelSpec]
    objects: ClassVar[Manager] = Manager()
    DoesNotExist: ClassVar[type[NotFoundError]]
    MultipleObjectsReturned: ClassVar[type[InvalidArgumentError]]

    id: str = field(
        type=FieldType.UUID, doc="UUIDv7, made by the caller; never reused.", immutable=True, default=None
    )
    created_at: datetime = field(doc="When the row was stored.", init=False, default=None)
    updated_at: datetime = field(doc="When the row last changed.", init=False, default=None)
    revision: int = field(doc="Counts every change, from 1.", init=False, default=1)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__()
        where = {"__module__": cls.__module__, "__qualname__": f"{cls.__qualname__}.DoesNotExist"}
        cls.DoesNotExist = type("DoesNotExist", (NotFoundError,), where)
        cls.MultipleObjectsReturned = type(
            "MultipleObjectsReturned",
            (InvalidArgumentError,),
            {
                **where,
                "__qualname__": f"{cls.__qualname__}.MultipleObjectsReturned",
                "default_reason": "OBJECTS_MULTIPLE",
            },
        )

    def __init__(self, **values: Any) -> None:
        self._values: dict[str, Any] = {}
        self._related: dict[str, Any] = {}
        self._changed: set[str] = set()
        self._connection: Connection | None = None
        self._page: list[Any] | None = None
        for name in values:
            if self._spec.column(name) is None and self._spec.relation(name) is None:
                names = [
                    *(column.name for column in self._spec.columns()),
                    *(r.name for r in self._spec.relations),
                ]
                raise InvalidArgumentError(
                    f"{self._spec.name} has no field {name!r}. {suggestion(name, names)}",
                    reason="FIELD_UNKNOWN",
                    field=name,
                )
        self._set_defaults(values)
        for name, value in values.items():
            setattr(self, name, value)

    def _set_defaults(self, values: Mapping[str, Any]) -> None:
        for column in self._spec.fields:
            if column.name in values:
                continue
            if not column.has_default and not column.read_only:
                raise InvalidArgumentError(
                    f"{self._spec.name}.{column.name} is required.", reason="FIELD_MISSING", field=column.name
                )
            self._values[column.name] = column.default
        for item in self._spec.relations:
            if item.name in values or item.column in values:
                continue
            if not item.nullable and not item.read_only:
                raise InvalidArgumentError(
                    f"{self._spec.name}.{item.name} is required.", reason="FIELD_MISSING", field=item.name
                )
            self._values[item.column] = None
        if "id" not in values or values["id"] is None:
            self._values["id"] = new_id()

    @classmethod
    def _from_values(cls, values: Mapping[str, Any], connection: Connection | None) -> Self:
        """Return the row with the stored `values`; they are trusted, not checked again."""
        row = cls.__new__(cls)
        row._values = dict(values)
        row._related = {}
        row._changed = set()
        row._connection = connection
        row._page = None
        return row

    def _assign(self, name: str, value: object) -> None:
        spec = self._spec.column(name)
        assert spec is not None
        if spec.read_only:
            raise InvalidArgumentError(
                f"{self._spec.name}.{name} is set by Larvik and cannot be assigned.",
                reason="FIELD_READ_ONLY",
                field=f"{self._spec.name}.{name}",
            )
        if isinstance(value, Model):
            value = value.id
        if name == "id" and value is None:
            return
        self._values[name] = clean(spec, value, model=self._spec.name)
        self._changed.add(name)

    if not TYPE_CHECKING:  # so that type checkers refuse names that the model has not

        def __setattr__(self, name: str, value: object) -> None:
            if not name.startswith("_") and not hasattr(type(self), name):
                names = [
                    *(column.name for column in self._spec.columns()),
                    *(r.name for r in self._spec.relations),
                ]
                raise AttributeError(f"{self._spec.name} has no field {name!r}. {suggestion(name, names)}")
            super().__setattr__(name, value)

        def __getattr__(self, name: str) -> Any:
            # Only reached when the class lacks the name: a reverse side that a user's model declared.
            if name.startswith("_"):
                raise AttributeError(name)
            if name in self._reverses():
                return self.related(name)
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    def _reverses(self) -> Mapping[str, Any]:
        connection = self._connection
        return (connection.registry if connection is not None else registry).reverses(self._spec.name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return self._spec.name == other._spec.name and self.id == other.id

    def __hash__(self) -> int:
        return hash((self._spec.name, self.id))

    def __repr__(self) -> str:
        name = self._values.get("name")
        shown = f"{name!r} " if isinstance(name, str) else ""
        return f"<{self._spec.name} {shown}{self.id}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return the row without its connection's secrets: values, changes and the URL."""
        url = self._connection.url if self._connection is not None else None
        return {"values": self._values, "changed": self._changed, "url": url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._values = state["values"]
        self._related = {}
        self._changed = state["changed"]
        self._page = None
        self._connection = None
        if state["url"] is not None:
            from larvik.connection import lazy_connection

            self._connection = lazy_connection(state["url"])

    def _bound(self) -> Connection:
        from larvik.connection import alive, current

        return alive(self._connection) if self._connection is not None else current()

    def _fetch_related(self, spec: RelationSpec) -> Model:
        """Fetch the relation for this row, and for its whole page in the same statement."""
        from larvik.query.fetch import fetch_relation

        found: Model = fetch_relation(self, spec)
        return found

    def related(self, name: str) -> QuerySet[Any]:
        """Return the query of the rows that point here under the reverse name `name`."""
        from larvik.query.queryset import QuerySet

        return QuerySet.related(self, name)

    def save(self) -> None:
        """Store the row: create it, or send the changed fields with the revision that was read.

        Raises
        ------
        ConflictError
            ``REVISION_STALE``, when somebody saved the row in between.
        """
        from larvik.query.fetch import save

        save(self)

    def delete(self) -> None:
        """Move the row to the trash; `restore` brings it back."""
        self._absorb(self._bound().catalog.delete(self._spec.name, self.id))

    def restore(self) -> None:
        """Bring the row back from the trash."""
        self._absorb(self._bound().catalog.restore(self._spec.name, self.id))

    def refresh(self) -> None:
        """Read the row again, discarding changes that were not saved."""
        from larvik.query.fetch import refresh

        refresh(self)

    def _absorb(self, record: Any) -> None:
        """Take over the stored values of `record` after a write."""
        self._values = dict(record.values)
        self._related.clear()
        self._changed.clear()

    def _repr_html_(self) -> str:
        from larvik.viewer.cards import row_card

        return row_card(self)


class Owned(Model, abstract=True):
    """Base of every model that a subject owns: the common columns of DESIGN section 4."""

    created_by: Subject | None = relation("Subject", doc="Who stored the row.", init=False, default=None)
    owner: Subject | None = relation("Subject", doc="Who answers for the row.", init=False, default=None)
    team: Team | None = relation("Team", doc="The team that shares the row.", default=None)
    deleted_at: datetime | None = field(doc="When the row went to the trash.", init=False, default=None)

    @property
    def tags(self) -> TagQuerySet:
        """The tags of the row: ``row.tags.add("good")``, ``row.tags.names()``."""
        return cast("TagQuerySet", self.related("tags"))

    @property
    def key_values(self) -> KeyValueQuerySet:
        """The key-value pairs of the row: ``row.key_values.set(dose="5 mg")``."""
        return cast("KeyValueQuerySet", self.related("key_values"))


class Part(Model, abstract=True):
    """Base of rows that belong to an object of any model, and live and die with it."""

    object_id: str = field(type=FieldType.UUID, doc="Id of the object this belongs to.", immutable=True)


if TYPE_CHECKING:
    from larvik.models.identity import Subject, Team

__all__ = [
    "Manager",
    "Model",
    "Owned",
    "Part",
    "Related",
    "classes",
    "field",
    "registry",
    "relation",
]
