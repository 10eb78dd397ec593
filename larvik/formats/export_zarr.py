"""Writing OME-Zarr 0.5 (or a plain Zarr group, for what NGFF has no place for), with labels."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from larvik.array.evaluator import Reader
from larvik.array.spec import ArraySpec
from larvik.biometa.ome_write import channel_rows, to_ome_xml, why_not_ome
from larvik.biometa.tables import Biometa
from larvik.errors import InvalidArgumentError
from larvik.formats.target import Cancelled, Progress, Steps, new_target
from larvik.storage.base import Store, join, open_store
from larvik.storage.documents import read_json, write_json
from larvik.storage.group import ChannelDisplay, GroupMetadata, channel_displays
from larvik.storage.layout import plan_layout
from larvik.storage.writer import ArrayWriter


@dataclass(frozen=True, slots=True)
class LabelImage:
    """A label image to be written below ``labels/`` of an image."""

    name: str
    reader: Reader
    spec: ArraySpec
    kind: str = "label"


def export_ome_zarr(
    path: str,
    reader: Reader,
    spec: ArraySpec,
    biometa: Biometa,
    *,
    name: str,
    kind: str = "intensity",
    labels: Sequence[LabelImage] = (),
    attributes: dict[str, object] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> None:
    """Write an array as an OME-Zarr 0.5 folder, sharded, with its pyramid and its labels.

    Parameters
    ----------
    path : str
        Target folder.
    reader : Reader
        The finest level; read shard by shard.
    spec : ArraySpec
        Of the array; its grid is chosen anew.
    biometa : Biometa
        Written as OME-XML beside the levels, where OME can describe the array.
    name : str
        Name of the image.
    kind : str
        ``intensity``, ``label`` or ``mask``: how coarser levels are made.
    labels : sequence of LabelImage
        Written below ``labels/``; only for NGFF images.
    attributes : dict, optional
        Free attributes of the group.
    overwrite : bool
        Whether an existing folder may be replaced.
    progress, cancelled : callable, optional
        Told of, and asked between, shards.

    Raises
    ------
    AlreadyExistsError, NotFoundError, ResourceExhaustedError, CallCancelledError
        As `larvik.formats.target.new_target` says; no half-written folder stays.
    """
    total = math.prod(spec.shape) + sum(math.prod(label.spec.shape) for label in labels)
    steps = Steps(total, progress, cancelled)
    with new_target(path, overwrite=overwrite) as partial:
        folder, location = os.path.split(partial)
        store = open_store(folder)
        ome_xml = None if why_not_ome(spec) else to_ome_xml(spec, biometa, name)
        metadata = GroupMetadata(
            name=name, channels=_channels(spec, biometa), ome_xml=ome_xml, attributes=attributes or {}
        )
        written = _write(store, location, reader, spec, kind, metadata, steps)
        if labels and written.format != "ome-zarr":
            raise InvalidArgumentError(
                "Labels need an NGFF image (dims t c z y x); export this array and its labels one by one.",
                reason="FORMAT_UNSUPPORTED",
                field="labels",
            )
        _write_labels(store, location, labels, steps)


def _write(
    store: Store,
    location: str,
    reader: Reader,
    spec: ArraySpec,
    kind: str,
    metadata: GroupMetadata,
    steps: Steps,
) -> ArraySpec:
    level = spec.levels[0]
    planned = plan_layout(
        spec.dims, spec.shape, spec.dtype, spec.axes, level.spacing, level.origin, spec.coordinates,
        spec.channel_names, kind=kind,
    )  # fmt: skip
    writer = ArrayWriter(store, location, planned, kind=kind)
    for region in writer.regions():
        steps.check()
        block = reader.read(region).astype(spec.dtype, copy=False)
        writer.write(tuple(part.start for part in region), block)
        steps.add(block.size)
    writer.finish(metadata=metadata, cancelled=steps.is_cancelled)
    return planned


def _write_labels(store: Store, location: str, labels: Sequence[LabelImage], steps: Steps) -> None:
    if not labels:
        return
    names: list[str] = []
    for label in labels:
        names.append(_free_name(label.name, names))
        where = join(location, "labels", names[-1])
        spec = (
            replace(label.spec, dtype="uint8") if label.spec.dtype == "bool" else label.spec
        )  # NGFF: integers
        _write(store, where, label.reader, spec, label.kind, GroupMetadata(name=label.name), steps)
        key = join(where, "zarr.json")
        document = read_json(store, key) or {}
        document["attributes"]["ome"]["image-label"] = {"source": {"image": "../../"}}
        write_json(store, key, document)
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": {"version": "0.5", "labels": names}},
    }
    write_json(store, join(location, "labels/zarr.json"), group)


def _free_name(name: str, taken: Sequence[str]) -> str:
    """Return a name that can be a folder, and that no other label has."""
    base = re.sub(r"[^\w.-]+", "_", name).strip("._")[:100] or "label"
    candidate, number = base, 2
    while candidate in taken:
        candidate, number = f"{base}_{number}", number + 1
    return candidate


def _channels(spec: ArraySpec, biometa: Biometa) -> tuple[ChannelDisplay, ...]:
    if "c" not in spec.dims or not set(spec.dims) <= set("tczyx"):
        return ()
    rows = [{**row, "index": index} for index, row in enumerate(channel_rows(spec, biometa))]
    return channel_displays([row["name"] or "" for row in rows], rows)
