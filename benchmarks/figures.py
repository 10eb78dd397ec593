"""A figure: the median of its rounds, the quartiles around it, and what it has to reach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def figure(
    samples: Sequence[float], unit: str = "", reach: tuple[str, float] | None = None, **details: Any
) -> dict[str, Any]:
    """Return the fields of a figure that was measured in several rounds.

    ``details`` are kept with it: what the report shows beside the value.
    """
    low, high = quartiles(samples)
    found: dict[str, Any] = {"value": statistics.median(samples), "low": low, "high": high, "unit": unit}
    if reach is not None:
        found["reach"] = reach
    return found | {"rounds": len(samples)} | details


def absent(why: str, unit: str = "", reach: tuple[str, float] | None = None) -> dict[str, Any]:
    """Return a figure that could not be measured here, and why."""
    found: dict[str, Any] = {"value": None, "unit": unit, "absent": why}
    return found if reach is None else found | {"reach": reach}


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    if len(samples) < 3:
        return min(samples), max(samples)
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, high


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of each round: what was measured in one round shares the state of the machine."""
    return [a / b for a, b in zip(above, below, strict=True)]


def is_met(found: dict[str, Any]) -> bool | None:
    """Tell whether a figure reaches its bound; None when it has none or was not measured."""
    if found.get("value") is None or found.get("reach") is None:
        return None
    sign, bound = found["reach"]
    return bool(found["value"] <= bound if sign == "<=" else found["value"] >= bound)


def line(name: str, found: dict[str, Any]) -> str:
    """Return one line: what, the figure, its spread, what to reach, and whether it is reached."""
    if found.get("value") is None:
        return f"  {name:<66} {'-':>10}  not measured: {found['absent']}"
    text = f"  {name:<66} {found['value']:>10.3g} {found.get('unit', ''):<8}"
    if "low" in found:
        text += f" ({found['low']:.3g} to {found['high']:.3g})".ljust(20)
    met = is_met(found)
    if met is None:
        return text.rstrip()
    sign, bound = found["reach"]
    return f"{text} {sign} {bound:<6.3g} {'reached' if met else 'FALLS SHORT'}"
