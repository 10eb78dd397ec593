"""Originals: File, an uploaded or registered file, and Series, one image inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from larvik.models.base import Owned, Related, field, relation
from larvik.schema import OnDelete

if TYPE_CHECKING:
    from larvik.models.array import Representation


class File(Owned, indexes=(("digest",), ("name", "id"))):
    """An original file or folder, imported or registered in place."""

    name: str = field(max_length=1000, doc="File name, without folders.")
    format: str = field(max_length=100, doc="Reader that understood it, such as ``ome-tiff``.")
    size_bytes: int = field(default=0, unit="byte", doc="Size of the original.")
    digest: str = field(
        max_length=200, doc="Identity of the content: what tells that the same file is imported again."
    )

    series: ClassVar[Related[Series]] = Related("series")


class Series(Owned, indexes=(("file_id", "index"),), unique=(("file_id", "index"),)):
    """One image inside a file."""

    file: File = relation("File", reverse="series", on_delete=OnDelete.CASCADE, doc="File that holds it.")
    index: int = field(doc="Position in the file, from 0.")
    name: str = field(default="", max_length=1000, doc="Name that the file gives it.")
    info: dict[str, Any] | None = field(default=None, doc="What inspection found: dims, shape, dtype.")

    representations: ClassVar[Related[Representation]] = Related("representations")
