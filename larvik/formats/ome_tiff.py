"""The reader of OME-TIFF, ImageJ TIFF and plain TIFF."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from larvik.biometa.document import OmeDocument
from larvik.errors import UnsupportedError
from larvik.formats.base import (
    SeriesInfo,
    SeriesSource,
    check_index,
    file_name,
    is_url,
    typed_errors,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from larvik.formats.tiff_file import TiffImage

#: First bytes of a TIFF: little or big endian, classic or BigTIFF.
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class OmeTiffReader:
    """Reads TIFF files by tifffile: tiled or striped, pyramidal, of several series or files, of any size.

    Pixels are read region by region; of a pyramid only the finest level.
    """

    name = "ome-tiff"

    def accepts(self, path: str) -> bool:
        """Tell whether the file begins like a TIFF, or is the OME-XML companion of some."""
        if is_url(path) or not os.path.isfile(path):
            return False
        with typed_errors(path), open(path, "rb") as file:
            head = file.read(4096)
        return head[:4] in MAGIC or is_companion(head)

    def inspect(self, path: str) -> list[SeriesInfo]:
        """Return every series of the file; reads directories and metadata, no pixels."""
        with _images(path) as images:
            found = []
            for image in images:
                with typed_errors(path, image.index):
                    found.append(image.info())
            return found

    def open(self, path: str, index: int) -> SeriesSource:
        """Open one series: finds every plane, and refuses a truncated file before a pixel is read."""
        with _images(path) as images:
            check_index(path, index, len(images))
            with typed_errors(path, index):
                return images[index].source()


def is_companion(head: bytes) -> bool:
    """Tell whether a file that begins with `head` is OME-XML."""
    return (
        re.match(
            rb"\s*(<\?xml[^>]*\?>\s*)?(<!--.*?-->\s*)*<(\w+:)?OME\b", head.removeprefix(b"\xef\xbb\xbf"), re.S
        )
        is not None
    )


@contextmanager
def _images(path: str) -> Iterator[list[TiffImage]]:
    """Open a file for as long as its directories are read; pixels are read later without it."""
    tifffile = import_tifffile()
    from larvik.formats.ome_image import ome_images
    from larvik.formats.plain_image import plain_images
    from larvik.formats.tiff_file import TiffFiles
    from larvik.formats.tiff_truncation import refuse_truncated

    with open_file(path) as head:
        companion = is_companion(head)
    with TiffFiles(tifffile) as files, typed_errors(path):
        if companion:
            with open(path, "rb") as file:
                yield ome_images(path, OmeDocument(file.read()), files)
            return
        tiff = files.open(path)
        description = tiff.pages[0].description if len(tiff.pages) else ""
        if not len(tiff.pages):
            raise unreadable(path, "it has no image")
        refuse_truncated(path, tiff)
        if is_companion(description[:4096].encode("utf-8", "replace")):
            yield ome_images(path, _document(path, description), files)
        else:
            yield plain_images(path, tiff)


@contextmanager
def open_file(path: str) -> Iterator[bytes]:
    """Yield the first bytes of a file."""
    with typed_errors(path), open(path, "rb") as file:
        yield file.read(4096)


def _document(path: str, xml: str) -> OmeDocument:
    """Return the document of an OME-TIFF; that of its companion when it only points there."""
    document = OmeDocument(xml)
    companion = document.binary_only
    if companion is None:
        return document
    folder = os.path.realpath(os.path.dirname(path))
    where = os.path.realpath(os.path.join(folder, companion))
    if os.path.dirname(where) != folder or not os.path.isfile(where):
        raise unreadable(path, f"its metadata is in {file_name(companion)}, which is not in its folder")
    with open(where, "rb") as file:
        return OmeDocument(file.read())


def import_tifffile() -> Any:
    """Return the module tifffile.

    Raises
    ------
    UnsupportedError
        ``EXTRA_MISSING``, when the extra ``imaging`` is not installed.
    """
    try:
        import tifffile
    except ImportError as error:
        raise UnsupportedError(
            "TIFF needs tifffile: pip install 'larvik[imaging]'.", reason="EXTRA_MISSING", extra="imaging"
        ) from error
    return tifffile
