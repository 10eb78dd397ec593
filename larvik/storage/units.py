"""Units of axes: those that NGFF and xarray files use, in the micrometers and seconds of Larvik."""

from __future__ import annotations

from typing import Any

_PREFIXES = {
    "yocto": -24, "zepto": -21, "atto": -18, "femto": -15, "pico": -12, "nano": -9, "micro": -6, "milli": -3,
    "centi": -2, "deci": -1, "": 0, "hecto": 2, "kilo": 3, "mega": 6, "giga": 9, "tera": 12, "peta": 15,
    "exa": 18, "zetta": 21, "yotta": 24,
}  # fmt: skip
_LENGTHS = {
    **{f"{prefix}meter": 10.0 ** (power + 6) for prefix, power in _PREFIXES.items()},
    "angstrom": 1e-4, "foot": 304800.0, "inch": 25400.0, "mile": 1609344000.0, "yard": 914400.0,
    "parsec": 3.0856775814913673e22,
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6,
}  # fmt: skip
_TIMES = {
    **{f"{prefix}second": 10.0**power for prefix, power in _PREFIXES.items()},
    "minute": 60.0, "hour": 3600.0, "day": 86400.0,
    "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0,
}  # fmt: skip


def to_canonical(unit: Any, axis_type: str) -> tuple[str | None, float]:
    """Return the unit that Larvik gives to an axis, and the factor from `unit` to it.

    A space axis with no unit, or one that is unknown, counts pixels; a time axis then counts frames (unit
    None). The factor is then 1.
    """
    name = unit.strip() if isinstance(unit, str) else ""
    singular = name if name in _LENGTHS or name in _TIMES else name.lower().removesuffix("s")
    singular = singular.replace("metre", "meter")
    if axis_type == "space":
        return ("micrometer", _LENGTHS[singular]) if singular in _LENGTHS else ("pixel", 1.0)
    if axis_type == "time":
        return ("second", _TIMES[singular]) if singular in _TIMES else (None, 1.0)
    return None, 1.0
