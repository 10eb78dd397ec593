"""Which part of which stored arrays a computed value came from, remembered as long as the value lives.

A recorded expression knows it exactly; the NumPy array that it becomes does not. biometa asks here, so
that a projection of two channels has the metadata of these two before and after it was computed.
"""

from __future__ import annotations

import weakref
from typing import Any

from larvik.array.demand import demand
from larvik.array.expression import Expression, Source
from larvik.array.regions import Region, whole

#: The regions of sources, by array id, behind each living value; by the id of the value.
_origins: dict[int, dict[str, list[Region]]] = {}


def sources_of(expression: Expression) -> dict[str, list[Region]]:
    """Return the regions that `expression` needs, by the id of the stored array that they lie in."""
    found: dict[str, list[Region]] = {}
    for node, regions in demand([(expression, whole(expression.shape))], joined=True).items():
        if isinstance(node, Source):
            found.setdefault(node.array_id, []).extend(regions)
    return found


def remember(value: Any, expression: Expression) -> None:
    """Note that `value` was computed from `expression`; forgotten when the value is."""
    found = sources_of(expression)
    try:
        forget = weakref.finalize(value, _origins.pop, id(value), None)
    except TypeError:  # a scalar of NumPy
        return
    forget.atexit = False
    _origins[id(value)] = found


def origin_of(value: Any) -> dict[str, list[Region]]:
    """Return the regions that `value`, or what it is a view of, was computed from; empty when not known."""
    for _ in range(8):  # a view of a view ... of a computed value
        if value is None:
            break
        if id(value) in _origins:
            return _origins[id(value)]
        value = getattr(value, "base", None)
    return {}
