"""Tensors of one shape cover a result, whatever its shape, chunks and item size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.wire import tensors
from larvik.wire.tensors import Box, split, tile


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"BATCH_BYTES": 64, "SLAB_BYTES": 64, "MAX_SLAB_BYTES": 256, "MAX_CHUNK_BYTES": 512}
    for name, value in {**limits, "MIN_TENSOR_BYTES": 8, "PLANE_BYTES": 32}.items():
        monkeypatch.setattr(tensors, name, value)


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    ndim = draw(st.integers(1, 4))
    lengths = st.tuples(*[st.integers(1, 13)] * ndim)
    return draw(lengths), draw(lengths), draw(st.sampled_from([1, 2, 4, 8]))


@given(grids())
def test_the_tensors_of_all_batches_give_the_result(grid):
    shape, chunks, itemsize = grid
    tiling = tile(shape, chunks, itemsize)
    pixels = np.arange(math.prod(shape)).reshape(shape)
    result = np.full(shape, -1)
    assert math.prod(tiling.tensor) * itemsize <= 64
    for slab in tiling.slabs():
        block = np.ascontiguousarray(pixels[slab.slices])
        for box in tiling.batches(slab, itemsize):
            size = math.prod(box.shape)
            first = int(np.ravel_multi_index(box.start, slab.shape))
            flat = block.reshape(-1)[first : first + size]
            assert size * itemsize <= 64
            assert (flat == block[box.slices].reshape(-1)).all(), "a batch is contiguous in its slab"
            start = tuple(a + b for a, b in zip(slab.start, box.start, strict=True))
            starts = list(tiling.starts(Box(start, box.shape)))
            ends = tuple(a + n - b for a, n, b in zip(starts[-1], tiling.tensor, starts[0], strict=True))
            assert ends == box.shape, "the tensors of a batch fill one box"
            step = math.prod(tiling.tensor)
            for number, position in enumerate(starts):
                inside = tuple(slice(a, a + n) for a, n in zip(position, tiling.tensor, strict=True))
                result[inside] = flat[number * step : (number + 1) * step].reshape(tiling.tensor)
    assert (result == pixels).all()


@given(grids(), st.integers(1, 40))
def test_slabs_are_as_small_as_the_evaluation_needs(grid, most):
    shape, chunks, itemsize = grid
    tiling = tile(shape, chunks, itemsize, fits=lambda slab: math.prod(slab) <= most)
    assert math.prod(tiling.slab) <= most


@given(grids(), st.integers(1, 50))
def test_boxes_of_a_split_are_contiguous_and_cover_the_array_once(grid, elements):
    shape, _, _ = grid
    pixels = np.arange(math.prod(shape)).reshape(shape)
    covered = [pixels[box.slices].reshape(-1) for box in split(shape, (1,) * len(shape), elements)]
    assert all(len(part) <= elements for part in covered)
    assert (np.concatenate(covered) == pixels.reshape(-1)).all()


def test_a_result_without_elements_has_no_slabs():
    assert list(tile((3, 0, 2), (1, 1, 1), 2).slabs()) == []


def test_planes_stay_whole_where_they_fit(monkeypatch):
    monkeypatch.undo()
    tiling = tile((1, 2, 64, 1024, 1024), (1, 1, 4, 256, 256), 2)
    assert tiling.tensor == (1, 1, 1, 1024, 1024)
    assert tiling.slab == (1, 1, 4, 1024, 1024)


def test_chunks_are_decoded_once_where_a_plane_is_too_large(monkeypatch):
    monkeypatch.undo()
    tiling = tile((1, 2, 64, 2160, 2160), (1, 1, 4, 256, 256), 2)
    assert all(length % 256 == 0 or length == 2160 for length in tiling.slab[-2:])
    assert math.prod(tiling.slab) * 2 <= tensors.MAX_SLAB_BYTES
