"""An OME-XML document, parsed as what it is: input that may be hostile, and often breaks its schema.

Names are matched without their namespace, so every version of the schema since 2009 is understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from larvik.errors import InvalidArgumentError

#: Largest document that is parsed, in bytes.
MAX_XML_BYTES = 512 << 20
#: Most pixels along one dim, and most channels, that a document may declare.
MAX_SIZE, MAX_CHANNELS = 1 << 40, 1 << 16

Element = ElementTree.Element


class _RootSeenError(Exception):
    """Ends the look at the prolog."""


@dataclass(frozen=True, slots=True)
class TiffData:
    """Where some planes of an image are: `count` IFDs of a file, from `ifd` on.

    ``count`` None means one IFD when ``ifd`` was given, else all of the file.
    """

    ifd: int | None
    count: int | None
    first_z: int
    first_c: int
    first_t: int
    file_name: str | None
    uuid: str | None


@dataclass(frozen=True, slots=True)
class WellPosition:
    """Where on a plate an image was taken."""

    plate: str
    well: str
    field: int


class OmeDocument:
    """A parsed OME-XML document.

    Parameters
    ----------
    xml : str or bytes
        The whole text. It is not checked against the schema.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INVALID``, when it is no well-formed OME-XML, or declares entities.
    """

    def __init__(self, xml: str | bytes) -> None:
        self.root = parse_xml(xml)
        if local(self.root.tag) != "OME":
            raise _invalid(f"its root is <{local(self.root.tag)[:40]}>, not <OME>")
        self.xml = xml if isinstance(xml, str) else xml.decode("utf-8", "replace")
        self.uuid = self.root.get("UUID")

    @cached_property
    def images(self) -> tuple[OmeImage, ...]:
        """The images, in document order."""
        return tuple(OmeImage(self, index, item) for index, item in enumerate(children(self.root, "Image")))

    @cached_property
    def by_id(self) -> dict[str, Element]:
        """Instruments, and objectives, detectors of them, by their ID."""
        found = {}
        for instrument in children(self.root, "Instrument"):
            for item in (instrument, *instrument):
                if item.get("ID"):
                    found[item.get("ID", "")] = item
        return found

    @cached_property
    def positions(self) -> dict[str, WellPosition]:
        """Position on a plate of each image that has one, by the image's ID."""
        found = {}
        for plate in children(self.root, "Plate"):
            name = plate.get("Name") or plate.get("ID") or ""
            for well in children(plate, "Well"):
                label = well_label(integer(well, "Row", 0) or 0, integer(well, "Column", 0) or 0)
                for number, sample in enumerate(children(well, "WellSample")):
                    for ref in children(sample, "ImageRef"):
                        found[ref.get("ID", "")] = WellPosition(name, label, number)
        return found

    @property
    def binary_only(self) -> str | None:
        """Name of the file that holds the metadata, when this document only points there."""
        found = child(self.root, "BinaryOnly")
        return None if found is None else found.get("MetadataFile") or ""


class OmeImage:
    """One ``Image`` of a document: what is needed to find its planes. `biometa.ome_read` has the rest."""

    def __init__(self, document: OmeDocument, index: int, element: Element) -> None:
        self.document = document
        self.index = index
        self.element = element
        pixels = child(element, "Pixels")
        if pixels is None:
            raise _invalid(f"image {index} has no Pixels", "Pixels")
        self.pixels = pixels

    @property
    def name(self) -> str:
        """Name of the image, or an empty text."""
        return self.element.get("Name") or ""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Sizes by axis letter (``XYZCT``), as declared."""
        return {axis: self._size(axis) for axis in "XYZCT"}

    def _size(self, axis: str) -> int:
        text = self.pixels.get(f"Size{axis}", "")
        most = MAX_CHANNELS if axis == "C" else MAX_SIZE
        if not re.fullmatch(r"\s*[0-9]{1,13}\s*", text) or not 1 <= int(text) <= most:
            raise _invalid(
                f"image {self.index} has Size{axis}={text[:40]!r}, not a whole number from 1 to {most}",
                f"Size{axis}",
            )
        return int(text)

    @property
    def dimension_order(self) -> str:
        """Order of the planes in the file, fastest first: ``XYZCT`` and its permutations."""
        order = self.pixels.get("DimensionOrder", "XYZCT")
        if sorted(order) != sorted("XYZCT") or order[:2] != "XY":
            raise _invalid(f"image {self.index} has DimensionOrder={order[:20]!r}", "DimensionOrder")
        return order

    @property
    def pixel_type(self) -> str:
        """OME pixel type, as declared."""
        return self.pixels.get("Type") or self.pixels.get("PixelType") or ""

    @cached_property
    def channels(self) -> list[Element]:
        """``Channel`` elements, in order."""
        return list(children(self.pixels, "Channel"))

    @cached_property
    def samples(self) -> tuple[int, ...]:
        """Samples per pixel of each channel: ``(1, 1)`` for two channels, ``(3,)`` for RGB.

        Channels that the document does not list have one sample.
        """
        size = self.sizes["C"]
        found: list[int] = []
        for channel in self.channels:
            samples = integer(channel, "SamplesPerPixel", 1) or 1
            if not 1 <= samples <= size - sum(found):
                break
            found.append(samples)
        return (*found, *[1] * (size - sum(found)))

    @cached_property
    def tiff_data(self) -> tuple[TiffData, ...]:
        """``TiffData`` elements, in order."""
        return tuple(_tiff_data(item) for item in children(self.pixels, "TiffData"))

    @property
    def position(self) -> WellPosition | None:
        """Where on a plate the image was taken."""
        return self.document.positions.get(self.element.get("ID", ""))


def parse_xml(xml: str | bytes) -> Element:
    """Return the root of an XML document without a document type, which could declare entities.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INVALID``.
    """
    data = xml.encode("utf-8", "surrogateescape") if isinstance(xml, str) else xml
    data = data.strip(b"\0 \t\r\n").removeprefix(b"\xef\xbb\xbf")
    if len(data) > MAX_XML_BYTES:
        raise _invalid(f"it is larger than {MAX_XML_BYTES >> 20} MiB")
    if isinstance(xml, str):  # what the text says of its encoding no longer holds
        data = re.sub(rb"\A<\?xml[^>]*\?>", b"", data, count=1)
    try:
        _check_prolog(data)
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise _invalid(f"it is not well-formed XML ({str(error)[:100]})") from error


def _check_prolog(data: bytes) -> None:
    def refuse(*_: Any) -> None:
        raise _invalid("it declares a document type, which Larvik does not read")

    def stop(*_: Any) -> None:
        raise _RootSeenError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = stop
    try:
        parser.Parse(data[: 1 << 20], False)
    except _RootSeenError:
        return
    raise _invalid("it has no root element")


def local(tag: Any) -> str:
    """Return the name of a tag without its namespace."""
    return str(tag).rpartition("}")[2]


def children(element: Element, name: str) -> Iterator[Element]:
    """Yield the direct children of `element` called `name`."""
    return (item for item in element if local(item.tag) == name)


def child(element: Element, name: str) -> Element | None:
    """Return the first direct child of `element` called `name`, or None."""
    return next(children(element, name), None)


def integer(element: Element, name: str, default: int | None = None) -> int | None:
    """Return an attribute as an integer, or `default` where it is missing or something else."""
    text = (element.get(name) or "").strip()
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else default


def number(element: Element, name: str) -> float | None:
    """Return an attribute as a float, or None where it is missing or something else."""
    try:
        return float(element.get(name) or "")
    except ValueError:
        return None


def well_label(row: int, column: int) -> str:
    """Return the name of a well: ``A1``, ``H12``, ``AA3``."""
    letters = ""
    row += 1
    while row > 0:
        row, rest = divmod(row - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters or '?'}{column + 1}"


def _tiff_data(element: Element) -> TiffData:
    uuid = child(element, "UUID")
    count = integer(element, "PlaneCount")
    return TiffData(
        ifd=integer(element, "IFD"),
        count=integer(element, "NumPlanes") if count is None else count,
        first_z=integer(element, "FirstZ", 0) or 0,
        first_c=integer(element, "FirstC", 0) or 0,
        first_t=integer(element, "FirstT", 0) or 0,
        file_name=None if uuid is None else uuid.get("FileName"),
        uuid=None if uuid is None else (uuid.text or "").strip() or None,
    )


def _invalid(problem: str, field: str = "OME-XML") -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The OME-XML cannot be used: {problem}.", reason="METADATA_INVALID", field=field
    )
