"""The grids and codecs that reading is measured on."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grid:
    """How an image is cut and compressed.

    Attributes
    ----------
    name : str
        What the figures call it.
    chunks : tuple of int
        Inner chunk, dims t c z y x.
    cname, clevel, shuffle : str, int, str
        Of blosc.
    """

    name: str
    chunks: tuple[int, ...]
    cname: str
    clevel: int
    shuffle: str

    @property
    def chunk_bytes(self) -> int:
        """Decoded size of a chunk of uint16."""
        return math.prod(self.chunks) * 2


THIN, THICK = (1, 1, 1, 512, 512), (1, 1, 8, 256, 256)
GRIDS = (
    Grid("thin lz4", THIN, "lz4", 5, "bitshuffle"),
    Grid("thick lz4", THICK, "lz4", 5, "bitshuffle"),
    Grid("thin zstd", THIN, "zstd", 3, "bitshuffle"),
    Grid("thick zstd", THICK, "zstd", 3, "bitshuffle"),
)
#: Dims t c z y x; 512 MiB, and what only shows that everything runs.
SHAPE, QUICK_SHAPE = (2, 2, 64, 1024, 1024), (2, 1, 8, 512, 512)


def grid(name: str) -> Grid:
    """Return the grid of that name."""
    return next(one for one in GRIDS if one.name == name)


def whole(shape: tuple[int, ...]) -> list[list[int]]:
    """Return the selection of everything."""
    return [[0, size] for size in shape]
