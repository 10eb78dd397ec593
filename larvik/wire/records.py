"""Rows and descriptors of models as messages, both ways."""

from __future__ import annotations

from collections.abc import Iterable

from larvik.errors import InvalidArgumentError
from larvik.proto.v1 import catalog_pb2
from larvik.query.query import Record
from larvik.schema import FieldSpec, FieldType, ModelSpec, OnDelete, Registry, RelationSpec
from larvik.wire.values import check_name, decode_row, decode_value, write_row, write_value

#: Most levels of related rows inside a row.
MAX_DEPTH = 10

_FIELD_TYPES = {kind: catalog_pb2.FieldType.Value(f"FIELD_TYPE_{kind.name}") for kind in FieldType}
_FIELD_TYPES_BACK = {number: kind for kind, number in _FIELD_TYPES.items()}
_ON_DELETE = {kind: catalog_pb2.OnDelete.Value(f"ON_DELETE_{kind.name}") for kind in OnDelete}
_ON_DELETE_BACK = {number: kind for kind, number in _ON_DELETE.items()}


def encode_record(record: Record) -> catalog_pb2.Record:
    """Return the message of a stored row and its related rows."""
    message = catalog_pb2.Record()
    write_record(message, record)
    return message


def write_record(message: catalog_pb2.Record, record: Record) -> None:
    """Write a stored row into an empty message."""
    message.model = record.model
    write_row(message.values, record.values)
    for name, related in record.related.items():
        slot = message.related[name]
        if related is not None:
            write_record(slot.record, related)


def decode_record(message: catalog_pb2.Record, depth: int = 0) -> Record:
    """Return the row of a message.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_INVALID``; names the column.
    """
    if depth > MAX_DEPTH:
        raise InvalidArgumentError(
            "The row holds related rows too deep.", reason="RECORD_INVALID", field="related"
        )
    return Record(
        model=check_name(message.model, field="model"),
        values=decode_row(message.values),
        related={
            name: decode_record(related.record, depth + 1) if related.HasField("record") else None
            for name, related in message.related.items()
        },
    )


def encode_model(spec: ModelSpec) -> catalog_pb2.ModelDescriptor:
    """Return the descriptor of a model; indexes and constraints stay with the database."""
    message = catalog_pb2.ModelDescriptor(
        name=spec.name,
        table=spec.table,
        doc=spec.doc,
        is_array=spec.is_array,
        part_of=spec.part_of or "",
        package=spec.package,
    )
    for field in spec.fields:
        _write_field(message.fields.add(), field)
    for relation in spec.relations:
        message.relations.add(
            name=relation.name,
            target=relation.target,
            reverse=relation.reverse or "",
            doc=relation.doc,
            nullable=relation.nullable,
            on_delete=_ON_DELETE[relation.on_delete],
            read_only=relation.read_only,
            immutable=relation.immutable,
        )
    return message


def _write_field(message: catalog_pb2.FieldDescriptor, field: FieldSpec) -> None:
    message.name = field.name
    message.type = _FIELD_TYPES[field.type]
    message.doc = field.doc
    message.nullable = field.nullable
    message.unit = field.unit or ""
    message.choices.extend(field.choices)
    message.max_length = field.max_length or 0
    message.label = field.label or ""
    message.read_only = field.read_only
    message.immutable = field.immutable
    message.has_default = field.has_default
    if field.default is not None:
        write_value(message.default_value, field.default, field.name)


def decode_model(message: catalog_pb2.ModelDescriptor) -> ModelSpec:
    """Return the spec of a descriptor.

    Raises
    ------
    InvalidArgumentError
        ``MODEL_INVALID``, for a type or rule that this version does not know.
    """
    return ModelSpec(
        name=check_name(message.name, field="model.name"),
        table=check_name(message.table, field="model.table"),
        fields=tuple(_decode_field(message.name, field) for field in message.fields),
        relations=tuple(_decode_relation(message.name, relation) for relation in message.relations),
        doc=message.doc,
        is_array=message.is_array,
        is_part=bool(message.part_of),
        part_of=message.part_of or None,
        package=message.package,
    )


def _decode_field(model: str, message: catalog_pb2.FieldDescriptor) -> FieldSpec:
    if message.type not in _FIELD_TYPES_BACK:
        raise _unknown(model, message.name, f"type {message.type}")
    has_value = message.HasField("default_value")
    return FieldSpec(
        name=check_name(message.name, field=f"{model}.fields"),
        type=_FIELD_TYPES_BACK[message.type],
        doc=message.doc,
        nullable=message.nullable,
        default=decode_value(message.default_value, field=message.name) if has_value else None,
        has_default=message.has_default,
        unit=message.unit or None,
        choices=tuple(message.choices),
        max_length=message.max_length or None,
        label=message.label or None,
        read_only=message.read_only,
        immutable=message.immutable,
    )


def _decode_relation(model: str, message: catalog_pb2.RelationDescriptor) -> RelationSpec:
    if message.on_delete not in _ON_DELETE_BACK:
        raise _unknown(model, message.name, f"on_delete {message.on_delete}")
    return RelationSpec(
        name=check_name(message.name, field=f"{model}.relations"),
        target=check_name(message.target, field=f"{model}.{message.name}.target"),
        reverse=message.reverse or None,
        doc=message.doc,
        nullable=message.nullable,
        on_delete=_ON_DELETE_BACK[message.on_delete],
        read_only=message.read_only,
        immutable=message.immutable,
    )


def _unknown(model: str, name: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{model}.{name} has {what}, which this version of Larvik does not know: upgrade it.",
        reason="MODEL_INVALID",
        field=f"{model}.{name}",
    )


def decode_registry(messages: Iterable[catalog_pb2.ModelDescriptor]) -> Registry:
    """Return the registry of the models that a server describes."""
    registry = Registry()
    for message in messages:
        registry.add(decode_model(message))
    return registry
