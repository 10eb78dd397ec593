"""Stored arrays in memory, that count what is read of them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import xarray as xr

from larvik.array.expression import Source
from larvik.array.local import LocalEvaluator
from larvik.array.open import to_dataarray
from larvik.array.spec import ArraySpec, Axis, Level, default_axis

ARRAY_ID = "0190b5a2-7d1c-7000-8000-000000000001"


@dataclass
class CountingReader:
    """Reads an array in memory; counts reads, reads of each chunk, and bytes given that are still held."""

    values: np.ndarray
    chunks: tuple[int, ...]
    reads: int = 0
    chunk_reads: dict[tuple[int, ...], int] = field(default_factory=dict)
    held_bytes: int = 0
    most_bytes: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        assert len(selection) == self.values.ndim
        for item, size in zip(selection, self.shape, strict=True):
            assert 0 <= item.start < item.stop <= size
            assert item.step >= 1
        with self._lock:
            self.reads += 1
            self._count(selection)
        block = np.array(self.values[selection])
        if out is not None:
            assert out.shape == block.shape
            assert out.dtype == block.dtype
            out[...] = block
            return out
        with self._lock:
            self.held_bytes += block.nbytes
            self.most_bytes = max(self.most_bytes, self.held_bytes)
        weakref.finalize(block, self._release, block.nbytes)
        return block

    def _release(self, size: int) -> None:
        with self._lock:  # the collector may call this while the lock is held, in the same thread
            self.held_bytes -= size

    def _count(self, selection: tuple[slice, ...]) -> None:
        axes = [
            sorted({index // chunk for index in range(item.start, item.stop, item.step)})
            for item, chunk in zip(selection, self.chunks, strict=True)
        ]
        for index in np.ndindex(*(len(axis) for axis in axes)):
            key = tuple(axis[number] for axis, number in zip(axes, index, strict=True))
            self.chunk_reads[key] = self.chunk_reads.get(key, 0) + 1


@dataclass
class Image:
    """The same pixels twice: lazy, and as xarray over NumPy."""

    lazy: xr.DataArray
    plain: xr.DataArray
    reader: CountingReader
    evaluator: LocalEvaluator
    source: Source


@pytest.fixture
def make_image() -> Callable[..., Image]:
    return build_image


def build_image(
    values: np.ndarray,
    chunks: Sequence[int],
    dims: Sequence[str] = "tczyx",
    *,
    channel_names: Sequence[str] = ("DAPI", "GFP"),
    array_id: str = ARRAY_ID,
    url: str = "test:",
    attrs: dict[str, Any] | None = None,
) -> Image:
    dims = tuple(dims)[-values.ndim :] if values.ndim else ()
    reader = CountingReader(values, tuple(chunks))
    spacing = tuple({"t": 2.0, "c": 1.0, "z": 1.0}.get(dim, 0.5) for dim in dims)
    level = Level("0", values.shape, tuple(chunks), tuple(chunks), spacing, (0.0,) * values.ndim)
    axes: tuple[Axis, ...] = tuple(default_axis(dim) for dim in dims)
    names = tuple(channel_names) if "c" in dims else ()
    spec = ArraySpec(axes, values.dtype.name, (level,), channel_names=names)
    evaluator = LocalEvaluator(lambda source: reader, url)
    lazy = to_dataarray(spec, array_id, 1, evaluator, name="image", attrs=attrs)
    source = lazy.variable._data.expression
    assert isinstance(source, Source)
    plain = lazy.copy(data=values.copy())
    return Image(lazy, plain, reader, evaluator, source)


@pytest.fixture
def image() -> Image:
    """A small five-dimensional uint16 image."""
    values = (np.random.default_rng(7).random((3, 2, 8, 12, 10)) * 1000).astype("uint16")
    return build_image(values, (1, 1, 3, 5, 4), attrs={"note": "kept"})
