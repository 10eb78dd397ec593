"""From channel planes to an RGB picture: windows, colours, labels. NumPy only, no plotting."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Colours of channels without one of their own, told apart by most people with colour blindness.
PALETTE = ("#00ff66", "#ff33cc", "#33bbff", "#ffdd00", "#ff6633", "#aa88ff")
GRAY = "#ffffff"
#: Percentiles of the finite pixels between which contrast is stretched.
LOW, HIGH = 1.0, 99.8
#: Most pixels that percentiles are estimated from.
SAMPLE_PIXELS = 1_000_000

Window = tuple[float, float]


def window_of(plane: NDArray[np.generic]) -> Window:
    """Return the intensities shown black and brightest: percentiles 1 and 99.8 of the finite pixels.

    Parameters
    ----------
    plane : ndarray of shape (y, x), any stored dtype
    """
    if plane.dtype == bool:
        return 0.0, 1.0
    step = max(1, int(np.sqrt(plane.size / SAMPLE_PIXELS)))
    values = plane[::step, ::step].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [LOW, HIGH])
    if high <= low:  # nearly empty planes: a few bright spots on nothing
        low, high = values.min(), values.max()
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def parse_color(text: str | None) -> tuple[float, float, float] | None:
    """Return ``#rrggbb`` or ``#rrggbbaa`` as three numbers from 0 to 1; None when it is neither."""
    if not text or len(text) not in (7, 9) or text[0] != "#":
        return None
    try:
        red, green, blue = (int(text[at : at + 2], 16) / 255 for at in (1, 3, 5))
    except ValueError:
        return None
    return red, green, blue


def channel_colors(wanted: Sequence[str | None]) -> list[str]:
    """Return one colour per channel: the wanted ones, unless two are alike; a lone channel is gray."""
    known = [
        color if parse_color(color) and max(parse_color(color) or (0,)) > 0 else None for color in wanted
    ]
    if len(known) == 1:
        return [known[0] or GRAY]
    if len({color for color in known if color}) < len(known):
        return [PALETTE[index % len(PALETTE)] for index in range(len(known))]
    return [color or GRAY for color in known]


def composite(
    planes: Sequence[NDArray[np.generic]], colors: Sequence[str], windows: Sequence[Window]
) -> NDArray[np.uint8]:
    """Return planes added up in their colours.

    Parameters
    ----------
    planes : sequence of ndarray of shape (y, x)
    colors : sequence of ``#rrggbb``
    windows : sequence of (black, brightest)

    Returns
    -------
    ndarray of shape (y, x, 3), uint8
    """
    total = np.zeros((*planes[0].shape, 3), dtype=np.float32)
    for plane, color, (low, high) in zip(planes, colors, windows, strict=True):
        scaled = (plane.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        scaled = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        total += scaled[..., None] * np.array(parse_color(color), dtype=np.float32)
    return (np.clip(total, 0, 1) * 255 + 0.5).astype(np.uint8)


def label_picture(plane: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return labels of shape (y, x) in colours that tell neighbours apart; 0 is black."""
    golden = 0.618033988749895
    table = np.array(
        [(0, 0, 0)] + [colorsys.hsv_to_rgb(index * golden % 1, 0.65, 1) for index in range(255)],
        dtype=np.float32,
    )
    numbers = plane.astype(np.int64)
    index = np.where(numbers == 0, 0, 1 + (numbers - 1) % 255)
    return (table[index] * 255 + 0.5).astype(np.uint8)


def true_color(planes: Sequence[NDArray[np.generic]]) -> NDArray[np.uint8]:
    """Return red, green and blue uint8 planes of shape (y, x) as they are."""
    return np.stack([np.asarray(plane, dtype=np.uint8) for plane in planes], axis=-1)


def shrink(rgb: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Return `rgb` of shape (y, x, 3) with at most `pixels` a side, as means of squares of pixels."""
    step = -(-max(rgb.shape[:2]) // pixels)
    if step <= 1:
        return rgb
    rows, columns = (np.arange(0, size, step) for size in rgb.shape[:2])
    total = np.add.reduceat(np.add.reduceat(rgb.astype(np.uint32), rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, rgb.shape[0]]), np.diff([*columns, rgb.shape[1]]))
    shrunk: NDArray[np.uint8] = (total / counts[..., None] + 0.5).astype(np.uint8)
    return shrunk
