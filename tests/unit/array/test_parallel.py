"""Evaluation by several threads: the same bits as by one, ended at once by errors and cancelling."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from larvik.array.budget import Budget
from larvik.array.evaluate import compute, evaluate
from larvik.array.expression import Constant, Expression, Source
from larvik.array.pool import core_count, in_order
from larvik.array.record import record
from larvik.errors import CallCancelledError, DataLossError

CHUNKS = (4, 64, 64)
SHAPE = (24, 384, 300)
RNG = np.random.default_rng(3)
VALUES = {
    "uint16": RNG.integers(0, 65_000, SHAPE).astype("uint16"),
    "int8": RNG.integers(-128, 127, SHAPE).astype("int8"),
    "float64": np.where(RNG.random(SHAPE) < 0.001, np.nan, RNG.normal(1e3, 1, SHAPE)),
}


@dataclass
class Reader:
    """Pixels in memory; can take its time, fail, and tell how many read at once."""

    values: np.ndarray
    pause_s: float = 0.0
    fails_at: int = -1
    reads: int = 0
    most_at_once: int = 0
    _now: int = 0
    _lock: Any = field(default_factory=threading.Lock)
    chunks: tuple[int, ...] = CHUNKS

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        with self._lock:
            self.reads += 1
            number = self.reads
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(self.pause_s)
        with self._lock:
            self._now -= 1
        if number == self.fails_at:
            raise DataLossError("The chunk is damaged.", reason="CHUNK_CORRUPT")
        block = np.array(self.values[selection])
        if out is not None:
            out[...] = block
            return out
        return block


def source(kind: str = "uint16") -> Source:
    return Source("0190b5a2-7d1c-7000-8000-000000000001", 1, 0, SHAPE, kind, CHUNKS)


def reduced(name: str, kind: str, axes: tuple[int, ...], **parameters: Any) -> Expression:
    return record(name, [source(kind)], {"axes": axes, "keepdims": False, **parameters})


@contextmanager
def on_one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


needs_cores = pytest.mark.skipif(core_count() < 2, reason="one core evaluates with one thread")


@pytest.mark.parametrize("kind", list(VALUES))
@pytest.mark.parametrize("axes", [(0,), (0, 1, 2), (1, 2), (2,)])
@pytest.mark.parametrize("name", ["max", "nanmin", "sum", "mean", "nanmean", "std", "nanvar", "argmax"])
def test_threads_give_the_same_bits_as_one_thread(name: str, axes: tuple[int, ...], kind: str) -> None:
    if name == "argmax" and len(axes) == 2:
        axes = (1,)
    parameters = {"ddof": 1.0} if name in ("std", "nanvar") else {}
    node = reduced(name, kind, axes, **parameters)
    with on_one_core():
        (alone,) = compute([node], lambda _: Reader(VALUES[kind]))
    for budget in (Budget(), Budget(8 << 20), Budget(2 << 20)):
        (together,) = compute([node], lambda _: Reader(VALUES[kind]), budget=budget)
        np.testing.assert_array_equal(together, alone)
    where = axes[0] if name == "argmax" and len(axes) == 1 else None if name == "argmax" else axes
    expected = getattr(np, name)(
        VALUES[kind], axis=where, **{key: int(value) for key, value in parameters.items()}
    )
    np.testing.assert_allclose(alone, expected, rtol=1e-12)


@pytest.mark.parametrize("values", ["constant", "one apart", "far from zero", "halves"])
def test_the_variance_of_whole_numbers_keeps_every_digit(values: str) -> None:
    pixels = np.full(SHAPE, 60_000, "uint16")
    if values == "one apart":
        pixels[3, 5, 7] += 1
    elif values == "far from zero":
        pixels -= RNG.integers(0, 3, SHAPE).astype("uint16")
    elif values == "halves":
        pixels[::2] += 1
    (found,) = compute([reduced("var", "uint16", (0, 1, 2), ddof=0.0)], lambda _: Reader(pixels))
    np.testing.assert_allclose(found, np.var(pixels.astype("float64") - 60_000), rtol=1e-12)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "uint16", "bool"])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_first_of_equal_extremes_is_found(name: str, kind: str) -> None:
    pixels = RNG.integers(0, 2, SHAPE).astype(kind)
    if kind.startswith("i"):
        pixels -= 1
    for axis in range(3):
        (found,) = compute([reduced(name, kind, (axis,))], lambda _: Reader(pixels))
        np.testing.assert_array_equal(found, getattr(np, name)(pixels, axis))


@needs_cores
@pytest.mark.parametrize("axes", [(0,), (0, 1, 2)])
def test_tiles_and_steps_are_read_by_several_threads(axes: tuple[int, ...]) -> None:
    reader = Reader(VALUES["uint16"], pause_s=0.005)
    compute([reduced("max", "uint16", axes)], lambda _: reader, budget=Budget(2 << 20))
    assert reader.most_at_once > 1


def test_blocks_come_in_order_whoever_computes_them() -> None:
    node = record("add", [source(), Constant(1)])
    reader = Reader(VALUES["uint16"], pause_s=0.001)
    starts = [start for start, _ in evaluate(node, lambda _: reader, block_bytes=1 << 18)]
    assert len(starts) > 4
    assert starts == sorted(starts)


def test_an_error_ends_the_evaluation_and_leaves_no_work_behind() -> None:
    reader = Reader(VALUES["uint16"], pause_s=0.002, fails_at=3)
    with pytest.raises(DataLossError, match="damaged"):
        compute([record("add", [source(), Constant(1)])], lambda _: reader, budget=Budget(1 << 20))
    reads = reader.reads
    assert reads < 3 + 3 * core_count()
    time.sleep(0.02)
    assert reader.reads == reads


def test_cancelling_ends_every_thread_within_milliseconds() -> None:
    reader = Reader(VALUES["uint16"], pause_s=0.002)
    began = time.monotonic()
    with pytest.raises(CallCancelledError):
        compute(
            [record("add", [source(), Constant(1)])], lambda _: reader, budget=Budget(1 << 20),
            cancelled=lambda: reader.reads >= 5,
        )  # fmt: skip
    assert time.monotonic() - began < 2
    assert reader.reads < 5 + 3 * core_count()


def test_an_iteration_that_is_given_up_ends_its_threads() -> None:
    reader = Reader(VALUES["uint16"], pause_s=0.001)
    blocks = evaluate(record("add", [source(), Constant(1)]), lambda _: reader, block_bytes=1 << 16)
    next(blocks)
    blocks.close()
    reads = reader.reads
    assert reads < 1 + 3 * core_count()
    time.sleep(0.02)
    assert reader.reads == reads


def test_evaluations_within_evaluations_do_not_wait_for_each_other() -> None:
    node = reduced("max", "uint16", (0,))

    def inner(_: int) -> Any:
        return compute([node], lambda _: Reader(VALUES["uint16"]), budget=Budget(4 << 20))[0]

    found = list(in_order(inner, range(3 * core_count()), 2 * core_count(), lambda: None))
    assert all(np.array_equal(one, VALUES["uint16"].max(0)) for one in found)


def test_context_variables_hold_in_the_threads() -> None:
    from larvik.array.options import evaluating, options

    with evaluating("client"):
        assert list(in_order(lambda _: options().evaluate, range(3), 2, lambda: None)) == ["client"] * 3


def test_a_repeated_part_is_computed_once_for_all_threads() -> None:
    reader = Reader(VALUES["uint16"])
    mean = record("mean", [source()], {"axes": (0,), "keepdims": True})
    node = record("subtract", [source(), mean])
    (found,) = compute([node], lambda _: reader)
    np.testing.assert_allclose(found, VALUES["uint16"] - VALUES["uint16"].mean(0), rtol=1e-12)


def test_bounds_of_huge_results_are_made_one_by_one() -> None:
    from larvik.array.regions import Cuts, boxes

    cuts = Cuts((2**40,), 1)
    assert len(cuts) == 2**40
    assert cuts[2**39] == (2**39, 2**39 + 1)
    assert next(boxes([cuts, cuts])) == (range(0, 1), range(0, 1))
