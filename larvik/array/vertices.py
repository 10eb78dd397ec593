"""Vertices of regions of interest: little-endian float64 in C order, in and out of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.errors import InvalidArgumentError


def encode(points: Any, ndim: int) -> bytes:
    """Return `points` as the bytes that a row stores.

    Parameters
    ----------
    points : array-like
        Shape (n, ndim), or (ndim,) for a single point; in pixels of level 0, finite.
    ndim : int
        Number of dims of each vertex.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_INVALID``, for another shape, no vertex, or values that are no finite numbers.
    """
    try:
        array = np.asarray(points, dtype="<f8")
    except (TypeError, ValueError):
        raise _invalid("are not an array of numbers") from None
    if array.ndim == 1 and array.size == ndim:
        array = array[np.newaxis]
    if array.ndim != 2 or array.shape[1] != ndim or not array.size:
        raise _invalid(f"have shape {array.shape}; wanted is (n, {ndim}), one row for each vertex")
    if not np.isfinite(array).all():
        raise _invalid("contain NaN or infinity")
    return array.tobytes()


def decode(data: bytes, ndim: int) -> NDArray[np.float64]:
    """Return stored vertices as a new array of shape (n, ndim), float64, in pixels of level 0."""
    if not ndim or len(data) % (8 * ndim):
        raise _invalid(f"have {len(data)} bytes, which is no multiple of {ndim} float64 values")
    return np.frombuffer(data, "<f8").reshape(-1, ndim).astype(np.float64)


def _invalid(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"ROI.vertices {problem}.", reason="FIELD_INVALID", field="ROI.vertices")
