"""Whether a TIFF was cut: tifffile reads what is left of one, and says so in its log alone."""

from __future__ import annotations

import struct
from typing import Any

from larvik.formats.base import unreadable

#: Bytes of one value of each TIFF field type.
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}

#: Tags that hold metadata as text: OME-XML and ImageJ's.
_METADATA = frozenset({270, 50838, 50839})


def refuse_truncated(path: str, tiff: Any) -> None:
    """Refuse a file whose chain of directories, or whose first directory, leads beyond its end.

    Parameters
    ----------
    path : str
        File that the error names.
    tiff : tifffile.TiffFile
        The open file, with at least one page.

    Raises
    ------
    InvalidArgumentError
        ``FILE_UNREADABLE``.
    """
    if tiff.tiff.is_ndpi:  # offsets have their own form there
        return
    size = tiff.filehandle.size
    last = tiff.pages[len(tiff.pages) - 1].offset
    first, following = _directory(tiff, tiff.pages[0].offset), _directory(tiff, last)
    if following is None or following[1] >= size:
        raise unreadable(path, f"its list of pages goes on beyond its end at byte {size}: it is truncated")
    if first is None or any(end > size for end in first[0]):
        raise unreadable(path, f"its metadata lies beyond its end at byte {size}: it is truncated")


def _directory(tiff: Any, offset: int) -> tuple[list[int], int] | None:
    """Return where the metadata of a directory ends, and the offset of the next; None when it is cut."""
    form, file = tiff.tiff, tiff.filehandle
    try:
        file.seek(offset)
        (count,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
        entries = file.read(count * form.tagsize)
        (following,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
    except struct.error:
        return None
    ends = []
    header = struct.calcsize(form.tagformat1)
    for place in range(0, len(entries), form.tagsize):
        tag, kind = struct.unpack(form.tagformat1, entries[place : place + header])
        number, value = struct.unpack(form.tagformat2, entries[place + header : place + form.tagsize])
        length = _SIZES.get(kind, 0) * number
        if tag in _METADATA and length > len(value):
            ends.append(struct.unpack(form.offsetformat, value[: form.offsetsize])[0] + length)
    return ends, following
