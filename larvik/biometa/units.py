"""OME units, as symbols of the 2016-06 schema, in micrometer, nanometer, second and volt."""

from __future__ import annotations

#: Powers of ten of the prefixes that OME allows before ``m`` and ``s`` and ``V``.
_PREFIXES = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1, "": 0, "d": -1,
    "c": -2, "m": -3, "µ": -6, "μ": -6, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}  # fmt: skip
#: Powers of ten that bring a length in meters to the unit of the tables.
_LENGTH_TARGETS = {"micrometer": 6, "nanometer": 9}
#: Other lengths, in micrometer. ``pixel`` and ``reference frame`` are no lengths.
_LENGTHS = {
    "Å": 1e-4, "\u212b": 1e-4, "in": 25400.0, "ft": 304800.0, "yd": 914400.0, "mi": 1609344000.0,
    "pt": 25400.0 / 72,
    "li": 25400.0 / 12, "thou": 25.4, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "inch": 25400.0,
}  # fmt: skip
_TIMES = {"min": 60.0, "h": 3600.0, "d": 86400.0, "sec": 1.0, "second": 1.0, "seconds": 1.0}


def convert(value: float | None, unit: str, target: str) -> float | None:
    """Return `value`, in `unit`, in `target`; None when the unit is no measure of that kind.

    Parameters
    ----------
    value : float or None
        None stays None.
    unit : str
        Symbol of the OME schema, or what ImageJ writes (``micron``, ``sec``).
    target : str
        ``micrometer``, ``nanometer``, ``second`` or ``volt``.
    """
    if value is None:
        return None
    unit = unit.strip()
    if target in _LENGTH_TARGETS:
        power = _power(unit, "m")
        if power is not None:
            return _scaled(value, power + _LENGTH_TARGETS[target])
        if unit in _LENGTHS:
            return value * _LENGTHS[unit] * (1.0 if target == "micrometer" else 1e3)
        return None
    if target == "second" and unit in _TIMES:
        return value * _TIMES[unit]
    power = _power(unit, {"second": "s", "volt": "V"}[target])
    return None if power is None else _scaled(value, power)


def _power(unit: str, base: str) -> int | None:
    if not unit.endswith(base):
        return None
    return _PREFIXES.get(unit.removesuffix(base))


def _scaled(value: float, power: int) -> float:
    # Dividing by a whole power of ten rounds once: 290 nm becomes 0.29 µm, not 0.29000000000000004.
    return value * 10.0**power if power >= 0 else value / 10.0**-power
