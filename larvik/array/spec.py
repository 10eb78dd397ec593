"""The description of an array: dims, axes, levels and grid, without any pixels.

Stored in the row of every array (column ``spec``), sent on the wire as ``ArraySpec`` of
``array.proto``, and read from the group's ``zarr.json`` by ``larvik.storage``. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: The dtypes that Larvik stores, by NumPy name.
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip

#: NGFF axis types that Larvik gives to the dims it knows; other dims have type "other".
AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension. ``unit`` is ``micrometer``, ``second`` or ``pixel``; None without a unit."""

    name: str
    type: str
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution level.

    Attributes
    ----------
    path : str
        Path of the Zarr array below the group: ``"0"`` is the finest.
    shape, chunks, shards : tuple of int
        Elements per dim. ``chunks`` are the inner chunks, the unit of decoding; ``shards`` the
        unit of storage (equal to ``chunks`` when not sharded).
    spacing, origin : tuple of float
        Distance between samples, and coordinate of sample 0, per dim, in the axis unit.
    """

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]


_LEVEL_SEQUENCES = ("shape", "chunks", "shards", "spacing", "origin")


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Everything about an array but its pixels.

    Attributes
    ----------
    axes : tuple of Axis
        In array order; NGFF order (time, channel, space) where the dims fit it.
    dtype : str
        NumPy name, one of `DTYPES`; the native dtype of the file, always.
    levels : tuple of Level
        Finest first; at least one.
    coordinates : mapping of str to tuple
        Values of the dims that are not ``origin + i * spacing``: times of frames in seconds,
        or labels. Never ``c``: channel names come from biometa.
    channel_names : tuple of str
        Names along ``c``, unique and not empty; ``()`` without a ``c`` dim.
    format : str
        ``ome-zarr`` (NGFF 0.5 image), ``ome-zarr-0.4`` (registered in place only) or ``zarr``
        (group that xarray reads).
    """

    axes: tuple[Axis, ...]
    dtype: str
    levels: tuple[Level, ...]
    coordinates: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    format: str = "ome-zarr"

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions, in order."""
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the finest level."""
        return self.levels[0].shape

    @property
    def nbytes(self) -> int:
        """Size of the finest level in memory, in bytes."""
        return math.prod(self.shape) * itemsize(self.dtype)

    @property
    def nbytes_of_levels(self) -> int:
        """Size of all levels in memory, in bytes."""
        return sum(math.prod(level.shape) for level in self.levels) * itemsize(self.dtype)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (lists for tuples), as stored in the ``spec`` column."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ArraySpec:
        """Return the spec whose JSON form is `value`."""
        return cls(
            axes=tuple(Axis(**axis) for axis in value["axes"]),
            dtype=value["dtype"],
            levels=tuple(
                Level(level["path"], **{name: tuple(level[name]) for name in _LEVEL_SEQUENCES})
                for level in value["levels"]
            ),
            coordinates={name: tuple(items) for name, items in value.get("coordinates", {}).items()},
            channel_names=tuple(value.get("channel_names", ())),
            format=value.get("format", "ome-zarr"),
        )


def itemsize(dtype: str) -> int:
    """Return the bytes of one element of `dtype`, one of `DTYPES`."""
    return 1 if dtype == "bool" else int("".join(filter(str.isdigit, dtype))) // 8


def default_axis(name: str, *, calibrated: bool = True) -> Axis:
    """Return the axis that Larvik gives to a dim called `name`: type and canonical unit."""
    kind = AXIS_TYPES.get(name, "other")
    units = {"time": "second", "space": "micrometer" if calibrated else "pixel"}
    return Axis(name, kind, units.get(kind))
