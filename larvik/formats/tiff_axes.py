"""Names and physical sizes of the dims of TIFFs that carry no OME-XML: ImageJ's, tifffile's, nobody's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from larvik.biometa.units import convert

#: Dims of the letters that tifffile gives to axes; the first five are those of images.
NAMES = {
    "T": "t", "C": "c", "Z": "z", "Y": "y", "X": "x", "H": "lifetime", "E": "lambda", "A": "angle",
    "P": "phase", "R": "tile", "M": "mosaic", "L": "exposure", "V": "event", "W": "other",
}  # fmt: skip
#: Most positions along an unnamed dim that are taken for channels.
MAX_CHANNELS = 4
#: Pixel sizes in micrometer that a microscope can have; others are printing resolutions.
PLAUSIBLE = (1e-4, 1e3)
#: Values of ResolutionUnit.
_RESOLUTION_UNITS = {2: "in", 3: "cm"}
#: Resolutions in pixels per inch that programs write when they know none.
_PRINTING = (1, 72, 96, 100, 120, 150, 200, 300, 400, 600, 1200)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Spacing by dim: micrometer for ``z y x``, second for ``t``; dims that are not known are left out."""

    spacing: Mapping[str, float]


def name_axes(letters: str, shape: tuple[int, ...]) -> tuple[list[str], list[str]]:
    """Return a dim name for every axis of tifffile's `letters`, and warnings about what was guessed.

    Unnamed axes (``Q``, ``I``) are taken for ``c`` when they have at most `MAX_CHANNELS` positions, else
    for ``z``, then ``t``. Samples of a pixel (``S``) are channels.
    """
    names = ["c" if letter == "S" else NAMES.get(letter, "") for letter in letters]
    unnamed = [number for number, name in enumerate(names) if not name]
    for number in reversed(unnamed):
        wanted = ("c", "z", "t") if shape[number] <= MAX_CHANNELS else ("z", "t")
        names[number] = next((dim for dim in wanted if dim not in names), f"dim_{number}")
    if not unnamed:
        return names, []
    axes = ", ".join(f"{names[number]} ({shape[number]})" for number in unnamed)
    return names, [f"The file does not name its axes; they were taken for: {axes}."]


def imagej_calibration(
    metadata: Mapping[str, Any], resolution: tuple[float | None, float | None]
) -> Calibration:
    """Return what ImageJ's metadata say of sizes.

    Parameters
    ----------
    metadata : mapping
        As tifffile reads it: ``unit``, ``spacing``, ``finterval``, ``fps``.
    resolution : tuple of float or None
        Pixels per unit along x and y.
    """
    unit = _imagej_unit(metadata)
    spacing: dict[str, float | None] = {
        "x": _length(resolution[0] and 1 / resolution[0], unit),
        "y": _length(resolution[1] and 1 / resolution[1], unit),
        "z": _length(metadata.get("spacing"), unit),
        "t": _time(metadata),
    }
    return Calibration({dim: value for dim, value in spacing.items() if value and value > 0})


def plain_calibration(resolution: tuple[float | None, float | None], unit: int) -> Calibration:
    """Return the pixel size that the resolution tags tell, when it is one of a microscope."""
    name = _RESOLUTION_UNITS.get(unit)
    found = {}
    for dim, value in zip("xy", resolution, strict=True):
        if name is None or not value or _is_printing(value * (1.0 if name == "in" else 2.54)):
            return Calibration({})
        size = convert(1 / value, name, "micrometer")
        if size is None or not PLAUSIBLE[0] <= size <= PLAUSIBLE[1]:
            return Calibration({})
        found[dim] = size
    return Calibration(found)


def resolution_of(page: Any) -> tuple[float | None, float | None]:
    """Return pixels per unit along x and y, as the page's tags have it."""
    return _rational(page, "XResolution"), _rational(page, "YResolution")


def imagej_text(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return ImageJ's metadata as JSON values: what is no text or number is left out."""
    found: dict[str, Any] = {}
    for key, value in list(metadata.items())[:2000]:
        if isinstance(value, str):
            found[str(key)[:500]] = value.replace("\0", "")[:100_000]
        elif isinstance(value, bool | int | float) and value == value and abs(value) < 1e300:
            found[str(key)[:500]] = value
        elif (
            isinstance(value, list) and len(value) <= 10_000 and all(isinstance(item, str) for item in value)
        ):
            found[str(key)[:500]] = [item.replace("\0", "")[:2000] for item in value]
    return found


def as_json(value: Mapping[str, Any]) -> str:
    """Return `value` as searchable text."""
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def _imagej_unit(metadata: Mapping[str, Any]) -> str:
    text = str(metadata.get("unit", "")).strip()
    # ImageJ escapes the micro sign as Java does.
    return text.replace("\\u00B5", "µ").replace("\\u00b5", "µ").replace("\\u03BC", "µ")


def _length(value: Any, unit: str) -> float | None:
    return convert(float(value), unit, "micrometer") if isinstance(value, int | float) and value > 0 else None


def _time(metadata: Mapping[str, Any]) -> float | None:
    interval, fps = metadata.get("finterval"), metadata.get("fps")
    if isinstance(interval, int | float) and interval > 0:
        return convert(float(interval), str(metadata.get("tunit", "sec")), "second") or float(interval)
    return 1 / float(fps) if isinstance(fps, int | float) and fps > 0 else None


def _rational(page: Any, name: str) -> float | None:
    tag = page.tags.get(name)
    value = None if tag is None else tag.value
    if (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(item, int) for item in value)
        and value[1]
    ):
        value = value[0] / value[1]
    return float(value) if isinstance(value, int | float) and 0 < value < 1e15 else None


def _is_printing(per_inch: float) -> bool:
    return any(abs(per_inch - value) < 0.5 for value in _PRINTING)
