"""Groups of arrays, in and out: OME-Zarr 0.5 images, OME-Zarr 0.4 to read, and plain Zarr groups.

A group of ours holds, written last, a ``zarr.json`` with ``ome`` (NGFF images only) and ``larvik``
(format version, array id, versions); ``OME/METADATA.ome.xml`` lies beside the levels, where
bioformats2raw puts it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from larvik.array.spec import ArraySpec
from larvik.errors import NotFoundError, UnsupportedError
from larvik.storage.base import Store, join
from larvik.storage.documents import invalid, read_json, write_json
from larvik.storage.group import FORMAT_VERSION, ChannelDisplay, GroupMetadata, omero_document, read_channels
from larvik.storage.multiscale import channel_labels, multiscales_document, ngff_version, read_multiscales
from larvik.storage.plain import axes_document, read_plain, write_coordinates
from larvik.storage.zarr_metadata import grid_indices, read_array_metadata

#: Attributes of a group that are not free.
_OURS = {"ome", "larvik", "multiscales", "omero", "_creator", "_ARRAY_DIMENSIONS"}

#: Where the OME-XML of a group is.
OME_XML = "OME/METADATA.ome.xml"
#: Largest OME-XML that is read.
MAX_XML_BYTES = 256 << 20
#: Stored chunks of each level whose time and size belong to a fingerprint.
FINGERPRINT_CHUNKS = 16


def read_spec(store: Store, location: str, *, variable: str | None = None) -> ArraySpec:
    """Return the spec of the array group at `location`.

    Parameters
    ----------
    store : Store
        Where it is.
    location : str
        Key of the group: an OME-Zarr 0.5 or 0.4 image, or a group that xarray opens.
    variable : str, optional
        Which array of a plain group; needed when it has several that are no coordinates.

    Raises
    ------
    NotFoundError
        ``ARRAY_NOT_FOUND``, when there is no such group.
    InvalidArgumentError
        ``METADATA_INVALID``, ``SHAPE_INVALID``, ``DTYPE_UNSUPPORTED``, ``KEY_INVALID`` or
        ``VARIABLE_AMBIGUOUS``; names the field.
    UnsupportedError
        ``FORMAT_UNSUPPORTED``, for other versions.
    """
    attributes = read_attributes(store, location)
    _check_format_version(attributes)
    found = ngff_version(attributes)
    if found is None:
        return read_plain(store, location, attributes, variable)
    version, document = found
    spec = read_multiscales(
        document.get("multiscales"),
        version,
        lambda path: read_array_metadata(store, join(location, path)),
        channel_labels(document.get("omero")),
    )
    return _with_coordinates(spec, attributes)


def read_attributes(store: Store, location: str) -> dict[str, Any]:
    """Return the attributes of the group at `location`, Zarr v3 or v2.

    Raises
    ------
    NotFoundError
        ``ARRAY_NOT_FOUND``, when there is no group.
    InvalidArgumentError
        ``METADATA_INVALID``.
    """
    document = read_json(store, join(location, "zarr.json"))
    if document is not None and document.get("node_type") == "group":
        attributes = document.get("attributes", {})
    elif document is None and read_json(store, join(location, ".zgroup")) is not None:
        attributes = read_json(store, join(location, ".zattrs")) or {}
    else:
        raise NotFoundError(
            f"There is no Zarr group at {location!r}.", reason="ARRAY_NOT_FOUND", location=location
        )
    if not isinstance(attributes, dict):
        raise invalid("not a JSON object", f"{location}: attributes")
    return attributes


def read_group(store: Store, location: str) -> GroupMetadata:
    """Return name, channels, OME-XML and free attributes of the group at `location`."""
    attributes = read_attributes(store, location)
    found = ngff_version(attributes)
    document = found[1] if found else {}
    images = document.get("multiscales")
    first = images[0] if isinstance(images, list) and images and isinstance(images[0], Mapping) else {}
    larvik = attributes.get("larvik")
    larvik = larvik if isinstance(larvik, Mapping) else {}
    name = first.get("name") or larvik.get("name")
    return GroupMetadata(
        name=name if isinstance(name, str) else "",
        channels=read_channels(document.get("omero")),
        ome_xml=read_ome_xml(store, location),
        attributes={key: value for key, value in attributes.items() if key not in _OURS},
        array_id=str(larvik.get("array_id", "")),
        version=_integer(larvik.get("version")),
        revision=_integer(larvik.get("revision")),
    )


def read_ome_xml(store: Store, location: str) -> str | None:
    """Return the OME-XML beside the image, or None without it.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INVALID``, when it is larger than `MAX_XML_BYTES` or not UTF-8.
    """
    try:
        data = store.read(join(location, OME_XML), 0, MAX_XML_BYTES + 1)
    except NotFoundError:
        return None
    if len(data) > MAX_XML_BYTES:
        raise invalid(f"larger than {MAX_XML_BYTES >> 20} MiB", OME_XML)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid("not UTF-8 text", OME_XML) from error


def write_group(
    store: Store, location: str, spec: ArraySpec, metadata: GroupMetadata, *, kind: str = "intensity"
) -> None:
    """Write everything of a group but its levels; ``zarr.json``, which makes it one, comes last."""
    larvik: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "array_id": metadata.array_id,
        "version": metadata.version,
        "kind": kind,
    }
    attributes: dict[str, Any] = {"larvik": larvik}
    document: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    if spec.format == "ome-zarr":
        attributes["ome"] = {
            "version": "0.5",
            "multiscales": multiscales_document(spec, metadata.name, kind),
            "_creator": {"name": "larvik"},
        }
        if spec.coordinates:
            larvik["coordinates"] = {name: list(values) for name, values in spec.coordinates.items()}
    else:
        larvik["axes"] = axes_document(spec)
        members = write_coordinates(store, location, spec)
        for level in spec.levels:
            members[level.path] = read_json(store, join(location, level.path, "zarr.json")) or {}
        # What zarr-python calls consolidated metadata: xarray opens the group by one read, and silently.
        document["consolidated_metadata"] = {
            "kind": "inline", "must_understand": False, "metadata": members,
        }  # fmt: skip
    _apply(attributes, metadata, spec.dtype, spec.channel_names)
    _write_ome_xml(store, location, metadata.ome_xml)
    write_json(store, join(location, "zarr.json"), document)


def update_metadata(store: Store, location: str, metadata: GroupMetadata) -> bool:
    """Replace the copy of a row's metadata in its group, atomically; pixels and levels stay.

    Returns
    -------
    bool
        False when the copy there is of a later revision, and stays.

    Notes
    -----
    Attributes that `metadata` does not name are preserved, in ``ome`` too. The OME-XML is replaced first,
    the ``zarr.json`` with the revision last: a crash between leaves the old revision, and so a repair.
    """
    key = join(location, "zarr.json")
    document = read_json(store, key)
    if document is None or document.get("node_type") != "group":
        raise NotFoundError(
            f"There is no Zarr group at {location!r}.", reason="ARRAY_NOT_FOUND", location=location
        )
    spec = read_spec(store, location)
    attributes = document.setdefault("attributes", {})
    if not isinstance(attributes.get("larvik"), dict):
        attributes["larvik"] = {"format_version": FORMAT_VERSION}
    if _integer(attributes["larvik"].get("revision"), 0) > metadata.revision:
        return False
    _apply(attributes, metadata, spec.dtype, spec.channel_names)
    _write_ome_xml(store, location, metadata.ome_xml)
    write_json(store, key, document)
    return True


def fingerprint(store: Store, location: str) -> str:
    """Return a short text that changes when the group at `location` was changed.

    Notes
    -----
    A hash over the bytes of the metadata documents (group, levels, OME-XML) and over size and time (or
    ETag) of `FINGERPRINT_CHUNKS` stored chunks per level, spread evenly: first and last included. Not all
    chunks are looked at, so that a source with a million of them is checked in milliseconds; one chunk
    rewritten in place between those is not noticed.
    """
    digest = hashlib.sha256()
    for key in ("zarr.json", ".zgroup", ".zattrs", OME_XML):
        _digest_object(digest, store, join(location, key))
    for level in read_spec(store, location).levels:
        where = join(location, level.path)
        for key in ("zarr.json", ".zarray", ".zattrs"):
            _digest_object(digest, store, join(where, key))
        metadata = read_array_metadata(store, where)
        if metadata is not None:
            for key in map(metadata.key, _spread(metadata.shape, metadata.shards)):
                info = store.stat(join(where, key))
                digest.update(f"{key} {info.tag if info else None}\n".encode())
    return digest.hexdigest()[:40]


def _spread(shape: tuple[int, ...], shards: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the index of up to `FINGERPRINT_CHUNKS` stored chunks, evenly spread in C order."""
    counts = [-(-size // extent) for size, extent in zip(shape, shards, strict=True)]
    total = 1
    for count in counts:
        total *= count
    if total <= FINGERPRINT_CHUNKS:
        return list(grid_indices(shape, shards))
    indices = []
    for number in range(FINGERPRINT_CHUNKS):
        rest, index = number * (total - 1) // (FINGERPRINT_CHUNKS - 1), []
        for count in reversed(counts):
            rest, last = divmod(rest, count)
            index.append(last)
        indices.append(tuple(reversed(index)))
    return indices


def _digest_object(digest: Any, store: Store, key: str) -> None:
    info = store.stat(key)
    digest.update(f"{key} {info.tag if info else None}\n".encode())
    if info is not None and not key.endswith(".xml"):
        digest.update(store.read(key))


def _apply(
    attributes: dict[str, Any], metadata: GroupMetadata, dtype: str, channel_names: tuple[str, ...]
) -> None:
    """Put what a row may change into the attributes of its group, and take out what it no longer has."""
    larvik = attributes["larvik"]
    free = {key: value for key, value in metadata.attributes.items() if key not in _OURS}
    previous = larvik.get("attributes")
    for key in previous if isinstance(previous, list) else ():
        if isinstance(key, str) and key not in _OURS and key not in free:
            attributes.pop(key, None)
    attributes.update(free)
    larvik.update(name=metadata.name, revision=metadata.revision, attributes=sorted(free))
    larvik["array_id"] = metadata.array_id or larvik.get("array_id", "")
    ome = attributes.get("ome")
    if not isinstance(ome, dict) or "multiscales" not in ome:
        return
    ome["multiscales"][0]["name"] = metadata.name
    channels = metadata.channels or tuple(ChannelDisplay(name) for name in channel_names)
    if channels:
        # Names stay unique, as the rows have them; display settings that others added are preserved.
        omero = omero_document(channels, dtype)
        kept = ome.get("omero")
        ome["omero"] = {**(kept if isinstance(kept, dict) else {}), **omero}


def _with_coordinates(spec: ArraySpec, attributes: Mapping[str, Any]) -> ArraySpec:
    """Return `spec` with the irregular coordinates that Larvik kept in the group."""
    larvik = attributes.get("larvik")
    kept = larvik.get("coordinates") if isinstance(larvik, Mapping) else None
    if not isinstance(kept, Mapping):
        return spec
    sizes = dict(zip(spec.dims, spec.shape, strict=True))
    sound = {
        name: tuple(values)
        for name, values in kept.items()
        if isinstance(values, list) and len(values) == sizes.get(name)
    }
    return replace(spec, coordinates=sound)


def _write_ome_xml(store: Store, location: str, ome_xml: str | None) -> None:
    if ome_xml is None:
        return
    # A group of its own, so that whoever lists the members of the image does not stumble over it.
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    write_json(store, join(location, "OME/zarr.json"), group)
    store.write(join(location, OME_XML), ome_xml.encode("utf-8", "replace"))


def _check_format_version(attributes: Mapping[str, Any]) -> None:
    larvik = attributes.get("larvik")
    version = larvik.get("format_version") if isinstance(larvik, Mapping) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UnsupportedError(
            f"The array was written by a later Larvik (format {version}); this one reads {FORMAT_VERSION}. "
            "Upgrade Larvik.",
            reason="FORMAT_UNSUPPORTED",
            field="format_version",
        )


def _integer(value: Any, default: int = 1) -> int:
    return value if type(value) is int and value >= 0 else default
