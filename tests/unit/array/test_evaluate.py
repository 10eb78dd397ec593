"""Evaluation: equal to NumPy for any chunks and any memory, each chunk read once, memory bounded."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from larvik.array.budget import Budget
from larvik.array.evaluate import compute, evaluate
from larvik.array.expression import Constant, Expression, Source
from larvik.array.lazy import LazyArray
from larvik.array.local import LocalEvaluator
from larvik.array.record import record
from larvik.array.regions import whole
from larvik.errors import CallCancelledError, InvalidArgumentError, ResourceExhaustedError

SHAPE = (4, 3, 10, 8)
RNG = np.random.default_rng(5)
INTEGERS = (RNG.random(SHAPE) * 60_000).astype("uint16")
FLOATS = (RNG.normal(0, 100, SHAPE)).astype("float32")
FLOATS[RNG.random(SHAPE) < 0.1] = np.nan
PIXELS = {
    "uint16": INTEGERS,
    "float32": FLOATS,
    "bool": INTEGERS > 30_000,
    "float64": FLOATS.astype("float64"),
}

chunkings = st.tuples(*(st.integers(1, size) for size in SHAPE))
budgets = st.sampled_from([Budget(), Budget(2**16), Budget(2**14), Budget(3 * 2**11)])


class Memory:
    def __init__(self, values: np.ndarray, chunks: tuple[int, ...]) -> None:
        self.values, self.shape, self.dtype, self.chunks = values, values.shape, values.dtype, chunks

    def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        if out is None:
            return self.values[selection].copy()
        out[...] = self.values[selection]
        return out


def lazy(kind: str, chunks: tuple[int, ...], budget: Budget) -> LazyArray:
    values = PIXELS[kind]
    source = Source("0190b5a2-7d1c-7000-8000-000000000001", 1, 0, values.shape, values.dtype, chunks)
    return LazyArray(source, LocalEvaluator(lambda _: Memory(values, chunks), "test:", budget=budget))


Step = Callable[[Any], Any]

STEPS: dict[str, Step] = {
    "max": lambda a: np.max(a, axis=0),
    "min all": lambda a: np.min(a, axis=None, keepdims=True),
    "nanmax": lambda a: np.nanmax(a, axis=-1),
    "nanmin": lambda a: np.nanmin(a, axis=(0, 1)) if a.ndim > 1 else np.nanmin(a),
    "sum": lambda a: np.sum(a, axis=0),
    "sum last": lambda a: np.sum(a, axis=-1),
    "nansum": lambda a: np.nansum(a, axis=-1, dtype="float64"),
    "mean": lambda a: np.mean(a, axis=0, dtype="float64"),
    "mean two": lambda a: np.mean(a, axis=(0, a.ndim - 1), dtype="float64") if a.ndim > 1 else np.mean(a),
    "nanmean": lambda a: np.nanmean(a, axis=0, dtype="float64"),
    "std": lambda a: np.std(a, axis=-1, dtype="float64"),
    "var": lambda a: np.var(a, axis=0, ddof=1, dtype="float64"),
    "nanvar": lambda a: np.nanvar(a, axis=0, dtype="float64"),
    "nanstd": lambda a: np.nanstd(a, axis=-1, ddof=1, dtype="float64"),
    "any": lambda a: np.any(a, axis=0),
    "all": lambda a: np.all(a, axis=-1),
    "argmax": lambda a: np.argmax(a, axis=0),
    "argmax flat": lambda a: np.argmax(a),
    "argmin": lambda a: np.argmin(a, axis=-1),
    "count_nonzero": lambda a: np.count_nonzero(a, axis=0),
    "add": lambda a: np.add(a, 1),
    "self": lambda a: np.subtract(np.multiply(a, 2), np.add(a, 1)),
    "less": lambda a: np.less(a, 1000),
    "cast": lambda a: np.astype(a, np.dtype("float32")),
    "keep mean": lambda a: np.subtract(a, np.mean(a, axis=0, keepdims=True, dtype="float64")),
    "keep max": lambda a: np.not_equal(a, np.max(a, axis=-1, keepdims=True)),
    "transpose": lambda a: np.transpose(a),
    "moveaxis": lambda a: np.moveaxis(a, 0, -1),
    "flat": lambda a: np.reshape(a, -1),
    "pairs": lambda a: np.reshape(a, (*a.shape[:-1], a.shape[-1] // 2, 2)) if a.shape[-1] % 2 == 0 else a,
    "join first": lambda a: np.reshape(a, (-1, *a.shape[2:])) if a.ndim > 1 else a,
    "expand": lambda a: np.expand_dims(a, 1),
    "flip": lambda a: np.flip(a, 0),
    "every other": lambda a: a[::2],
    "last": lambda a: a[..., -1],
    "some": lambda a: np.take(a, [0, a.shape[0] - 1, 0], axis=0),
    "concatenate": lambda a: np.concatenate([a, a[:1], np.flip(a, 0)], axis=0),
    "stack": lambda a: np.stack([a, a], axis=-1),
    "neighbours": lambda a: np.equal(a[1:], a[:-1]) if a.shape[0] > 1 else a,
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "where": lambda a: np.where(np.greater(a, 500), a, 0),
    "clip": lambda a: np.clip(np.astype(a, np.dtype("float64")), 10, 1000),
    "nan_to_num": lambda a: np.nan_to_num(np.astype(a, np.dtype("float64")), nan=3.0),
    "isclose": lambda a: np.isclose(a, 7.0, equal_nan=True),
    "points": lambda a: a[np.array([0, a.shape[0] - 1]), np.array([0, a.shape[1] - 1])] if a.ndim > 1 else a,
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(
    kind=st.sampled_from(list(PIXELS)),
    chunks=chunkings,
    budget=budgets,
    names=st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=4),
)
@settings(max_examples=150)
def test_any_chain_of_operations_equals_numpy(
    kind: str, chunks: tuple[int, ...], budget: Budget, names: list[str]
) -> None:
    array, expected = lazy(kind, chunks, budget), PIXELS[kind]
    is_exact, scale = True, 1.0
    for name in names:
        if not expected.ndim or not expected.size or (name in DECIDING and not is_exact):
            break
        try:
            expected = np.asarray(STEPS[name](expected))
        except (TypeError, ValueError):
            with pytest.raises((TypeError, ValueError)):
                STEPS[name](array).compute()
            break
        array = STEPS[name](array)
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype), names
        is_exact = is_exact and name not in ROUNDING
        if expected.dtype.kind == "f":
            scale = np.nanmax(np.abs(expected), initial=scale, where=np.isfinite(expected))
    try:
        found = array.compute()
    except ResourceExhaustedError:
        # A small budget may hold no step of the operation; a large one must.
        assert budget != Budget()
        return
    single = kind == "float32" or "cast" in names or expected.dtype.itemsize < 8
    assert_close(found, expected, (1e-6 if single else 1e-12) * scale, is_exact)


#: Steps whose last bits may differ from NumPy's, and steps that turn such bits into other values.
ROUNDING = {
    "sum", "sum last", "nansum", "mean", "mean two", "nanmean", "std", "var", "nanvar", "nanstd", "keep mean",
}  # fmt: skip
DECIDING = {
    "any",
    "all",
    "argmax",
    "argmax flat",
    "argmin",
    "less",
    "neighbours",
    "where",
    "isclose",
    "keep max",
}


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float, is_exact: bool) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if is_exact:
        np.testing.assert_array_equal(found, expected)
    elif expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1)


@given(
    chunks=chunkings,
    axes=st.lists(st.integers(0, 3), min_size=1, unique=True),
    op=st.sampled_from(["sum", "nansum", "mean", "std", "nanvar", "prod"]),
)
def test_float_sums_are_bit_equal_whatever_is_read_at_a_time(
    chunks: tuple[int, ...], axes: list[int], op: str
) -> None:
    results = [
        getattr(np, op)(lazy("float64", chunks, budget), axis=tuple(axes)).compute()
        for budget in (Budget(), Budget(2**17), Budget(2**16))
    ]
    rows = getattr(np, op)(lazy("float64", chunks, Budget()), axis=tuple(axes))
    pieces = np.empty(rows.shape)
    for position in np.ndindex(*rows.shape):
        region = tuple(range(index, index + 1) for index in position)
        assert rows.expression is not None
        ((_, block),) = evaluate(
            rows.expression, lambda _: Memory(PIXELS["float64"], chunks), regions=[region]
        )
        pieces[position] = block.reshape(())
    for result in (*results[1:], pieces):
        np.testing.assert_array_equal(result, results[0])


@given(chunks=chunkings, budget=budgets, size=st.sampled_from([1, 100, 10_000]))
def test_blocks_cover_the_result_once(chunks: tuple[int, ...], budget: Budget, size: int) -> None:
    array = lazy("uint16", chunks, budget)
    assert array.expression is not None
    node = record("add", [array.expression, Constant(1)])
    out, seen = np.zeros(SHAPE, "uint16"), np.zeros(SHAPE, int)
    for start, block in evaluate(node, lambda _: Memory(INTEGERS, chunks), budget=budget, block_bytes=size):
        part = tuple(slice(first, first + count) for first, count in zip(start, block.shape, strict=True))
        out[part] = block
        seen[part] += 1
    np.testing.assert_array_equal(out, INTEGERS + 1)
    assert (seen == 1).all()


def test_a_projection_reads_each_chunk_once(make_image: Any) -> None:
    values = (RNG.random((2, 2, 16, 64, 64)) * 1000).astype("uint16")
    image = make_image(values, (1, 1, 4, 16, 16))
    for budget in (Budget(), Budget(2**18), Budget(2**16)):
        image.reader.chunk_reads.clear()
        node = image.lazy.sel(t=0, c=0).max("z").data.expression
        (found,) = compute([node], lambda _: image.reader, budget=budget)
        np.testing.assert_array_equal(found, values[0, 0].max(0))
        assert len(image.reader.chunk_reads) == 4 * 4 * 4
        assert set(image.reader.chunk_reads.values()) == {1}


def test_a_plain_read_is_one_read_into_the_result(image: Any) -> None:
    np.testing.assert_array_equal(
        image.lazy.isel(t=1, x=slice(2, 9, 3)).compute(), image.plain[1, ..., 2:9:3]
    )
    assert image.reader.reads == 1
    assert image.reader.most_bytes == 0


def test_positions_far_apart_do_not_read_what_lies_between(image: Any) -> None:
    image.lazy.isel(t=0, c=0, z=0, y=[0, 11], x=0).compute()
    assert sorted(image.reader.chunk_reads) == [(0, 0, 0, 0, 0), (0, 0, 0, 2, 0)]


@pytest.mark.parametrize("name", ["shared", "three statistics", "neighbours"])
def test_what_several_parts_use_is_read_once(name: str, image: Any) -> None:
    a = image.lazy.astype("float64")
    wanted = {
        "shared": a - a.mean("z"),
        "three statistics": a.max("z") - a.min("z") + a.std("z"),
        "neighbours": a.isel(x=slice(1, None)) - a.isel(x=slice(0, -1)).data,
    }[name]
    wanted.compute()
    assert set(image.reader.chunk_reads.values()) == {1}


def test_results_that_are_asked_for_together_share_their_reads(image: Any) -> None:
    dataset = (
        image.lazy.max("z").to_dataset(name="high").assign(low=image.lazy.min("z"), mean=image.lazy.mean("z"))
    )
    values = dataset.compute()
    assert set(image.reader.chunk_reads.values()) == {1}
    np.testing.assert_array_equal(values["low"], image.plain.min("z"))


def test_the_same_result_asked_for_twice_gives_two_arrays(image: Any) -> None:
    node = image.lazy.max("z").data.expression
    first, second = compute([node, node], lambda _: image.reader)
    first[...] = 0
    np.testing.assert_array_equal(second, image.plain.max("z"))


@pytest.mark.parametrize(
    "name",
    ["max z", "mean all", "std z", "subtract mean", "sum yx", "coarsen", "cast and clip", "concat", "points"],
)
def test_memory_stays_within_the_budget(name: str, make_image: Any) -> None:
    values = (RNG.random((4, 1, 32, 256, 256)) * 1000).astype("uint16")  # 16 MiB
    image = make_image(values, (1, 1, 4, 64, 64), channel_names=("one",))
    a = image.lazy
    node = {
        "max z": lambda: a.max("z"),
        "mean all": lambda: a.mean(),
        "std z": lambda: a.std("z"),
        "subtract mean": lambda: (a - a.mean("z")).max(["y", "x"]),
        "sum yx": lambda: a.astype("float32").sum(["y", "x"]),
        "coarsen": lambda: a.coarsen(y=4, x=4).mean().max("z"),
        "cast and clip": lambda: a.astype("float32").clip(10.0, 500.0).mean("t"),
        "concat": lambda: a.concat_max() if hasattr(a, "concat_max") else _concat(a).max("t"),
        "points": lambda: a.isel(y=_points(40), x=_points(40)).max("t"),
    }[name]().data.expression
    budget = Budget(4 * 2**20)
    compute([node], lambda _: image.reader)  # what is loaded with the first evaluation does not count
    image.reader.most_bytes = 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        (result,) = compute([node], lambda _: image.reader, budget=budget)
        peak = tracemalloc.get_traced_memory()[1] - before - result.nbytes
    finally:
        tracemalloc.stop()
    assert image.reader.most_bytes <= budget.memory_bytes
    assert peak <= budget.memory_bytes
    deadline = time.monotonic() + 5
    while image.reader.held_bytes:  # a thread lets go of its last block just after it gave the result
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_end_of_one_long_row_and_the_begin_of_the_next_are_read_without_the_rows(make_image: Any) -> None:
    values = (RNG.random((2, 3, 70_001)) * 200).astype("uint8")
    image = make_image(values, (1, 2, 1024), dims="zyx")
    flat = record("reshape", [image.source], {"shape": (values.size,)})
    largest = record("max", [flat], {"axes": (0,), "keepdims": False})
    budget = Budget(2**16)
    assert compute([largest], lambda _: image.reader, budget=budget)[0] == values.max()
    assert image.reader.most_bytes <= budget.memory_bytes
    (result,) = compute([flat], lambda _: image.reader, budget=budget)
    np.testing.assert_array_equal(result, values.ravel())
    assert image.reader.most_bytes <= budget.memory_bytes
    assert image.reader.held_bytes == 0


def test_a_chunk_that_only_just_fits_leaves_room_for_its_reduction() -> None:
    many = record("broadcast_to", [Constant(np.uint8(1))], {"shape": (2**27,)})
    node = record("max", [record("negative", [many])], {"axes": (0,), "keepdims": False})
    assert compute([node], lambda source: pytest.fail(f"{source} is not stored"))[0] == 255


def _points(count: int) -> Any:
    import xarray as xr

    return xr.DataArray(np.arange(count) * 6 % 256, dims="p")


def _concat(array: Any) -> Any:
    import xarray as xr

    return xr.concat([array.isel(t=[0, 1]), array.isel(t=[3])], dim="t")


def test_what_fits_no_budget_names_the_cure(make_image: Any) -> None:
    image = make_image(INTEGERS.reshape(1, *SHAPE), (1, *SHAPE), channel_names=())
    node = image.lazy.astype("float64").data.expression
    points = record("reshape", [record("transpose", [node], {"axes": (4, 3, 2, 1, 0)})], {"shape": (960,)})
    total = record("argmax", [points], {"axes": (0,), "keepdims": False})
    with pytest.raises(
        ResourceExhaustedError, match=r"Select less, reduce earlier, or use \.larvik\.to_dask"
    ):
        compute([total], lambda _: image.reader, budget=Budget(64))


def test_a_graph_that_uses_itself_again_and_again_ends(make_image: Any) -> None:
    image = make_image(np.arange(4096, dtype="int64"), (64,), dims="x")
    node: Expression = image.source
    for _ in range(60):
        fewer = node.shape[0] - 1
        left = record("select", [node], {"selection": (range(fewer),)})
        right = record("select", [node], {"selection": (range(1, fewer + 1),)})
        node = record("maximum", [left, right])
    (found,) = compute([node], lambda _: image.reader)
    np.testing.assert_array_equal(found, np.arange(60, 4096))


def test_a_graph_whose_parts_are_too_large_to_keep_is_refused_instead_of_running_for_ever(
    make_image: Any,
) -> None:
    image = make_image(np.arange(2**16, dtype="int64"), (2**10,), dims="x")
    node: Expression = image.source
    for _ in range(20):
        order = record("select", [node], {"selection": (range(2**16 - 1, -1, -1),)})
        total = record("max", [order], {"axes": (0,), "keepdims": True})
        node = record("maximum", [node, total])
    with pytest.raises(ResourceExhaustedError, match="Compute a part of it first"):
        compute([node], lambda _: image.reader, budget=Budget(2**20))


def test_cancelling_ends_the_evaluation_between_reads(image: Any) -> None:
    calls = 0

    def cancelled() -> bool:
        nonlocal calls
        calls += 1
        return calls > 5

    node = image.lazy.astype("float64").data.expression
    with pytest.raises(CallCancelledError):
        compute([node], lambda _: image.reader, budget=Budget(2**14), cancelled=cancelled)
    assert 0 < image.reader.reads <= 5


def test_an_all_nan_slice_has_no_position(make_image: Any) -> None:
    values = np.ones((2, 3), "float32")
    values[1] = np.nan
    image = make_image(values, (1, 2), dims="yx")
    node = record("nanargmax", [image.source], {"axes": (1,), "keepdims": False})
    with pytest.raises(InvalidArgumentError, match="All-NaN slice"):
        compute([node], lambda _: image.reader)


@pytest.mark.parametrize("kind", ["max", "argmax", "argmin", "nanargmax"])
def test_extremes_of_signed_zeros_infinities_and_nan_equal_numpy(kind: str, make_image: Any) -> None:
    values = np.array([[0.0, -0.0, np.inf, -np.inf, 1.0, np.inf], [np.nan, 5, np.nan, 5, 1, 2]])
    image = make_image(values, (1, 2), dims="yx")
    for axes in ((1,), (0,), (0, 1)):
        node = record(kind, [image.source], {"axes": axes, "keepdims": False})
        (found,) = compute([node], lambda _: image.reader)
        np.testing.assert_array_equal(
            found, getattr(np, kind)(values, axis=axes[0] if len(axes) == 1 else None)
        )


def test_an_array_without_dims_or_elements_is_computed(make_image: Any) -> None:
    image = make_image(np.float32(3.5).reshape(()), (), dims="")
    assert image.lazy.compute().item() == 3.5
    assert (image.lazy + 1).compute().item() == 4.5
    empty = make_image(np.empty((0, 4), "uint16"), (1, 2), dims="yx")
    assert empty.lazy.sum("y").compute().data.tolist() == [0, 0, 0, 0]
    assert empty.lazy.compute().shape == (0, 4)
    assert empty.reader.reads == 0


def test_regions_choose_the_blocks(image: Any) -> None:
    node = image.lazy.max("z").data.expression
    regions = [tuple(range(0, size, 2) for size in node.shape), whole(node.shape)]
    blocks = list(evaluate(node, lambda _: image.reader, regions=regions))
    np.testing.assert_array_equal(blocks[0][1], image.plain.max("z").data[::2, ::2, ::2, ::2])
    np.testing.assert_array_equal(blocks[1][1], image.plain.max("z"))
