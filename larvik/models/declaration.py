"""Declaring a model: what one writes in the class body, and how it is read into a `ModelSpec`."""

from __future__ import annotations

import re
from typing import Any

from larvik.errors import InvalidArgumentError, suggestion
from larvik.schema import FieldSpec, FieldType, ModelSpec, OnDelete, RelationSpec

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
    options = {
        "default": default, "doc": doc, "type": type, "unit": unit, "choices": choices,
        "max_length": max_length, "label": label, "read_only": read_only or not init, "immutable": immutable,
    }  # fmt: skip
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
    options = {
        "reverse": reverse, "default": default, "doc": doc, "on_delete": on_delete,
        "read_only": read_only or not init, "immutable": immutable,
    }  # fmt: skip
    return _Declared(target, options)


def declarations(body: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return the annotation and value of every field and relation of a class body, by name."""
    found = {}
    for key, annotation in body.get("__annotations__", {}).items():
        text = _annotation_text(annotation)
        if key.startswith("_") or "ClassVar" in text:
            continue
        found[key] = (text, body.get(key, _MISSING))
    return found


def _annotation_text(annotation: Any) -> str:
    """Return the annotation as it would be written, without modules: ``datetime | None``."""
    plain = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    text = annotation if isinstance(annotation, str) else annotation.__name__ if plain else str(annotation)
    text = re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)
    return re.sub(r"^Optional\[(.*)\]$", r"\1 | None", text)


def spec_of(cls: Any, options: dict[str, Any]) -> ModelSpec:
    """Return the spec of a model class, from its declarations and the keywords of its ``class`` line."""
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
    return ModelSpec(
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
