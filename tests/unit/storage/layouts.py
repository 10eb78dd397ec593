"""Layouts of arrays, drawn and made."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from larvik.array.spec import Level
from larvik.storage import open_reader
from larvik.testing.arrays import make_spec, write_array

LOCATION = "arrays/01/a.ome.zarr"


@st.composite
def layouts(draw):
    """Draw a shape, inner chunks, shards of whole chunks, and a selection with steps."""
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    chunks = [draw(st.integers(1, size + 1)) for size in shape]
    shards = [chunk * draw(st.integers(1, 3)) for chunk in chunks]
    bounds = [sorted((draw(st.integers(0, size)), draw(st.integers(0, size)))) for size in shape]
    selection = tuple(slice(low, high, draw(st.integers(1, 4))) for low, high in bounds)
    return tuple(shape), tuple(chunks), tuple(shards), selection


def level_of(array, chunks, path="a", shards=None):
    """Return the level of an array that somebody else wrote."""
    ones, zeros = (1.0,) * len(array.shape), (0.0,) * len(array.shape)
    return Level(path, tuple(array.shape), tuple(chunks), tuple(shards or chunks), ones, zeros)


def written_reader(store, array, chunks, shards, codec=None, **options):
    """Write `array` in this layout and return a reader of it."""
    dtype = array.dtype.name
    spec = make_spec(array.shape, [f"d{number}" for number in range(array.ndim)], dtype)
    spec = replace(spec, levels=(replace(spec.levels[0], chunks=chunks, shards=shards),))
    write_array(store, LOCATION, array, spec, codec=codec)
    return open_reader(store, LOCATION, spec.levels[0], dtype, **options)
