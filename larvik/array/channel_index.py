"""The index of the dim ``c``: a text is a channel's name, an integer its position."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from xarray import Variable
from xarray.core.indexing import IndexSelResult
from xarray.indexes import PandasIndex

from larvik.errors import SelectionError, suggestion


class ChannelError(SelectionError, KeyError):
    """A channel that the array has not; names those that it has."""

    default_reason = "CHANNEL_UNKNOWN"


class ChannelIndex(PandasIndex):
    """Index over channel names that also takes positions in the present selection.

    ``sel(c="DAPI")``, ``sel(c=["DAPI", "GFP"])``, ``sel(c=slice("DAPI", "GFP"))`` select by name;
    ``sel(c=0)``, ``sel(c=[0, 2])``, ``sel(c=slice(0, 2))`` by position, as `isel` does.

    Raises
    ------
    ChannelError
        ``CHANNEL_UNKNOWN`` (a SelectionError, a KeyError and an IndexError), naming the channels.
    """

    def sel(self, labels: dict[Any, Any], method: Any = None, tolerance: Any = None) -> IndexSelResult:
        """Return the positions that labels of the one dim stand for."""
        ((name, label),) = labels.items()
        if method is not None:
            raise SelectionError(
                f"Channels have no order in which method={method!r} could find the nearest.",
                reason="SELECTION_INVALID",
                field=str(name),
            )
        if isinstance(label, slice) and all(
            _is_position(end) or end is None for end in (label.start, label.stop)
        ):
            return IndexSelResult({self.dim: label})
        if not isinstance(label, slice):
            values = np.asarray(getattr(label, "data", label))
            if values.dtype.kind in "iu":
                self._check_positions(values)
                return IndexSelResult({self.dim: _like(label, values)})
            self._check_names(values)
        try:
            return super().sel(labels)
        except KeyError as error:
            raise self._unknown(error.args[0] if error.args else label) from None

    def _check_positions(self, positions: np.ndarray[Any, Any]) -> None:
        count = len(self.index)
        outside = positions[(positions < -count) | (positions >= count)]
        if outside.size:
            raise ChannelError(
                f"There is no channel {int(outside.ravel()[0])}: positions are 0 to {count - 1}. "
                f"There are: {', '.join(map(str, self.index))}.",
                field=str(self.dim),
            )

    def _check_names(self, values: np.ndarray[Any, Any]) -> None:
        if values.dtype == bool:
            return
        known = set(self.index)
        for value in values.ravel().tolist():
            if value not in known:
                raise self._unknown(value)

    def _unknown(self, value: object) -> ChannelError:
        return ChannelError(
            f"There is no channel {str(value)[:80]!r}. {suggestion(str(value)[:80], map(str, self.index))}",
            field=str(self.dim),
        )


def _is_position(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _like(label: Any, positions: np.ndarray[Any, Any]) -> Any:
    """Return positions as what xarray indexes by: a scalar, or an array with the dims of the label."""
    if isinstance(label, Variable):
        return Variable(label.dims, positions)
    if hasattr(label, "dims"):
        return label
    return int(positions) if positions.ndim == 0 else positions


def make_index(names: Iterable[str], dim: str = "c") -> ChannelIndex:
    """Return the index of channel `names` along `dim`."""
    return ChannelIndex(pd.Index(labels(names), name=dim), dim, coord_dtype=np.dtype(object))


def labels(names: Iterable[str]) -> np.ndarray[Any, Any]:
    """Return names as an array of Python text, which Zarr stores as text of any length."""
    found = list(names)
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array
