"""What the schema of a stream of pixels tells about them, whatever their encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def described(
    shape: Sequence[int],
    dtype: np.dtype,
    dims: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the metadata of the schema of a result; see flight.proto.

    Parameters
    ----------
    dims : sequence of str
        Names of the dims, where the result has the dims of a stored array.
    metadata : mapping
        More of it, such as the plan.
    """
    return {
        "larvik.dims": ",".join(dims),
        "larvik.shape": ",".join(map(str, shape)),
        "larvik.dtype": dtype.name,
        **(metadata or {}),
    }
