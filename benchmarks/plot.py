"""The plot of full reads: a panel for each grid, a bar for each system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

OURS, PEERS, INK, GRID = "#0b6e8f", "#b9c0c7", "#24292f", "#e3e6e9"


def draw(rows: list[dict[str, Any]], grids: Sequence[str], path: Path) -> None:
    """Draw how fast systems read, in times of zarr-python's default, as SVG on white."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams.update({
        "svg.hashsalt": "larvik", "svg.fonttype": "none", "font.size": 9, "text.color": INK,
        "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "font.family": "sans-serif",
    })  # fmt: skip
    systems = list(dict.fromkeys(row["system"] for row in rows if row.get("value") is not None))
    figure, panels = plt.subplots(
        1, len(grids), sharex=True, sharey=True, figsize=(10, 0.34 * len(systems) + 1.1)
    )
    top = max((row["high"] for row in rows if row.get("value") is not None), default=1.0)
    for panel, grid in zip(panels, grids, strict=True):
        _panel(panel, grid, top, systems, {row["system"]: row for row in rows if row["grid"] == grid})
    panels[0].set_yticks(range(len(systems)), systems)
    panels[0].invert_yaxis()
    figure.supxlabel(
        "speed of a full read, in times of zarr-python's default (bars: median, lines: quartiles)", fontsize=9
    )
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def _panel(panel: Any, grid: str, top: float, systems: list[str], rows: dict[str, dict[str, Any]]) -> None:
    panel.set_title(grid, fontsize=10, loc="left")
    for place, system in enumerate(systems):
        row = rows.get(system, {})
        if row.get("value") is None:
            continue
        value = row["value"]
        color = OURS if system.startswith("Larvik") else PEERS
        panel.barh(place, value, height=0.68, color=color, zorder=2)
        panel.plot([row["low"], row["high"]], [place, place], color=INK, linewidth=0.8, zorder=3)
        panel.text(max(value, row["high"]) + top * 0.03, place, f"{value:.2g}", va="center", fontsize=8)
    panel.axvline(1, color=INK, linewidth=0.6, linestyle=":", zorder=1)
    panel.set_xlim(0, top * 1.2)
    panel.grid(axis="x", color=GRID, linewidth=0.6, zorder=0)
    panel.tick_params(length=0)
    for side in ("top", "right", "left", "bottom"):
        panel.spines[side].set_visible(False)
