"""Arrays for tests: random pixels of every dtype, their specs, and their groups in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from larvik.array.spec import ArraySpec, default_axis
from larvik.storage import ArrayWriter, Codec, GroupMetadata, Store, plan_layout


def random_array(shape: Sequence[int], dtype: str, seed: int = 0) -> np.ndarray:
    """Return random values over the whole range of `dtype`, the same for the same `seed`."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.random(shape) > 0.5
    if "float" in dtype:
        return rng.normal(0, 100, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def make_spec(
    shape: Sequence[int],
    dims: Sequence[str],
    dtype: str,
    *,
    kind: str = "intensity",
    origin: Sequence[float] | None = None,
    coordinates: Mapping[str, Sequence[Any]] | None = None,
    channel_names: Sequence[str] = (),
    pyramid: bool = True,
) -> ArraySpec:
    """Return the planned spec of an array whose pixels are 0.25 micrometers wide."""
    spacing = [0.25 if dim in "zyx" else 1.0 for dim in dims]
    axes = [default_axis(dim) for dim in dims]
    start = [0.0] * len(dims) if origin is None else origin
    return plan_layout(
        dims, shape, dtype, axes, spacing, start, coordinates, channel_names, kind=kind, pyramid=pyramid
    )


def write_array(
    store: Store,
    location: str,
    array: np.ndarray,
    spec: ArraySpec,
    *,
    kind: str = "intensity",
    codec: Codec | None = None,
    metadata: GroupMetadata | None = None,
) -> int:
    """Write `array` with all levels of `spec` at `location` and return the stored bytes."""
    writer = ArrayWriter(store, location, spec, kind=kind, codec=codec)
    for region in writer.regions():
        writer.write(tuple(part.start for part in region), array[region])
    return writer.finish(metadata=metadata or GroupMetadata(name="test", array_id="a"))
