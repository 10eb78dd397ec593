"""Coarser levels: means of intensities, nearest values of labels and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from larvik.storage.engine import RegionReader


def coarser(reader: RegionReader, dims: Sequence[str], *, averages: bool) -> Callable[..., np.ndarray]:
    """Return a function from a region of the next level to its pixels, read from the level of `reader`.

    The next level halves y and x, rounding its shape up. A mean over the edge is that of the pixels that
    exist. Reads at most four times the bytes of the region.
    """
    halved = [dim in ("y", "x") for dim in dims]

    def pixels(region: tuple[slice, ...]) -> np.ndarray:
        source = tuple(
            slice(part.start * 2, min(part.stop * 2, size), 1 if averages else 2) if half else part
            for part, half, size in zip(region, halved, reader.shape, strict=True)
        )
        fine = reader.read(source)
        return mean_2x2(fine) if averages else fine

    return pixels


def mean_2x2(fine: np.ndarray) -> np.ndarray:
    """Return the means over 2 x 2 elements of the last two dims, in the dtype of `fine`.

    Integers are rounded to the nearest, halves up; exact for every dtype, 64 bits included. An odd last
    row or column is averaged with itself. float16 is summed as float32; NaN stays NaN.
    """
    pad = [(0, 0)] * (fine.ndim - 2) + [(0, fine.shape[-2] % 2), (0, fine.shape[-1] % 2)]
    if any(after for _, after in pad):
        fine = np.pad(fine, pad, mode="edge")
    quarters = [fine[..., y::2, x::2] for y in (0, 1) for x in (0, 1)]
    if fine.dtype.kind == "f":
        wide = [quarter.astype("f4") if fine.dtype == np.float16 else quarter for quarter in quarters]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = (wide[0] * 0.25 + wide[1] * 0.25) + (wide[2] * 0.25 + wide[3] * 0.25)
            return np.asarray(mean, dtype=fine.dtype)
    # Quotients and remainders apart: no sum leaves the dtype.
    whole = (quarters[0] >> 2) + (quarters[1] >> 2) + (quarters[2] >> 2) + (quarters[3] >> 2)
    rest = (quarters[0] & 3) + (quarters[1] & 3) + (quarters[2] & 3) + (quarters[3] & 3)
    return np.asarray(whole + ((rest + 2) >> 2), dtype=fine.dtype)
