"""What a group says beside its pixels: name, channels as they are shown, OME-XML, ids, attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from larvik.array.channel_names import clean_name

#: Version of what Larvik writes into a group; readers refuse later ones.
FORMAT_VERSION = 1

_SINGLE = "FFFFFF"
_PALETTE = ("00FFFF", "FF00FF", "FFFF00", "FF0000", "00FF00", "0000FF")


@dataclass(frozen=True, slots=True)
class ChannelDisplay:
    """How one channel is shown.

    Attributes
    ----------
    name : str
        Name of the channel.
    color : str or None
        ``RRGGBB``; None for the default of its position.
    window : tuple of float, or None
        Intensities that are shown black and full; None for the range of the dtype.
    """

    name: str
    color: str | None = None
    window: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class GroupMetadata:
    """The copy of a row's metadata that is kept in its group; the database is its truth.

    Attributes
    ----------
    name : str
        Name of the array.
    channels : tuple of ChannelDisplay
        Along ``c``; empty without.
    ome_xml : str or None
        The OME-XML document beside the image; None leaves what is there.
    attributes : mapping
        Free attributes of the group, JSON values; ``ome`` and ``larvik`` are ours.
    array_id : str
        Id of the row.
    version : int
        Version of the pixels.
    revision : int
        Revision of the row (biometa included) that this copy was made from.
    """

    name: str = ""
    channels: tuple[ChannelDisplay, ...] = ()
    ome_xml: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    array_id: str = ""
    version: int = 1
    revision: int = 1


def omero_document(channels: Sequence[ChannelDisplay], dtype: str) -> dict[str, Any]:
    """Return the ``omero`` document of `channels`, with a color and a window for each."""
    low, high = dtype_range(dtype)
    entries = []
    for number, channel in enumerate(channels):
        start, end = channel.window or (low, high)
        default = _SINGLE if len(channels) == 1 else _PALETTE[number % len(_PALETTE)]
        entries.append(
            {
                "label": channel.name,
                "color": channel.color or default,
                "active": True,
                "window": {"min": min(low, start), "max": max(high, end), "start": start, "end": end},
            }
        )
    return {"channels": entries}


def channel_displays(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> tuple[ChannelDisplay, ...]:
    """Return how channels are shown, from their names in the array and their rows of biometa."""
    known = {row["index"]: row for row in rows}
    found = []
    for index, name in enumerate(names):
        row = known.get(index, {})
        start, end = row.get("window_start"), row.get("window_end")
        window = (start, end) if start is not None and end is not None and start < end else None
        color = (row.get("color") or "").lstrip("#").upper()[:6]
        found.append(ChannelDisplay(row.get("name") or name, color if len(color) == 6 else None, window))
    return tuple(found)


def read_channels(omero: Any) -> tuple[ChannelDisplay, ...]:
    """Return the channels of an ``omero`` document; what is malformed in it is left out."""
    items = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(items, list):
        return ()
    return tuple(_read_channel(item if isinstance(item, Mapping) else {}) for item in items[:10_000])


def dtype_range(dtype: str) -> tuple[float, float]:
    """Return the least and greatest value of an integer dtype; 0 and 1 of others."""
    if "int" not in dtype:
        return 0, 1
    bits = int("".join(filter(str.isdigit, dtype)))
    return (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _read_channel(item: Mapping[str, Any]) -> ChannelDisplay:
    label, color, window = item.get("label"), item.get("color"), item.get("window")
    return ChannelDisplay(
        clean_name(label) if isinstance(label, str) else "", _read_color(color), _read_window(window)
    )


def _read_color(value: Any) -> str | None:
    text = value.lstrip("#").upper() if isinstance(value, str) else ""
    return text if len(text) == 6 and all(ch in "0123456789ABCDEF" for ch in text) else None


def _read_window(value: Any) -> tuple[float, float] | None:
    bounds = [value.get(name) if isinstance(value, Mapping) else None for name in ("start", "end")]
    if any(isinstance(bound, bool) or not isinstance(bound, int | float) for bound in bounds):
        return None
    start, end = (float(bound) for bound in bounds if bound is not None and abs(bound) < 1e300)
    return (start, end) if start < end else None
