"""The ``viewer`` accessor of DataArrays, and of rows that own an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

#: Pixels per side that a figure can show; a coarser level is read when one is enough.
SCREEN_PIXELS = 1024


class Viewer:
    """Pictures of one DataArray, lazy or computed.

    Parameters
    ----------
    image : DataArray
        Any dims; ``y`` and ``x`` are shown, else the last two.
    """

    def __init__(self, image: xr.DataArray) -> None:
        self._image = image

    def show(
        self,
        *,
        t: int | None = None,
        z: int | None = None,
        channels: Sequence[int | str] | None = None,
        contrast: Mapping[int | str, tuple[float, float]] | None = None,
        figsize: tuple[float, float] | None = None,
        scale_bar: bool = True,
    ) -> Figure:
        """Return a matplotlib figure: one time point, z by maximum, channels in colour, scale bar.

        Parameters
        ----------
        t, z : int, optional
            Positions; by default the first time point, and the maximum over all of z.
        channels : sequence of int or str, optional
            Which channels, by position or name; by default all: up to four are added in colour,
            more are shown side by side.
        contrast : mapping, optional
            ``{channel: (black, brightest)}``; by default the window of the metadata, else
            percentiles 1 and 99.8.
        figsize : (float, float), optional
            Inches.
        scale_bar : bool
            Whether a bar is drawn; only where x has a physical unit.

        Notes
        -----
        A lazy array is read at the coarsest level that still fills a screen of 1024 pixels.
        """
        from larvik.viewer.picture import make_picture
        from larvik.viewer.show import draw

        image = self._fit(SCREEN_PIXELS)
        return draw(
            make_picture(image, t=t, z=z, channels=channels, contrast=contrast),
            figsize=figsize,
            scale_bar=scale_bar,
        )

    def thumbnail(self, pixels: int = 160) -> NDArray[np.uint8]:
        """Return a picture of shape (y, x, 3), uint8, at most `pixels` a side."""
        from larvik.viewer.picture import make_picture
        from larvik.viewer.render import shrink

        image = self._fit(pixels)
        return shrink(make_picture(image).panels[0].rgb, pixels)

    def _fit(self, pixels: int) -> xr.DataArray:
        from larvik.array.levels import coarsest_for

        return coarsest_for(self._image, pixels)
