"""Pictures as matplotlib figures: panels, legend, scale bar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from larvik.errors import UnsupportedError
from larvik.viewer.picture import Panel, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKGROUND = "#111418"
FOREGROUND = "#e8eaed"
#: Behind words on pixels.
BOX = {"facecolor": "black", "alpha": 0.45, "pad": 1.5, "lw": 0}
TITLE_INCHES = 0.3
CHARACTERS_PER_INCH = 13
SYMBOLS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "second": "s"}


def draw(picture: Picture, *, figsize: tuple[float, float] | None = None, scale_bar: bool = True) -> Figure:
    """Return the figure of `picture`: one axes a panel, dark ground, scale bar in the last panel.

    Raises
    ------
    UnsupportedError
        ``EXTRA_MISSING`` without matplotlib; names the extra to install.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ModuleNotFoundError:
        raise UnsupportedError(
            "Pictures need matplotlib: pip install 'larvik[viewer]'.", reason="EXTRA_MISSING", extra="viewer"
        ) from None
    columns = min(len(picture.panels), math.ceil(math.sqrt(len(picture.panels))))
    rows = math.ceil(len(picture.panels) / columns)
    height, width = picture.panels[0].rgb.shape[:2]
    wide, high = _panel_size(height * picture.aspect / width, columns)
    size = figsize or (wide * columns, high * rows + (TITLE_INCHES if picture.title else 0))
    figure, grid = plt.subplots(
        rows, columns, figsize=size, squeeze=False, facecolor=BACKGROUND,
        layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0),
    )  # fmt: skip
    for index, axes in enumerate(grid.flat):
        axes.set_axis_off()
        if index < len(picture.panels):
            _draw_panel(axes, picture.panels[index], picture)
    if picture.spacing and scale_bar:
        _draw_scale_bar(grid.flat[len(picture.panels) - 1], width, picture)
    if picture.title:
        most = max(8, int(size[0] * CHARACTERS_PER_INCH))
        words = picture.title if len(picture.title) <= most else picture.title[: most - 1] + "…"
        figure.suptitle(words, color=FOREGROUND, fontsize=10)
    _settle(figure)
    return figure


def _panel_size(ratio: float, columns: int) -> tuple[float, float]:
    """Return width and height of one panel in inches, for pixels as high as `ratio` times their width."""
    width = 6.0 if columns == 1 else 3.2
    high = min(width * ratio, 1.2 * width)  # what is taller gets narrower, so that it fits a screen
    return max(high / ratio, 0.25 * width), max(high, 0.1 * width)


#: Backends that draw into a file or a notebook, and open no window.
SILENT_BACKENDS = ("agg", "inline", "cairo", "pdf", "pgf", "ps", "svg", "template")


def _settle(figure: Figure) -> None:
    """Show windows where there are any; elsewhere hand the figure over once, not twice."""
    import matplotlib
    import matplotlib.pyplot as plt

    backend = matplotlib.get_backend().casefold()
    if backend in SILENT_BACKENDS or "inline" in backend:
        plt.close(figure)
    else:
        figure.show()


def _draw_panel(axes: Axes, panel: Panel, picture: Picture) -> None:
    axes.imshow(panel.rgb, interpolation="nearest", aspect=picture.aspect)
    for place, (name, color) in enumerate(panel.legend):
        axes.annotate(
            name if len(name) <= 40 else name[:39] + "…", (0, 1), xycoords="axes fraction",
            xytext=(5, -5 - 15 * place), textcoords="offset points",
            color=color, fontsize=9, va="top", weight="bold", bbox=BOX,
        )  # fmt: skip


def bar_length(width: float) -> float:
    """Return the roundest length (1, 2 or 5 times a power of ten) near a fifth of `width`."""
    target = width / 5
    power = 10.0 ** math.floor(math.log10(target))
    return max((step * power for step in (1, 2, 5) if step * power <= target * 1.001), default=power)


def _draw_scale_bar(axes: Axes, width: int, picture: Picture) -> None:
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    assert picture.spacing is not None
    length = bar_length(width * picture.spacing) / picture.spacing
    unit = SYMBOLS.get(picture.unit or "", picture.unit)
    # Along the image in pixels, across it in points: as thick on a strip as on a square.
    right = axes.get_xlim()[1] - 0.03 * width
    across = blended_transform_factory(
        axes.transData, axes.transAxes + ScaledTranslation(0, 7 / 72, axes.figure.dpi_scale_trans)
    )
    axes.plot([right - length, right], [0, 0], color="white", lw=3, solid_capstyle="butt", transform=across)
    axes.annotate(
        f"{length * picture.spacing:g} {unit}", (right - length / 2, 0), xycoords=across, xytext=(0, 4),
        textcoords="offset points", color="white", ha="center", va="bottom", fontsize=9, bbox=BOX,
    )  # fmt: skip
