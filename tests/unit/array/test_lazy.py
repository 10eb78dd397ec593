"""The lazy array as NumPy, xarray, Dask and pickle meet it."""

from __future__ import annotations

import copy
import operator
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr

import larvik.connection
from larvik.array.lazy import LazyArray
from larvik.array.options import set_options
from larvik.errors import SelectionError, UnsupportedError


def data(array: xr.DataArray) -> LazyArray:
    found = array.variable._data
    assert isinstance(found, LazyArray)
    return found


def test_the_seed_example_reads_only_what_it_projects(image: Any) -> None:
    lazy = image.lazy.sel(t=0, c=0).max(dim="z")
    assert image.reader.reads == 0
    result = lazy.compute()
    assert isinstance(result.data, np.ndarray)
    np.testing.assert_array_equal(result, image.plain.isel(t=0, c=0).max("z"))
    assert set(image.reader.chunk_reads) == {
        (0, 0, z, y, x) for z in range(3) for y in range(3) for x in range(3)
    }


def test_it_looks_like_an_array_without_being_read(image: Any) -> None:
    array = data(image.lazy)
    values = image.plain.data
    for name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize"):
        assert getattr(array, name) == getattr(values, name)
    assert array.chunks == ((1, 1, 1), (1, 1), (3, 3, 2), (5, 5, 2), (4, 4, 2))
    assert len(array) == 3
    assert array.T.shape == values.T.shape
    assert array.real is array
    assert array.imag.shape == values.shape
    assert "uint16" in repr(array)
    assert "LazyArray" in array._repr_inline_(80)
    assert not hasattr(array, "__array_namespace__")
    assert not hasattr(array, "__dask_graph__")
    assert (np.shape(array), np.ndim(array), np.size(array), np.size(array, 0)) == (
        values.shape,
        5,
        values.size,
        3,
    )
    assert np.result_type(array, np.float32) == np.float32
    assert np.can_cast(np.uint8, array.dtype)
    assert not np.iscomplexobj(array)
    assert np.isrealobj(array)
    assert copy.copy(array) is array
    assert copy.deepcopy(array) is array
    assert np.copy(array) is array
    assert np.asarray([1, 2], like=array).shape == (2,)
    assert image.reader.reads == 0


@pytest.mark.parametrize(
    "act",
    [
        lambda a: np.asarray(a),
        lambda a: np.asarray(a, dtype="float32"),
        lambda a: a.compute(),
        lambda a: a.max().item(),
        lambda a: bool(a.max()),
        lambda a: float(a.max()),
        lambda a: int(a.max()),
        lambda a: complex(a.max()),
        lambda a: operator.index(a.max()),
        lambda a: [float(item.max()) for item in a],
    ],
)
def test_values_are_read_when_they_are_asked_for(act: Callable[[Any], Any], image: Any) -> None:
    found = act(data(image.lazy))
    assert image.reader.reads > 0
    np.testing.assert_array_equal(found, act(_Computed(image.plain.data)))


class _Computed(np.ndarray):
    """A NumPy array that has `compute` too."""

    def __new__(cls, values: np.ndarray) -> _Computed:
        return values.view(cls)

    def compute(self) -> np.ndarray:
        return np.asarray(self)


@pytest.mark.parametrize(
    "act",
    [
        lambda a: a.compute(),
        lambda a: a.load(),
        lambda a: a.copy().load(),
        lambda a: a.persist().compute(),
        lambda a: a.to_dataset(name="v").compute()["v"].rename("image"),
        lambda a: xr.DataArray(a.values, dims=a.dims, coords=a.coords, name=a.name, attrs=a.attrs),
        lambda a: a.larvik.to_dask().compute(),
        lambda a: a.chunk().compute(),
        lambda a: a.chunk(y=7).compute(),
        lambda a: pickle.loads(pickle.dumps(a.compute())),
    ],
)
def test_every_way_to_the_values_gives_numpy(act: Callable[[xr.DataArray], xr.DataArray], image: Any) -> None:
    result = act(image.lazy)
    assert isinstance(result.data, np.ndarray)
    xr.testing.assert_identical(result, image.plain)


def test_assignment_is_refused_because_stored_pixels_do_not_change(image: Any) -> None:
    with pytest.raises(TypeError, match="immutable"):
        image.lazy[0] = 5
    with pytest.raises(TypeError, match="immutable"):
        data(image.lazy)[0, 0] = 5
    with pytest.raises(TypeError, match="out="):
        np.add(data(image.lazy), 1, out=np.empty(image.plain.shape))


def test_in_place_operators_bind_the_name_to_a_new_array(image: Any) -> None:
    array = original = data(image.lazy)
    array += 1
    assert array is not original
    np.testing.assert_array_equal(array.compute(), image.plain + 1)
    np.testing.assert_array_equal(original.compute(), image.plain)
    floats = original.astype("float64")
    for symbol in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
        expected = getattr(operator, symbol)(image.plain.data.astype("float64"), 2)
        np.testing.assert_allclose(getattr(operator, f"i{symbol}")(floats, 2).compute(), expected)


def test_the_power_operator_differs_from_the_ufunc_as_in_numpy(make_image: Any) -> None:
    image = make_image(np.array([[True, False]]), (1, 1), dims="yx")
    assert (data(image.lazy) ** 2).dtype == (image.plain.data**2).dtype == np.int8
    assert np.power(data(image.lazy), 2).dtype == np.power(image.plain.data, 2).dtype == np.int64
    assert (2 ** data(image.lazy)).compute().tolist() == (2**image.plain.data).tolist()


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "minimum", "logical_or", "logical_and"])
def test_the_reduce_of_a_ufunc_is_recorded(name: str, image: Any) -> None:
    found = getattr(np, name).reduce(data(image.lazy))
    assert found.expression is not None
    np.testing.assert_array_equal(found.compute(), getattr(np, name).reduce(image.plain.data))


def test_matrix_products_and_several_outputs_run_in_dask(image: Any) -> None:
    plane = image.lazy.isel(t=0, c=0, z=0).astype("float64")
    product = data(plane) @ data(plane.T)
    assert product.expression is None
    np.testing.assert_allclose(product.compute(), plane.values @ plane.values.T)
    quotient, rest = divmod(data(plane), 7)
    np.testing.assert_allclose(quotient.compute() * 7 + rest.compute(), plane.values)
    fraction, whole = np.modf(data(plane) / 7)
    np.testing.assert_allclose(fraction.compute() + whole.compute(), plane.values / 7)


def test_dtypes_that_are_not_recorded_run_in_dask(image: Any) -> None:
    plane = data(image.lazy.isel(t=0, c=0, z=0))
    assert plane.astype("complex64").expression is None
    np.testing.assert_array_equal((plane + 1j).compute(), image.plain[0, 0, 0].data + 1j)
    np.testing.assert_array_equal((plane + 1j).imag.compute(), np.ones(plane.shape))
    assert plane.astype("datetime64[s]").dtype == np.dtype("datetime64[s]")


def test_a_function_that_nobody_has_lazily_is_refused_instead_of_reading_everything(image: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"numpy\.kaiser|numpy\.partition.*\.compute\(\)"):
        np.partition(data(image.lazy), 3)
    assert image.reader.reads == 0


def test_a_lazy_condition_alone_is_refused_with_the_cure(image: Any) -> None:
    with pytest.raises(ValueError, match="Compute the condition first"):
        np.where(data(image.lazy) > 3)


def test_a_long_chain_continues_in_dask(make_image: Any) -> None:
    image = make_image(np.arange(6, dtype="int64"), (2,), dims="x")
    array = data(image.lazy)
    for _ in range(200):
        array = array + 1
    assert image.reader.reads == 0
    np.testing.assert_array_equal(array.compute(), np.arange(6) + 200)


@pytest.mark.parametrize(
    "act",
    [
        lambda a: np.sum(a, 0, None, None, True),
        lambda a: np.mean(a, 0, np.float32, None, True),
        lambda a: np.nanprod(a, 4, None, None, False),
        lambda a: np.std(a, 0, None, None, 1, True),
        lambda a: np.nanmax(a, 0, None, True),
        lambda a: np.argmin(a, 0),
        lambda a: np.any(a, 0, None, True),
    ],
)
def test_arguments_by_position_mean_what_they_mean_in_numpy(act: Callable[[Any], Any], image: Any) -> None:
    found = act(data(image.lazy))
    expected = act(image.plain.data)
    assert found.expression is not None
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.compute(), expected, rtol=1e-6)


def test_an_argument_that_is_not_recorded_is_not_dropped(image: Any) -> None:
    with pytest.raises((UnsupportedError, TypeError)):
        np.max(data(image.lazy), 0, None, False, 5000)
    with pytest.raises(TypeError):
        np.add(data(image.lazy), 0.5, casting="no")


def test_idxmax_reads_each_chunk_once(image: Any) -> None:
    found = image.lazy.idxmax("z").compute()
    np.testing.assert_array_equal(found, image.plain.idxmax("z"))
    assert max(image.reader.chunk_reads.values()) == 1


def test_persisted_arrays_are_lazy_arrays_in_memory(image: Any) -> None:
    kept = image.lazy.max("z").persist()
    reads = image.reader.reads
    assert data(kept).expression is not None
    np.testing.assert_array_equal(
        (kept + image.lazy.min("z")).compute(), (image.plain.max("z") + image.plain.min("z"))
    )
    np.testing.assert_array_equal(kept.compute(), image.plain.max("z"))
    assert image.reader.reads > reads


def test_what_only_dask_computes_can_be_persisted(image: Any) -> None:
    kept = (image.lazy.max("z") * 1j).persist()
    reads = image.reader.reads
    np.testing.assert_array_equal(kept.compute(), image.plain.max("z") * 1j)
    assert image.reader.reads == reads


# Dask.


def test_every_block_of_a_chunked_array_is_a_numpy_array(image: Any) -> None:
    for chunked in (
        image.lazy.chunk(),
        image.lazy.chunk(z=4),
        image.lazy.larvik.to_dask(),
        (image.lazy + 1).chunk(),
    ):
        array = chunked.data
        assert isinstance(array, dask.array.Array)
        assert type(array._meta) is np.ndarray
        assert image.reader.reads == 0
        blocks = array.map_blocks(_type_of, dtype=object, meta=np.empty((0,) * 5, object)).compute(
            scheduler="sync"
        )
        assert set(blocks.ravel()) == {np.ndarray}
        image.reader.reads = 0


def _type_of(block: Any) -> np.ndarray:
    found = np.empty((1,) * block.ndim, object)
    found[...] = type(block)
    return found


def test_to_dask_keeps_the_stored_chunks_and_the_coordinates(image: Any) -> None:
    found = image.lazy.isel(t=0).larvik.to_dask()
    assert found.chunks == image.lazy.isel(t=0).chunks
    xr.testing.assert_identical(found.compute(), image.plain.isel(t=0))
    assert found.isel(z=0).data.name != image.lazy.isel(t=1).larvik.to_dask().isel(z=0).data.name


def test_equal_recordings_have_the_same_name_in_dask(image: Any) -> None:
    first, second = (image.lazy.max("z").larvik.to_dask().data for _ in range(2))
    assert first.name == second.name
    assert dask.base.tokenize(data(image.lazy.max("z"))) == dask.base.tokenize(data(image.lazy.max("z")))
    assert dask.base.tokenize(data(image.lazy.max("z"))) != dask.base.tokenize(data(image.lazy.min("z")))


@pytest.mark.parametrize(
    "mix",
    [
        lambda a, b: a + b,
        lambda a, b: b - a,
        lambda a, b: a.where(b > 500),
        lambda a, b: b.where(a > 500),
        lambda a, b: a.where(a > 500, b),
        lambda a, b: np.maximum(a, b),
        lambda a, b: a.astype("float64").dot(b.astype("float64"), dim="z"),
        lambda a, b: (a + b).max("z") + a.min("z"),
        lambda a, b: xr.concat([a + b, a], dim="kind"),
        lambda a, b: xr.Dataset({"v": a + b, "w": a}).to_dataarray("kind"),
    ],
)
def test_plain_dask_arrays_mix_with_ours(mix: Callable[[Any, Any], Any], image: Any) -> None:
    other = image.plain.chunk(z=4)
    result = mix(image.lazy, other)
    assert image.reader.reads == 0
    xr.testing.assert_allclose(result.compute(), mix(image.plain, image.plain))


def test_a_dataset_that_mixes_ours_with_plain_dask_is_chunked_first(image: Any) -> None:
    dataset = xr.Dataset({"v": image.lazy, "w": image.plain.chunk()})
    xr.testing.assert_identical(dataset.chunk().compute()["v"].variable, image.plain.variable)


def test_several_variables_are_computed_together(image: Any) -> None:
    dataset = xr.Dataset(
        {"v": image.lazy, "w": image.lazy.astype("float64").cumsum("z"), "u": image.lazy.max("z")}
    )
    found = dataset.compute()
    np.testing.assert_array_equal(found["w"], image.plain.astype("float64").cumsum("z"))
    np.testing.assert_array_equal(found["u"], image.plain.max("z"))


def test_stored_zarr_equals_the_pixels(image: Any, tmp_path: Any) -> None:
    array = image.lazy.drop_attrs()
    array.to_dataset(name="v").to_zarr(tmp_path / "a.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "a.zarr", consolidated=False) as found:
        np.testing.assert_array_equal(found["v"], image.plain)
    delayed = array.to_dataset(name="v").to_zarr(tmp_path / "b.zarr", consolidated=False, compute=False)
    reads = image.reader.reads
    delayed.compute()
    assert image.reader.reads > reads


def test_evaluation_can_be_given_to_dask(image: Any) -> None:
    with set_options(evaluate="dask"):
        np.testing.assert_array_equal(image.lazy.max("z").compute(), image.plain.max("z"))
        assert image.lazy.larvik.explain().where == "dask"
        np.testing.assert_array_equal((image.lazy + 1).isel(t=0).values, image.plain[0] + 1)


def test_arrays_of_two_connections_meet_in_dask(make_image: Any, image: Any) -> None:
    other = make_image(image.reader.values, (1, 1, 8, 12, 10), url="other:")
    total = image.lazy + other.lazy.data
    assert data(total).expression is None
    np.testing.assert_array_equal(total.compute(), image.plain + image.plain)


def test_chunk_and_fall_back_without_dask_name_the_extra() -> None:
    code = """
        import sys
        sys.modules["dask"] = None
        import numpy as np, xarray as xr
        from larvik.array.expression import Constant
        from larvik.array.lazy import LazyArray
        from larvik.array.local import MEMORY
        from larvik.errors import UnsupportedError
        a = xr.DataArray(LazyArray(Constant(np.arange(12.0).reshape(3, 4)), MEMORY), dims=("y", "x"))
        assert ((a - a.mean("y")).max().compute() == 4), "recorded operations need no Dask"
        for act in (lambda: a.chunk(), lambda: a.median("x"), lambda: a.cumsum("x")):
            try:
                act()
            except UnsupportedError as error:
                assert "larvik[dask]" in str(error), error
            else:
                raise AssertionError("not refused")
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True)


def test_importing_the_lazy_array_does_not_import_dask() -> None:
    code = "import larvik.array.lazy, larvik.array.functions, sys; sys.exit('dask' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Pickles.


def test_a_pickle_is_small_and_finds_its_connection_by_url(
    image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def evaluator_for(url: str) -> Any:
        asked.append(url)
        return image.evaluator

    monkeypatch.setattr(larvik.connection, "evaluator_for", evaluator_for)
    array = image.lazy.sel(t=0, c=0).max(dim="z")
    stored = pickle.dumps(data(array))
    assert len(stored) < 1000
    again = pickle.loads(pickle.dumps(array))
    assert asked == []  # a worker that only passes it on needs no connection
    assert data(again).token == data(array).token
    xr.testing.assert_identical((again + 0).compute(), image.plain.isel(t=0, c=0).max("z"))
    assert asked == ["test:"]


def test_a_dask_graph_of_ours_can_be_pickled(image: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(larvik.connection, "evaluator_for", lambda url: image.evaluator)
    again = pickle.loads(pickle.dumps(image.lazy.max("z").larvik.to_dask()))
    np.testing.assert_array_equal(again.compute(), image.plain.max("z"))
    wrapped = pickle.loads(pickle.dumps(image.lazy.astype("float64").cumsum("z")))
    np.testing.assert_array_equal(wrapped.compute(), image.plain.astype("float64").cumsum("z"))


def test_values_in_memory_are_pickled_with_their_elements(image: Any) -> None:
    kept = image.lazy.max("z").persist()
    xr.testing.assert_identical(pickle.loads(pickle.dumps(kept)).compute(), image.plain.max("z"))


def test_a_position_outside_is_refused_when_it_is_recorded(image: Any) -> None:
    with pytest.raises(IndexError) as caught:
        image.lazy.isel(x=10)
    assert isinstance(caught.value, SelectionError)
    assert image.reader.reads == 0
