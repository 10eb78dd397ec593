"""Indexing as NumPy does it, recorded: what ``array[key]`` means becomes selections of the registry."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Expression, Selector
from larvik.array.operators.selection import out_of_bounds
from larvik.array.record import record
from larvik.errors import SelectionError

#: One entry of a key after it was made plain: a position, a slice, or positions of any shape.
_Entry = int | slice | NDArray[np.int64]


def index(expression: Expression, key: Any) -> Expression:
    """Return the expression of ``expression[key]``, by NumPy's rules.

    Parameters
    ----------
    expression : Expression
    key : Any
        Integers, slices, ``None``, ``...``, integer or boolean arrays, or a tuple of these.

    Raises
    ------
    SelectionError
        ``SELECTION_OUT_OF_BOUNDS``, naming axis, position and size; ``SELECTION_INVALID``, for keys
        that no array takes.

    Notes
    -----
    Orthogonal arrays (`numpy.ix_`) become one outer selection; others a pointwise one, whose result
    has NumPy's order of axes.
    """
    entries, expression = _entries(expression, key if isinstance(key, tuple) else (key,))
    if not any(isinstance(entry, np.ndarray) for entry in entries):
        return _basic(expression, entries)
    entries = [
        _inside(entry, size, axis)
        for axis, (entry, size) in enumerate(zip(entries, expression.shape, strict=True))
    ]
    axes = [axis for axis, entry in enumerate(entries) if not isinstance(entry, slice)]
    arrays = [np.asarray(entries[axis]) for axis in axes]
    try:
        points = np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise _malformed(f"The index arrays have shapes {shapes}, which do not broadcast.") from None
    at = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
    owners = _owners(arrays, len(points))
    if owners is None:
        return _pointwise(_slices(expression, entries), axes, arrays, points, at)
    return _outer(expression, entries, axes, owners, points, at)


def _entries(expression: Expression, key: tuple[Any, ...]) -> tuple[list[_Entry], Expression]:
    """Return one entry per dim, and the expression with the new dims of ``None`` in place."""
    plain: list[Any] = []
    for item in key:
        plain += _plain(item)
    count = sum(item is not None and item is not Ellipsis for item in plain)
    if sum(item is Ellipsis for item in plain) > 1:
        raise _malformed("An index can hold one ... only.")
    if count > expression.ndim:
        raise _malformed(f"There are {count} indices for an array of {expression.ndim} dims.")
    if not any(item is Ellipsis for item in plain):
        plain.append(Ellipsis)
    where = next(number for number, item in enumerate(plain) if item is Ellipsis)
    plain[where : where + 1] = [slice(None)] * (expression.ndim - count)
    if any(item is None for item in plain):
        sizes = iter(expression.shape)
        shape = tuple(1 if item is None else next(sizes) for item in plain)
        expression = record("reshape", [expression], {"shape": shape})
    return [slice(None) if item is None else item for item in plain], expression


def _plain(item: Any) -> list[Any]:
    """Return the entries that one item of a key stands for: a boolean array stands for one per dim."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return [item]
    if not isinstance(item, bool | np.bool_):
        try:
            return [operator.index(item)]
        except TypeError:
            pass
    if hasattr(item, "chunks"):
        raise _malformed("An index is an array that is not computed yet. Compute it first, with .compute().")
    array = np.asarray(item)
    if array.dtype == bool and array.ndim:
        return list(_Mask.positions(array))
    if array.dtype.kind in "iu" or not array.size:
        return [array.astype(np.int64)]
    raise _malformed(
        f"An index takes integers, slices, None, ..., integer and boolean arrays, not {type(item).__name__}."
    )


class _Mask(np.ndarray):
    """Positions that a boolean array gave along one of its axes; remembers that axis' length."""

    size_of_axis: int

    @classmethod
    def positions(cls, mask: NDArray[np.bool_]) -> list[_Mask]:
        found = []
        for array, size in zip(np.nonzero(mask), mask.shape, strict=True):
            entry = array.astype(np.int64).view(cls)
            entry.size_of_axis = size
            found.append(entry)
        return found


def _inside(entry: _Entry, size: int, axis: int) -> _Entry:
    """Return the entry with positions counted from 0."""
    if isinstance(entry, slice):
        return entry
    if isinstance(entry, int):
        return _position(entry, size, axis)
    if isinstance(entry, _Mask):
        if entry.size_of_axis != size:
            raise _malformed(
                f"A boolean index has {entry.size_of_axis} elements along axis {axis}, which has {size}."
            )
        return np.asarray(entry)
    if entry.size and not -size <= int(entry.min()) <= int(entry.max()) < size:
        wrong = int(entry.min()) if int(entry.min()) < -size else int(entry.max())
        raise out_of_bounds(wrong, size, axis)
    return np.where(entry < 0, entry + size, entry)


def _position(position: int, size: int, axis: int) -> int:
    if not -size <= position < size:
        raise out_of_bounds(position, size, axis)
    return position % size


def _range(entry: slice, size: int) -> range:
    try:
        found = range(*entry.indices(size))
    except (TypeError, ValueError) as error:
        raise _malformed(f"A slice is malformed: {error}.") from None
    if len(found) <= 1:
        return range(found[0], found[0] + 1) if found else range(0)
    return range(found[0], found[-1] + (1 if found.step > 0 else -1), found.step)


def _basic(expression: Expression, entries: Sequence[_Entry]) -> Expression:
    selection: list[Selector] = []
    for axis, (entry, size) in enumerate(zip(entries, expression.shape, strict=True)):
        selection.append(
            _range(entry, size) if isinstance(entry, slice) else _position(int(entry), size, axis)
        )
    return select(expression, selection)


def select(expression: Expression, selection: Sequence[Selector]) -> Expression:
    """Return the outer selection of `expression`; the same node when it takes everything."""
    everything = (
        isinstance(item, range) and item == range(size)
        for item, size in zip(selection, expression.shape, strict=True)
    )
    if all(everything):
        return expression
    return record("select", [expression], {"selection": tuple(selection)})


def _owners(arrays: Sequence[NDArray[np.int64]], count: int) -> list[int | None] | None:
    """Return which axis of the points each array spans alone (None: single position), if orthogonal."""
    owners: list[int | None] = []
    for array in arrays:
        spanned = [count - array.ndim + axis for axis, size in enumerate(array.shape) if size != 1]
        if len(spanned) > 1 or (spanned and spanned[0] in owners):
            return None
        owners.append(spanned[0] if spanned else None)
    return owners


def _outer(
    expression: Expression,
    entries: Sequence[_Entry],
    axes: Sequence[int],
    owners: Sequence[int | None],
    points: tuple[int, ...],
    at: int,
) -> Expression:
    owner = dict(zip(axes, owners, strict=True))
    selection: list[Selector] = []
    for axis, (entry, size) in enumerate(zip(entries, expression.shape, strict=True)):
        if isinstance(entry, slice):
            selection.append(_range(entry, size))
        else:
            flat = np.asarray(entry).ravel()
            selection.append(int(flat[0]) if owner[axis] is None else flat)
    result = select(expression, selection)
    kept = [axis for axis, item in enumerate(selection) if not isinstance(item, int)]
    spanning = sorted((axis for axis in kept if axis in owner), key=lambda axis: owner[axis] or 0)
    rest = [axis for axis in kept if axis not in owner]
    wanted = [*rest[:at], *spanning, *rest[at:]]
    order = tuple(kept.index(axis) for axis in wanted)
    if order != tuple(range(len(order))):
        result = record("transpose", [result], {"axes": order})
    sizes = [len(item) for item in selection if not isinstance(item, int)]
    beside = [sizes[kept.index(axis)] for axis in rest]
    shape = (*beside[:at], *points, *beside[at:])
    return result if result.shape == shape else record("reshape", [result], {"shape": shape})


def _slices(expression: Expression, entries: Sequence[_Entry]) -> Expression:
    return select(
        expression,
        [
            _range(entry, size) if isinstance(entry, slice) else range(size)
            for entry, size in zip(entries, expression.shape, strict=True)
        ],
    )


def _pointwise(
    expression: Expression,
    axes: Sequence[int],
    arrays: Sequence[NDArray[np.int64]],
    points: tuple[int, ...],
    at: int,
) -> Expression:
    count = math.prod(points)
    positions = np.empty(len(axes) * count, np.int64)
    for number, array in enumerate(arrays):
        positions[number * count : (number + 1) * count] = np.broadcast_to(array, points).ravel()
    return record(
        "pointwise", [expression], {"axes": tuple(axes), "positions": positions, "points": points, "at": at}
    )


def _malformed(problem: str) -> SelectionError:
    return SelectionError(problem, reason="SELECTION_INVALID")
