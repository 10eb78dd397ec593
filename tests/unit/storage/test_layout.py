from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.array.spec import DTYPES, default_axis, itemsize
from larvik.errors import InvalidArgumentError
from larvik.storage.layout import (
    MAX_CHUNK_BYTES,
    MAX_SHARD_BYTES,
    MIN_CHUNK_BYTES,
    MIN_SHARD_BYTES,
    chunk_shape,
    plan_layout,
    shard_shape,
)
from larvik.testing.arrays import make_spec

SHAPES = {
    "tczyx": [(1, 3, 64, 2048, 2048), (2, 2, 64, 1024, 1024), (1, 1, 5, 1040, 1392), (5, 1, 1, 9, 9)],
    "tyx": [(10_000, 64, 64), (3, 2304, 2304)],
    "cyx": [(3, 40_000, 50_000)],
    "yx": [(100_000, 100_000), (1, 10_000_000), (1, 1)],
    "zyx": [(50, 300, 300), (40, 2160, 2560), (700, 700, 750)],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dims", SHAPES)
def test_chunks_and_shards_have_the_sizes_that_were_decided(dims, dtype):
    for shape in SHAPES[dims]:
        chunks = chunk_shape(dims, shape, dtype)
        shards = shard_shape(dims, shape, chunks, dtype)
        size = itemsize(dtype)
        assert math.prod(chunks) * size <= MAX_CHUNK_BYTES
        assert math.prod(shards) * size <= MAX_SHARD_BYTES
        if "c" in dims:
            assert chunks[dims.index("c")] == shards[dims.index("c")] == 1
        grid = [-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True)]
        for dim, count, shard, chunk in zip(dims, grid, shards, chunks, strict=True):
            assert shard % chunk == 0
            assert shard // chunk <= count, dim
        per_channel = math.prod(shape) * size // (shape[dims.index("c")] if "c" in dims else 1)
        if per_channel > 2 * MAX_SHARD_BYTES:
            assert math.prod(chunks) * size >= MIN_CHUNK_BYTES * 3 / 4
            assert math.prod(shards) * size >= MIN_SHARD_BYTES * 3 / 4


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=6), st.sampled_from(DTYPES))
def test_any_shape_gets_chunks_that_fit_and_shards_of_whole_chunks(shape, dtype):
    dims = ["p", "t", "c", "z", "y", "x"][-len(shape) :]
    chunks = chunk_shape(dims, shape, dtype)
    shards = shard_shape(dims, shape, chunks, dtype)
    assert 1 <= math.prod(chunks) * itemsize(dtype) <= MAX_CHUNK_BYTES
    assert math.prod(shards) * itemsize(dtype) <= MAX_SHARD_BYTES
    assert all(shard % chunk == 0 for shard, chunk in zip(shards, chunks, strict=True))


def test_common_cameras_are_cut_into_whole_planes():
    chunks = chunk_shape("zyx", (40, 2304, 2304), "uint16")
    assert chunks == (1, 576, 576)
    assert shard_shape("zyx", (40, 2304, 2304), chunks, "uint16") == (3, 2304, 2304)


def test_a_small_array_is_one_chunk_and_not_sharded():
    spec = make_spec((2, 3, 100, 120), "czyx", "uint8")
    assert spec.levels[0].chunks == spec.levels[0].shards == (1, 3, 100, 120)


@pytest.mark.parametrize(
    ("dims", "form"),
    [
        ("tczyx", "ome-zarr"), ("zyx", "ome-zarr"), ("cyx", "ome-zarr"), ("yx", "ome-zarr"),
        ("yxc", "zarr"), ("xy", "zarr"), ("ctyx", "zarr"), ("ptczyx", "zarr"), ("x", "zarr"), ("cx", "zarr"),
    ],
)  # fmt: skip
def test_what_fits_ngff_is_an_image_and_the_rest_a_plain_group(dims, form):
    assert make_spec((2,) * len(dims), dims, "uint8").format == form


def test_levels_halve_y_and_x_until_the_plane_fits_a_screen():
    spec = make_spec((7, 4100, 3001), "zyx", "uint16")
    shapes = [(7, 4100, 3001), (7, 2050, 1501), (7, 1025, 751), (7, 513, 376)]
    assert [level.shape for level in spec.levels] == shapes
    assert [level.path for level in spec.levels] == ["0", "1", "2", "3"]
    assert len(make_spec((7, 1024, 1024), "zyx", "uint16").levels) == 1
    assert len(make_spec((7, 4100, 3001), "zyx", "uint16", pyramid=False).levels) == 1
    assert len(make_spec((7, 4100, 3001), "pyx", "uint16").levels) == 1


def test_means_lie_between_pixels_and_nearest_values_on_them():
    mean = make_spec((2000, 4000), "yx", "uint16", origin=[10.0, 0.0])
    nearest = make_spec((2000, 4000), "yx", "uint16", origin=[10.0, 0.0], kind="label")
    assert [level.spacing for level in mean.levels] == [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0)]
    assert [level.origin for level in mean.levels] == [(10.0, 0.0), (10.125, 0.125), (10.375, 0.375)]
    assert [level.origin for level in nearest.levels] == [(10.0, 0.0)] * 3


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dtype": "complex64"}, "dtype"),
        ({"dtype": "float128"}, "dtype"),
        ({"shape": (0, 5)}, "shape"),
        ({"shape": (-1, 5)}, "shape"),
        ({"shape": (2**31, 2**31)}, "shape"),
        ({"shape": (5,)}, "shape"),
        ({"spacing": (0.0, 1.0)}, "spacing"),
        ({"spacing": (math.nan, 1.0)}, "spacing"),
        ({"origin": (math.inf, 1.0)}, "origin"),
        ({"dims": ("x", "x"), "axes": [default_axis("x")] * 2}, "dims"),
        ({"dims": ("a/b", "x"), "axes": [default_axis("a/b"), default_axis("x")]}, "dims"),
        *(
            ({"dims": (name, "x"), "axes": [default_axis(name), default_axis("x")]}, "dims")
            for name in ("data", "zarr.json", "..", ".zgroup", "a\\b", "\ud800", "")
        ),
        ({"dims": ("x", "y")}, "axes"),
        ({"shape": (2**20, 2**25)}, "shape"),
        *(
            ({"coordinates": {"y": [other, 1.0, 2.0, 3.0]}}, "coordinates")
            for other in (math.nan, 10**400, "a", None, (1.0, 2.0), object())
        ),
        ({"coordinates": {"y": ["a", "b", "c", "\ud800"]}}, "coordinates"),
        ({"coordinates": {"y": [1.0, 2.0]}}, "coordinates"),
        ({"coordinates": {"t": [1.0] * 5}}, "coordinates"),
    ],
)
def test_what_cannot_be_laid_out_is_refused_by_field(changes, field):
    arguments = {
        "dims": ("y", "x"),
        "shape": (4, 5),
        "dtype": "uint32",
        "axes": [default_axis("y"), default_axis("x")],
        "spacing": (1.0, 1.0),
        "origin": (0.0, 0.0),
        **changes,
    }
    with pytest.raises(InvalidArgumentError) as caught:
        plan_layout(**arguments)
    assert caught.value.metadata["field"] == field
