"""Computing lazy arrays: each where it belongs, together where that shares reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from larvik.array import dask_bridge
from larvik.array.options import options

if TYPE_CHECKING:
    from larvik.array.lazy import LazyArray


def compute_all(arrays: Sequence[LazyArray]) -> list[NDArray[Any]]:
    """Return the values of lazy arrays, those of one connection evaluated together."""
    values: dict[int, NDArray[Any]] = {}
    through_dask = options().evaluate == "dask"
    tasks = [number for number, array in enumerate(arrays) if array.dask is not None or through_dask]
    if tasks:
        graphs = [dask_bridge.to_dask(arrays[number], "Evaluation by Dask") for number in tasks]
        values.update(zip(tasks, dask_bridge.compute_dask(graphs), strict=True))
    by_url: dict[str, list[int]] = {}
    for number, array in enumerate(arrays):
        if number not in values:
            by_url.setdefault(array.url, []).append(number)
    for numbers in by_url.values():
        results = arrays[numbers[0]].evaluator.evaluate([arrays[number]._expression for number in numbers])
        values.update(zip(numbers, results, strict=True))
    return [values[number] for number in range(len(arrays))]
