"""Indexing equals NumPy's, whatever the key and the chunks."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from larvik.array.expression import Source
from larvik.array.lazy import LazyArray
from larvik.array.local import LocalEvaluator
from larvik.array.regions import split
from larvik.errors import SelectionError

VALUES = np.arange(5 * 4 * 6 * 3, dtype="int32").reshape(5, 4, 6, 3)


class Memory:
    """Reads an array in memory."""

    def __init__(self, values: np.ndarray, chunks: tuple[int, ...]) -> None:
        self.values, self.shape, self.dtype, self.chunks = values, values.shape, values.dtype, chunks

    def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        if out is None:
            return self.values[selection].copy()
        out[...] = self.values[selection]
        return out


def lazy(values: np.ndarray, chunks: tuple[int, ...]) -> LazyArray:
    source = Source("0190b5a2-7d1c-7000-8000-000000000001", 1, 0, values.shape, values.dtype, chunks)
    return LazyArray(source, LocalEvaluator(lambda _: Memory(values, chunks), "test:"))


chunkings = st.tuples(*(st.integers(1, size) for size in VALUES.shape))


def assert_equal(array: LazyArray, expected: Any) -> None:
    found = array.compute()
    assert array.shape == found.shape == np.shape(expected)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@given(
    chunks=chunkings,
    key=npst.basic_indices(VALUES.shape, allow_ellipsis=True, allow_newaxis=True, max_dims=8),
)
def test_basic_keys(chunks: tuple[int, ...], key: Any) -> None:
    assert_equal(lazy(VALUES, chunks)[key], np.asarray(VALUES[key]))


@given(
    chunks=chunkings,
    axes=st.lists(st.sampled_from(range(4)), min_size=1, max_size=4, unique=True),
    data=st.data(),
)
def test_keys_with_arrays_have_numpys_order_of_axes(
    chunks: tuple[int, ...], axes: list[int], data: st.DataObject
) -> None:
    shapes = data.draw(
        npst.mutually_broadcastable_shapes(num_shapes=len(axes), max_dims=2, max_side=4)
    ).input_shapes
    key: list[Any] = [
        data.draw(npst.basic_indices((size,), max_dims=1, allow_ellipsis=False)) for size in VALUES.shape
    ]
    key = [item[0] if isinstance(item, tuple) and item else item for item in key]
    key = [slice(None) if isinstance(item, tuple) else item for item in key]
    for axis, shape in zip(axes, shapes, strict=True):
        size = VALUES.shape[axis]
        key[axis] = data.draw(npst.arrays(np.int64, shape, elements=st.integers(-size, size - 1)))
    assert_equal(lazy(VALUES, chunks)[tuple(key)], VALUES[tuple(key)])


@given(chunks=chunkings, data=st.data())
def test_orthogonal_keys(chunks: tuple[int, ...], data: st.DataObject) -> None:
    lists = [
        data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=size)) for size in VALUES.shape
    ]
    key = np.ix_(*lists)
    assert_equal(lazy(VALUES, chunks)[key], VALUES[key])


@given(chunks=chunkings, ndim=st.integers(1, 4), first=st.integers(0, 3), data=st.data())
def test_boolean_keys(chunks: tuple[int, ...], ndim: int, first: int, data: st.DataObject) -> None:
    first = min(first, 4 - ndim)
    mask = data.draw(npst.arrays(bool, VALUES.shape[first : first + ndim]))
    key = (slice(None),) * first + (mask,)
    assert_equal(lazy(VALUES, chunks)[key], VALUES[key])


@given(chunks=chunkings, keys=st.lists(st.integers(0, 10**6), min_size=1, max_size=4), data=st.data())
def test_keys_of_keys(chunks: tuple[int, ...], keys: list[int], data: st.DataObject) -> None:
    array, expected = lazy(VALUES, chunks), VALUES
    for _ in keys:
        key = data.draw(npst.basic_indices(expected.shape, allow_newaxis=True))
        array, expected = array[key], np.asarray(expected[key])
    assert_equal(array, expected)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (5, "SELECTION_OUT_OF_BOUNDS"),
        (-6, "SELECTION_OUT_OF_BOUNDS"),
        ((0, 0, 0, 3), "SELECTION_OUT_OF_BOUNDS"),
        (np.array([0, 5]), "SELECTION_OUT_OF_BOUNDS"),
        (np.array([-6]), "SELECTION_OUT_OF_BOUNDS"),
        ((np.array([0]), np.array([[4]])), "SELECTION_OUT_OF_BOUNDS"),
        ((0, 0, 0, 0, 0), "SELECTION_INVALID"),
        ((..., ...), "SELECTION_INVALID"),
        ("DAPI", "SELECTION_INVALID"),
        (1.5, "SELECTION_INVALID"),
        (True, "SELECTION_INVALID"),
        ((np.array([1, 2]), np.array([1, 2, 3])), "SELECTION_INVALID"),
        (np.array([True, False]), "SELECTION_INVALID"),
        (slice(None, None, 0), "SELECTION_INVALID"),
        (slice("a", None), "SELECTION_INVALID"),
        (np.array(["a"]), "SELECTION_INVALID"),
    ],
)
def test_a_key_that_numpy_refuses_is_an_index_error_with_a_reason(key: Any, reason: str) -> None:
    with pytest.raises(SelectionError) as caught:
        lazy(VALUES, (2, 2, 2, 2))[key]
    assert caught.value.reason == reason
    assert isinstance(caught.value, IndexError)


def test_an_index_that_is_not_computed_yet_is_refused_rather_than_read() -> None:
    array = lazy(VALUES, (2, 2, 2, 2))
    with pytest.raises(SelectionError, match="Compute it first"):
        array[array[:, 0, 0, 0] > 3]


def test_a_selection_of_everything_records_nothing() -> None:
    array = lazy(VALUES, (2, 2, 2, 2))
    assert array[...].expression is array.expression
    assert array[:, 0:4].expression is array.expression


def test_chunks_of_a_selection_lie_on_stored_chunks() -> None:
    array = lazy(VALUES, (2, 2, 4, 3))
    assert array[1:, ::2, 3:5].chunks == ((1, 2, 1), (1, 1), (1, 1), (3,))
    assert array[[4, 0, 3]].chunks[0] == (2, 1)


@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any),
    key=st.data(),
)
def test_a_range_is_cut_where_its_positions_enter_another_chunk(sizes: list[int], key: st.DataObject) -> None:
    picks = range(*key.draw(st.slices(sum(sizes))).indices(sum(sizes)))
    owners = np.repeat(np.arange(len(sizes)), sizes)[list(picks)]
    expected = tuple(len(list(group)) for _, group in groupby(owners)) or (0,)
    assert split(sizes, picks) == expected
    if picks and picks.step > 0:
        assert split(sizes, np.asarray(picks)) == expected


@given(data=st.data(), axes=st.lists(st.sampled_from(range(4)), max_size=4, unique=True))
@settings(max_examples=25)
def test_what_dask_computes_is_indexed_alike(data: st.DataObject, axes: list[int]) -> None:
    array = np.cumsum(lazy(VALUES, (2, 2, 3, 3)), axis=0)  # type: ignore[call-overload]
    assert isinstance(array, LazyArray)
    assert array.expression is None
    shapes = data.draw(
        npst.mutually_broadcastable_shapes(num_shapes=max(1, len(axes)), max_dims=2, max_side=3)
    ).input_shapes
    key: list[Any] = [data.draw(st.slices(size) | st.integers(0, size - 1)) for size in VALUES.shape]
    for axis, shape in zip(axes, shapes, strict=False):
        key[axis] = data.draw(npst.arrays(np.int64, shape, elements=st.integers(0, VALUES.shape[axis] - 1)))
    assert_equal(array[tuple(key)], np.asarray(np.cumsum(VALUES, axis=0)[tuple(key)]))
    with pytest.raises(SelectionError):
        array[9]
