"""What people attach to anything: tags and key-value pairs."""

from __future__ import annotations

from larvik.models.base import Part, field


class Tag(Part, part_of="tags", indexes=(("name", "object_id"), ("object_id", "name"))):
    """A word attached to an object."""

    name: str = field(max_length=200, doc="The tag.")


class KeyValue(Part, part_of="key_values", indexes=(("key", "value", "object_id"), ("object_id", "key"))):
    """A key and a value attached to an object."""

    key: str = field(max_length=200, doc="The key.")
    value: str = field(max_length=2000, doc="The value, as text.")
    number: float | None = field(default=None, read_only=True, doc="The value, when it is a finite number.")
