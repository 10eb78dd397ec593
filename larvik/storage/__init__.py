"""Where array bytes live, and in which form: stores, OME-Zarr groups, the writer and the reading engine.

Importing this package loads the standard library alone; NumPy and the codecs load with the first name
that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from larvik.storage.base import ByteRange, ObjectInfo, Store, open_store

if TYPE_CHECKING:
    from larvik.storage.codecs import Codec as Codec
    from larvik.storage.engine import RegionReader as RegionReader
    from larvik.storage.engine import open_reader as open_reader
    from larvik.storage.group import ChannelDisplay as ChannelDisplay
    from larvik.storage.group import GroupMetadata as GroupMetadata
    from larvik.storage.inventory import StoredArray as StoredArray
    from larvik.storage.inventory import array_location as array_location
    from larvik.storage.inventory import delete_array as delete_array
    from larvik.storage.inventory import list_arrays as list_arrays
    from larvik.storage.inventory import stored_bytes as stored_bytes
    from larvik.storage.layout import plan_layout as plan_layout
    from larvik.storage.ngff import fingerprint as fingerprint
    from larvik.storage.ngff import read_attributes as read_attributes
    from larvik.storage.ngff import read_group as read_group
    from larvik.storage.ngff import read_spec as read_spec
    from larvik.storage.ngff import update_metadata as update_metadata
    from larvik.storage.ngff import write_group as write_group
    from larvik.storage.writer import ArrayWriter as ArrayWriter

_HOMES = {
    "ArrayWriter": "writer",
    "ChannelDisplay": "group",
    "Codec": "codecs",
    "GroupMetadata": "group",
    "RegionReader": "engine",
    "StoredArray": "inventory",
    "array_location": "inventory",
    "delete_array": "inventory",
    "fingerprint": "ngff",
    "list_arrays": "inventory",
    "open_reader": "engine",
    "plan_layout": "layout",
    "read_attributes": "ngff",
    "read_group": "ngff",
    "read_spec": "ngff",
    "stored_bytes": "inventory",
    "update_metadata": "ngff",
    "write_group": "ngff",
}

__all__ = ["ByteRange", "ObjectInfo", "Store", "open_store", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
