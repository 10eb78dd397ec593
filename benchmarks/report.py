"""Writes the latest figures into ``docs/performance.md``, between its markers, and draws its plot.

Usage: python benchmarks/report.py
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from figures import is_met
from plot import draw

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "latest.json"
PAGE = HERE.parent / "docs" / "performance.md"
PLOT = HERE.parent / "docs" / "images" / "performance.svg"
#: Subjects of this page, in order.
SUBJECTS = ("limits", "reads", "crops", "streams", "pushdown", "clients", "writes", "shaped", "s3")
GRIDS = ("thin lz4", "thick lz4", "thin zstd", "thick zstd")

Figures = dict[str, dict[str, Any]]


def write(page: Path = PAGE, plot: Path = PLOT) -> None:
    """Write the page and the plot from the latest results."""
    document = json.loads(RESULTS.read_text())
    subjects = document["subjects"]
    when = (
        f"Last measured on {document['measured_at'][:10]}, on {document['machine'].get('cores', '?')} cores."
    )
    _write(subjects, when, page, plot)


def rehearse(subjects: dict[str, Figures]) -> None:
    """Write a page and a plot of figures that mean nothing, and throw them away."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / PAGE.name
        page.write_text(PAGE.read_text())
        _write(subjects, "A rehearsal.", page, Path(folder) / PLOT.name)


def _write(subjects: dict[str, Figures], when: str, where: Path, plot: Path) -> None:
    figures = {name: found for subject in SUBJECTS for name, found in subjects.get(subject, {}).items()}
    parts = {
        "reached": [when, "", *reached(subjects)],
        "limits": table(("what", "median", "quartiles"), _limits(subjects.get("limits", {}))),
        "full-read": full_read(figures),
        "crops": table(("system", "grid", "times zarr-python's speed", "ms"), _crops(figures)),
        "clients": table(
            (
                "system",
                "clients",
                "MB/s",
                "times zarr-python",
                "client / server CPU, ms/MB",
                "server peak, MiB",
            ),
            _clients(figures),
        ),
        "shaped": table(("system", "read of 32 MiB, s", "crop, ms"), _shaped(figures)),
    }
    page = where.read_text()
    for name, lines in parts.items():
        page = _between(page, name, lines)
    where.write_text(page)
    rows = [found for found in figures.values() if found.get("table") == "full read"]
    if rows:
        draw(rows, GRIDS, plot)


def reached(subjects: dict[str, Figures]) -> list[str]:
    """Return the table of what has something to reach."""
    rows = []
    for subject in SUBJECTS:
        for name, found in subjects.get(subject, {}).items():
            if "reach" not in found:
                continue
            sign, bound = found["reach"]
            met = is_met(found)
            verdict = (
                f"not measured: {found.get('absent')}"
                if met is None
                else "reached"
                if met
                else "**falls short**"
            )
            rows.append((name, number(found, unit=True), spread(found), f"{sign} {bound:.3g}", verdict))
    return table(("what", "median", "quartiles", "to reach", ""), rows)


def full_read(figures: Figures) -> list[str]:
    """Return how fast each system reads each grid, and what it costs on the first one."""
    rows = []
    systems = _systems(figures, "full read")
    for system in systems:
        by_grid = {
            found["grid"]: found
            for found in figures.values()
            if found.get("table") == "full read" and found["system"] == system
        }
        costs = by_grid.get(GRIDS[0], {})
        rows.append(
            (
                system,
                *(number(by_grid.get(grid, {})) for grid in GRIDS),
                f"{costs['client_ms_per_mb']:.2f} / {costs['server_ms_per_mb']:.2f}"
                if "mb_s" in costs
                else "-",
                f"{costs['peak_mib']:.0f} / {costs.get('server_mib', 0):.0f}" if "mb_s" in costs else "-",
            )
        )
    return table(("system", *GRIDS, "client / server CPU, ms/MB", "client / server peak, MiB"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def number(found: dict[str, Any], *, unit: bool = False) -> str:
    """Return the value of a figure; a dash when there is none."""
    if found.get("value") is None:
        return "-"
    value = found["value"]
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{text} {found.get('unit', '')}".strip() if unit else text


def spread(found: dict[str, Any]) -> str:
    """Return the quartiles of a figure."""
    return f"{found['low']:.3g} to {found['high']:.3g}" if "low" in found else "-"


def _limits(figures: Figures) -> list[tuple[str, ...]]:
    return [(name, number(found, unit=True), spread(found)) for name, found in figures.items()]


def _crops(figures: Figures) -> list[tuple[str, ...]]:
    rows = []
    for found in figures.values():
        if found.get("table") in ("cold crop, p50", "z-scroll") and found.get("value") is not None:
            what = f"{found['grid']}, {found['table']}"
            rows.append((found["system"], what, number(found), f"{found['ms']:.2f}"))
    return rows


def _clients(figures: Figures) -> list[tuple[str, ...]]:
    return [
        (
            found["system"], str(found["clients"]), f"{found['mb_s']:,.0f}", number(found),
            f"{found['client_ms_per_mb']:.2f} / {found['server_ms_per_mb']:.2f}",
            f"{found['server_mib']:.0f}" if found["server_mib"] else "-",
        )
        for found in figures.values()
        if found.get("table") == "clients" and found.get("value") is not None
    ]  # fmt: skip


def _shaped(figures: Figures) -> list[tuple[str, ...]]:
    rows = []
    reads, crops = "shaped link: read", "shaped link: crop, p50"
    for system in _systems(figures, reads):
        found = {one["table"]: one for one in figures.values() if one.get("system") == system and "ms" in one}
        if reads in found and crops in found:
            rows.append((system, f"{found[reads]['ms'] / 1e3:.2f}", f"{found[crops]['ms']:.0f}"))
    return rows


def _systems(figures: Figures, name: str) -> list[str]:
    return list(dict.fromkeys(found["system"] for found in figures.values() if found.get("table") == name))


def _between(page: str, name: str, lines: list[str]) -> str:
    """Put lines between the markers of a part of the page."""
    begin, end = f"<!-- measured: {name} -->", "<!-- end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{PAGE.name} has no markers {begin} ... {end}")
    return pattern.sub(lambda _: "\n".join([begin, *lines, end]), page, count=1)


if __name__ == "__main__":
    write()
