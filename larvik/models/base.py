"""Typed model classes: how a class body becomes a `ModelSpec`, and what a row can do.

A model is declared once, with annotations::

    class Slide(Model):
        name: str = field(max_length=200, doc="What the label says.")
        sample: Sample | None = relation("Sample", reverse="slides", default=None)

Standard library only: SQL tables, Arrow schemas and messages are made elsewhere from the spec.
Rows are plain objects: equal by model and id, picklable, free of any database session.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, dataclass_transform, overload

from larvik.errors import InvalidArgumentError, LarvikError, NotFoundError, suggestion
from larvik.ids import new_id
from larvik.models.values import clean
from larvik.schema import FieldSpec, FieldType, ModelSpec, OnDelete, Registry, RelationSpec

if TYPE_CHECKING:
    from larvik.connection import Connection
    from larvik.query.queryset import QuerySet

M = TypeVar("M", bound="Model")

#: The spec of every model class of this process; user packages add theirs on import.
registry = Registry()
#: The classes behind `registry`, by model name.
classes: dict[str, type[Model]] = {}

_MISSING: Any = object()
_TYPES = {
    "str": FieldType.STRING,
    "int": FieldType.INT64,
    "float": FieldType.FLOAT64,
    "bool": FieldType.BOOL,
    "datetime": FieldType.TIMESTAMP,
    "bytes": FieldType.BINARY,
    "tuple[int, ...]": FieldType.INT64_LIST,
    "tuple[str, ...]": FieldType.STRING_LIST,
    "dict[str, Any]": FieldType.JSON,
}


class _Declared:
    """What `field` or `relation` leaves in the class body for the metaclass to read."""

    def __init__(self, target: str | None, options: dict[str, Any]) -> None:
        self.target = target
        self.options = options


def field(
    *,
    default: Any = _MISSING,
    doc: str = "",
    type: FieldType | None = None,
    unit: str | None = None,
    choices: tuple[str, ...] = (),
    max_length: int | None = None,
    label: str | None = None,
    read_only: bool = False,
    immutable: bool = False,
    init: bool = True,
) -> Any:
    """Declare a field; its type and nullability come from the annotation.

    ``type`` overrides the type that the annotation implies (``FieldType.UUID`` for a ``str``).
    The other parameters are those of `larvik.schema.FieldSpec`.
    """
    options = dict(
        default=default, doc=doc, type=type, unit=unit, choices=choices, max_length=max_length,
        label=label, read_only=read_only or not init, immutable=immutable,
    )  # fmt: skip
    return _Declared(None, options)


def relation(
    target: str,
    *,
    reverse: str | None = None,
    default: Any = _MISSING,
    doc: str = "",
    on_delete: OnDelete = OnDelete.SET_NULL,
    read_only: bool = False,
    immutable: bool = False,
    init: bool = True,
) -> Any:
    """Declare a reference to a row of the model named `target`, seen back there as `reverse`."""
    options = dict(
        reverse=reverse, default=default, doc=doc, on_delete=on_delete,
        read_only=read_only or not init, immutable=immutable,
    )  # fmt: skip
    return _Declared(target, options)


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
    def __get__(self, row: None, owner: type[Model]) -> Related[M]: ...
    @overload
    def __get__(self, row: Model, owner: type[Model]) -> QuerySet[M]: ...
    def __get__(self, row: Model | None, owner: type[Model]) -> Related[M] | QuerySet[M]:
        return self if row is None else row.related(self.name)


class Manager:
    """``Model.objects``: a fresh query over all visible rows of the class."""

    def __get__(self, row: object, owner: type[M]) -> QuerySet[M]:
        from larvik.query.queryset import QuerySet

        return QuerySet.of(owner)


@dataclass_transform(kw_only_default=True, field_specifiers=(field, relation))
class ModelMeta(type):
    """Turns annotations into a `ModelSpec`, registers it, and installs the descriptors."""

    def __new__(
        mcs, name: str, bases: tuple[type, ...], body: dict[str, Any], *, abstract: bool = False, **options: Any
    ) -> Any:
        declared = _declarations(name, body)
        for key in declared:
            body.pop(key, None)
        cls = super().__new__(mcs, name, bases, body)
        inherited: dict[str, tuple[str, Any]] = {}
        for base in reversed(cls.__mro__[1:]):
            inherited.update(vars(base).get("_declared", {}))
        cls._declared = {**inherited, **declared}  # type: ignore[attr-defined]
        if not abstract:
            _define(cls, options)
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], **options: Any) -> None:
        super().__init__(name, bases, body)


def _declarations(name: str, body: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    found = {}
    for key, annotation in body.get("__annotations__", {}).items():
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        if key.startswith("_") or "ClassVar" in text:
            continue
        found[key] = (text, body.get(key, _MISSING))
    return found


def _define(cls: Any, options: dict[str, Any]) -> None:
    fields: list[FieldSpec] = []
    relations: list[RelationSpec] = []
    for key, (annotation, value) in cls._declared.items():
        nullable = bool(re.search(r"\|\s*None\b", annotation))
        if isinstance(value, _Declared) and value.target:
            relations.append(_relation_spec(key, value, nullable))
        else:
            fields.append(_field_spec(cls.__name__, key, annotation, value, nullable))
    package = cls.__module__.partition(".")[0]
    prefix = "" if package == "larvik" else f"{package}_"
    part_of = options.pop("part_of", None)
    spec = ModelSpec(
        name=cls.__name__,
        table=options.pop("table", prefix + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()),
        fields=tuple(fields),
        relations=tuple(relations),
        doc=(cls.__doc__ or "").partition("\n\n")[0].strip(),
        is_array=any(base.__name__ == "LarvikArray" for base in cls.__mro__),
        is_part=part_of is not None,
        part_of=part_of,
        package=package,
        **options,
    )
    registry.add(spec)
    classes[spec.name] = cls
    cls._spec = spec
    for column in spec.columns():
        setattr(cls, column.name, ColumnDescriptor(column))
    for item in spec.relations:
        setattr(cls, item.name, ForeignKeyDescriptor(item))


def _relation_spec(name: str, value: _Declared, nullable: bool) -> RelationSpec:
    options = dict(value.options)
    options.pop("default")
    if not nullable and options["on_delete"] is OnDelete.SET_NULL:
        options["on_delete"] = OnDelete.CASCADE
    return RelationSpec(name=name, target=str(value.target), nullable=nullable, **options)


def _field_spec(model: str, name: str, annotation: str, value: Any, nullable: bool) -> FieldSpec:
    options = dict(value.options) if isinstance(value, _Declared) else {"default": value}
    plain = re.sub(r"\s*\|\s*None\b", "", annotation).strip()
    kind = options.pop("type", None) or _TYPES.get(plain)
    if kind is None:
        raise InvalidArgumentError(
            f"{model}.{name}: {annotation!r} is not a field type. {suggestion(plain, _TYPES)}",
            reason="MODEL_INVALID",
        )
    default = options.pop("default", _MISSING)
    has_default = default is not _MISSING or nullable
    return FieldSpec(
        name=name,
        type=kind,
        nullable=nullable,
        has_default=has_default,
        default=None if default is _MISSING else default,
        **options,
    )


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

    id: str = field(type=FieldType.UUID, doc="UUIDv7, made by the caller; never reused.", immutable=True, default=None)
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
            {**where, "__qualname__": f"{cls.__qualname__}.MultipleObjectsReturned", "default_reason": "OBJECTS_MULTIPLE"},
        )

    def __init__(self, **values: Any) -> None:
        self._values: dict[str, Any] = {}
        self._related: dict[str, Any] = {}
        self._changed: set[str] = set()
        self._connection: Connection | None = None
        self._page: list[Any] | None = None
        for name in values:
            if self._spec.column(name) is None and self._spec.relation(name) is None:
                names = [*(column.name for column in self._spec.columns()), *(r.name for r in self._spec.relations)]
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

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            names = [*(column.name for column in self._spec.columns()), *(r.name for r in self._spec.relations)]
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
            from larvik.connection import LazyConnection

            self._connection = LazyConnection(state["url"])

    def _bound(self) -> Connection:
        from larvik.connection import current

        return self._connection if self._connection is not None else current()

    def _fetch_related(self, spec: RelationSpec) -> Model:
        """Fetch the relation for this row, and for its whole page in the same statement."""
        from larvik.query.fetch import fetch_relation

        return fetch_relation(self, spec)

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


class Part(Model, abstract=True):
    """Base of rows that belong to an object of any model, and live and die with it."""

    object_id: str = field(type=FieldType.UUID, doc="Id of the object this belongs to.", immutable=True)


if TYPE_CHECKING:
    from larvik.models.identity import Subject, Team

__all__ = ["ForeignKeyDescriptor", "LarvikError", "Manager", "Model", "Owned", "Part", "Related", "classes", "field", "registry", "relation"]
