"""The reader of OME-Zarr 0.4 and 0.5 (images, labels, collections, plates) and of plain Zarr groups."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from larvik.array.spec import ArraySpec, itemsize
from larvik.biometa.document import OmeDocument, OmeImage
from larvik.biometa.ome_read import biometa_of
from larvik.biometa.tables import Biometa, Row, clean_text, make_row
from larvik.errors import InvalidArgumentError, LarvikError, NotFoundError
from larvik.formats.base import SeriesInfo, SeriesSource, check_index, file_name, is_url, unreadable
from larvik.formats.kinds import guess_kind
from larvik.storage.base import Store, join, open_store
from larvik.storage.engine import open_reader
from larvik.storage.ngff import read_attributes, read_group, read_ome_xml, read_spec

FORMAT = "ome-zarr"
#: Most images of a collection or plate that are listed.
MAX_IMAGES = 20_000
#: An array that declares more than this times its stored bytes, and more than this many bytes, is a bomb.
MAX_RATIO, MIN_BOMB_BYTES = 10_000, 1 << 30
#: Characters of the attributes that are kept as text.
MAX_TEXT = 16 * 2**20


@dataclass(frozen=True, slots=True)
class _Found:
    """One image of a hierarchy: where it is, and what the hierarchy says of it."""

    location: str
    name: str | None = None
    parent: int | None = None
    plate: str | None = None
    well: str | None = None
    field: int | None = None
    xml_index: int | None = None


class OmeZarrReader:
    """Reads groups of OME-Zarr on disk or in S3; every series can be copied or registered in place."""

    name = "ome-zarr"

    def accepts(self, path: str) -> bool:
        """Tell whether the folder or prefix is a Zarr group."""
        if not is_url(path) and not os.path.isdir(path):
            return False
        store, location = open_parent(path)
        return any(store.stat(join(location, name)) for name in ("zarr.json", ".zgroup", ".zattrs"))

    def inspect(self, path: str) -> list[SeriesInfo]:
        """Return every image of the hierarchy, labels after the image that they belong to."""
        tree = _Tree(path)
        return [tree.info(index) for index in range(len(tree.images))]

    def open(self, path: str, index: int) -> SeriesSource:
        """Open one image at its finest level."""
        tree = _Tree(path)
        check_index(path, index, len(tree.images))
        return tree.source(index)


def open_parent(path: str) -> tuple[Store, str]:
    """Return the store in which the group at `path` lies, and its location there."""
    if is_url(path):
        head, _, name = path.rstrip("/").rpartition("/")
        return (open_store(head), name) if head.removeprefix("s3://") else (open_store(path), "")
    folder, name = os.path.split(os.path.realpath(path))
    return open_store(folder), name


class _Tree:
    """A group and the images below it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._store, self._root = open_parent(path)
        self._specs: dict[int, ArraySpec] = {}

    @cached_property
    def images(self) -> list[_Found]:
        """Every image, in order, each followed by its labels."""
        found: list[_Found] = []
        for image in self._walk():
            found.append(image)
            if len(found) > MAX_IMAGES:
                raise unreadable(
                    self._path, f"it has more than {MAX_IMAGES} images; import its parts one by one"
                )
            parent = len(found) - 1
            found += [_Found(label, parent=parent, name=name) for label, name in self._labels(image.location)]
        return found

    def _walk(self) -> Iterator[_Found]:
        attributes = read_attributes(self._store, self._root)
        ngff = _ngff(attributes)
        if isinstance(ngff.get("plate"), Mapping):
            yield from self._plate(self._root, ngff["plate"])
        elif isinstance(ngff.get("well"), Mapping):
            yield from self._well(self._root, ngff["well"], None, "/".join(self._root.split("/")[-2:]))
        elif _layout(attributes) is not None and "multiscales" not in ngff:
            yield from self._collection()
        elif isinstance(ngff.get("labels"), list) and "multiscales" not in ngff:
            for location, name in self._listed_labels(self._root, ngff["labels"]):
                yield _Found(location, name=name)
        else:
            yield _Found(self._root)

    def _collection(self) -> Iterator[_Found]:
        """Yield the images of bioformats2raw: listed in the OME group, else numbered."""
        paths: Any = None
        with suppress(NotFoundError):
            paths = _ngff(read_attributes(self._store, join(self._root, "OME"))).get("series")
        if not isinstance(paths, list) or not all(isinstance(item, str) for item in paths):
            names = [name for name in self._store.children(self._root) if re.fullmatch(r"[0-9]{1,6}", name)]
            paths = sorted(names, key=int)
        for index, path in enumerate(paths):
            yield _Found(join(self._root, path), xml_index=index)

    def _plate(self, location: str, plate: Mapping[str, Any]) -> Iterator[_Found]:
        name = str(plate.get("name") or _stem(location))[:200]
        wells = plate.get("wells")
        for well in wells if isinstance(wells, list) else ():
            path = well.get("path") if isinstance(well, Mapping) else None
            if not isinstance(path, str):
                raise InvalidArgumentError(
                    "plate.wells has a well without a path.", reason="METADATA_INVALID", field="plate.wells"
                )
            where = join(location, path)
            try:
                found = _ngff(read_attributes(self._store, where)).get("well")
            except NotFoundError:
                continue  # a plate lists wells that were never imaged
            if isinstance(found, Mapping):
                yield from self._well(where, found, name, path)

    def _well(self, location: str, well: Mapping[str, Any], plate: str | None, path: str) -> Iterator[_Found]:
        images = well.get("images")
        label = "".join(path.split("/"))
        for number, image in enumerate(images if isinstance(images, list) else ()):
            name = image.get("path") if isinstance(image, Mapping) else None
            if isinstance(name, str):
                yield _Found(join(location, name), f"{label}/{number}", None, plate, label, number)

    def _labels(self, location: str) -> list[tuple[str, str]]:
        where = join(location, "labels")
        try:
            names = _ngff(read_attributes(self._store, where)).get("labels")
        except NotFoundError:
            return []
        return self._listed_labels(where, names)

    def _listed_labels(self, location: str, names: Any) -> list[tuple[str, str]]:
        if not isinstance(names, list):
            return []
        return [(join(location, name), name) for name in names if isinstance(name, str) and name]

    def spec(self, index: int) -> ArraySpec:
        """Return the spec of one image."""
        if index not in self._specs:
            self._specs[index] = read_spec(self._store, self.images[index].location)
        return self._specs[index]

    def info(self, index: int) -> SeriesInfo:
        """Return what one image is."""
        image, spec = self.images[index], self.spec(index)
        group = read_group(self._store, image.location)
        warnings: list[str] = []
        xml = self._xml_image(index, warnings)
        level = spec.levels[0]
        name = image.name or group.name or (xml.name if xml else "") or self._default_name(index)
        return SeriesInfo(
            index=index,
            name=clean_text(name, 400),
            format=FORMAT,
            axes=spec.axes,
            shape=spec.shape,
            dtype=spec.dtype,
            spacing=level.spacing,
            origin=level.origin,
            coordinates=spec.coordinates,
            channel_names=spec.channel_names,
            kind=self._kind(index, spec, name),
            parent=image.parent,
            plate=image.plate,
            well=image.well,
            field=image.field,
            store_url=self._store.url,
            location=image.location,
            warnings=tuple(warnings),
        )

    def source(self, index: int) -> SeriesSource:
        """Return one image, open for reading."""
        image, spec = self.images[index], self.spec(index)
        level = spec.levels[0]
        reader = open_reader(self._store, image.location, level, spec.dtype)
        self._refuse_bomb(
            join(image.location, level.path), math.prod(spec.shape) * itemsize(spec.dtype), index
        )
        attributes = read_group(self._store, image.location).attributes
        return SeriesSource(
            self.info(index), self._biometa(index), level.chunks, reader.read, attributes=attributes
        )

    def _refuse_bomb(self, location: str, declared: int, series: int) -> None:
        if declared <= MIN_BOMB_BYTES:
            return
        stored = 0
        for _, size in self._store.list(location):
            stored += size
            if stored * MAX_RATIO >= declared:
                return
        raise unreadable(
            self._path, f"it declares {declared} bytes of pixels and stores {stored}, which cannot be", series
        )

    def _kind(self, index: int, spec: ArraySpec, name: str) -> str:
        attributes = read_attributes(self._store, self.images[index].location)
        ours = attributes.get("larvik")
        kind = ours.get("kind") if isinstance(ours, Mapping) else None
        if kind in ("intensity", "label", "mask"):
            return str(kind)
        is_label = self.images[index].parent is not None or "image-label" in _ngff(attributes)
        if is_label:
            return "mask" if spec.dtype == "bool" else "label"
        return guess_kind(spec.dtype, name, _stem(self._root))

    def _default_name(self, index: int) -> str:
        stem = _stem(self._root)
        return (
            stem
            if len(self.images) == 1
            else f"{stem} {self.images[index].location.removeprefix(self._root).strip('/')}"
        )

    @cached_property
    def _document(self) -> OmeDocument | None:
        """The OME-XML of a collection."""
        text = read_ome_xml(self._store, self._root)
        return None if text is None else OmeDocument(text)

    def _xml_image(self, index: int, warnings: list[str]) -> OmeImage | None:
        """Return what OME-XML says of an image; the group's own metadata are enough where it is broken."""
        found = self.images[index]
        try:
            if found.xml_index is not None:
                images = self._document.images if self._document else ()
                number = found.xml_index
            else:
                text = read_ome_xml(self._store, found.location)
                images, number = (OmeDocument(text).images if text is not None else ()), 0
            return images[number] if number < len(images) else None
        except LarvikError as error:
            warnings.append(f"The OME-XML beside the image is left out. {error}")
            return None

    def _biometa(self, index: int) -> Biometa:
        spec = self.spec(index)
        group = read_group(self._store, self.images[index].location)
        image = self._xml_image(index, [])
        found = Biometa()
        if image is not None:
            try:
                found = biometa_of(image)
            except LarvikError:
                found = Biometa()
        sizes = dict(zip(spec.dims, spec.shape, strict=True))
        scan = found.scan[0] if found.scan else make_row("scan", name=group.name or None)
        steps = {axis.name: step for axis, step in zip(spec.axes, spec.levels[0].spacing, strict=True)
                 if axis.unit in ("micrometer", "second")}  # fmt: skip
        scan = {
            **scan,
            **{f"size_{dim}": sizes.get(dim, 1) for dim in "xyzct"},
            **{f"physical_size_{dim}": steps.get(dim, scan[f"physical_size_{dim}"]) for dim in "xyz"},
            "time_increment": steps.get("t", scan["time_increment"]),
        }
        planes = tuple(
            row for row in found.planes if all(row[f"the_{dim}"] < sizes.get(dim, 1) for dim in "zct")
        )
        channels = self._channels(sizes.get("c", 1), found.channels, group.channels, spec.channel_names)
        return replace(
            found,
            scan=(scan,),
            channels=channels,
            planes=planes,
            original=(*found.original, self._original(index)),
        )

    def _channels(
        self, count: int, rows: tuple[Row, ...], displays: tuple[Any, ...], names: tuple[str, ...]
    ) -> tuple[Row, ...]:
        """Return the channel rows: those of OME-XML, with colors and windows of ``omero``."""
        if len(rows) != count:
            rows = tuple(make_row("channels", index=index) for index in range(count))
        result = []
        for index, row in enumerate(rows):
            shown = displays[index] if index < len(displays) else None
            changes: Row = {"name": row["name"] or (names[index] if index < len(names) else None)}
            if shown is not None:
                changes["name"] = shown.name or changes["name"]
                changes["color"] = f"#{shown.color.lower()}" if shown.color else row["color"]
                if shown.window:
                    changes["window_start"], changes["window_end"] = shown.window
            result.append({**row, **changes})
        return tuple(result)

    def _original(self, index: int) -> Row:
        attributes = read_attributes(self._store, self.images[index].location)
        text = json.dumps(attributes, ensure_ascii=False, indent=1, default=str)
        return make_row(
            "original",
            format="ngff",
            text=text[:MAX_TEXT],
            attributes=attributes if len(text) < 2**20 else None,
        )


def _ngff(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return where NGFF metadata are: below ``ome`` from 0.5 on, at the top before."""
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) else attributes


def _layout(attributes: Mapping[str, Any]) -> Any:
    return _ngff(attributes).get("bioformats2raw.layout", attributes.get("bioformats2raw.layout"))


def _stem(location: str) -> str:
    return re.sub(r"(\.ome)?\.zarr$", "", file_name(location), flags=re.I)
