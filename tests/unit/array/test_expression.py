"""Expressions: what they know without reading, what they refuse, how they are told apart and written down."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

import numpy as np
import pytest

from larvik.array.evaluate import compute
from larvik.array.expression import MAX_DEPTH, Constant, Expression, Source, sources, walk
from larvik.array.grids import grid_of
from larvik.array.operators import OPERATORS
from larvik.array.operators.elementwise import BINARY, UNARY
from larvik.array.operators.reduction import Reduction
from larvik.array.record import record
from larvik.array.serial import from_dict, to_dict
from larvik.array.spec import DTYPES
from larvik.errors import InvalidArgumentError, ResourceExhaustedError, SelectionError

ARRAY_ID = "0190b5a2-7d1c-7000-8000-000000000001"


def source(
    shape: tuple[int, ...] = (4, 6), dtype: str = "uint16", chunks: tuple[int, ...] = (2, 3)
) -> Source:
    return Source(ARRAY_ID, 1, 0, shape, dtype, chunks)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_the_dtype_of_a_ufunc_is_the_one_numpy_gives(name: str, dtype: str) -> None:
    ufunc = getattr(np, name)
    values = np.ones((2, 3), dtype)
    operands = [values] * ufunc.nin
    try:
        with np.errstate(all="ignore"):
            expected = ufunc(*operands)
    except TypeError:
        with pytest.raises(InvalidArgumentError, match="cannot take"):
            record(name, [Constant(item) for item in operands])
        return
    node = record(name, [Constant(item) for item in operands])
    assert node.dtype == expected.dtype
    assert node.shape == expected.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name, kind in OPERATORS.items() if isinstance(kind, Reduction)])
def test_the_dtype_of_a_reduction_is_the_one_numpy_gives(name: str, dtype: str) -> None:
    kind = OPERATORS[name]
    assert isinstance(kind, Reduction)
    parameters = {"axes": (1,), "keepdims": False, **({"ddof": 1.0} if kind.has_ddof else {})}
    expected = getattr(np, name)(np.ones((2, 3), dtype), axis=1)
    node = record(name, [source((2, 3), dtype)], parameters)
    assert node.dtype == expected.dtype
    assert node.shape == (2,)


def test_python_scalars_take_the_dtype_of_what_they_meet() -> None:
    assert record("add", [source(), Constant(1)]).dtype == np.uint16
    assert record("add", [source(), Constant(1.0)]).dtype == np.float64
    assert record("add", [source(dtype="float32"), Constant(1.0)]).dtype == np.float32
    assert record("add", [source(), Constant(np.int64(1))]).dtype == np.int64


def test_a_scalar_that_does_not_fit_the_dtype_is_refused_when_it_is_recorded() -> None:
    with pytest.raises(InvalidArgumentError, match="out of bounds"):
        record("add", [source(dtype="uint8"), Constant(300)])


@pytest.mark.parametrize(
    ("op", "inputs", "parameters", "field"),
    [
        ("eval", 1, {}, "op"),
        ("add", 1, {}, "inputs"),
        ("add", 3, {}, "inputs"),
        ("max", 1, {"axes": (0,)}, "keepdims"),
        ("max", 1, {"axes": (0,), "keepdims": 1}, "keepdims"),
        ("max", 1, {"axes": (2,), "keepdims": False}, "inputs"),
        ("max", 1, {"axes": (1, 0), "keepdims": False}, "inputs"),
        ("max", 1, {"axes": (0, 0), "keepdims": False}, "inputs"),
        ("max", 1, {"axes": (range(3),), "keepdims": False}, "axes"),
        ("max", 1, {"axes": (0,), "keepdims": False, "where": True}, "where"),
        ("astype", 1, {"dtype": "object"}, "dtype"),
        ("astype", 1, {"dtype": 5}, "dtype"),
        ("reshape", 1, {"shape": (5, 5)}, "inputs"),
        ("reshape", 1, {"shape": (-24, -1)}, "inputs"),
        ("transpose", 1, {"axes": (0, 0)}, "inputs"),
        ("broadcast_to", 1, {"shape": (3,)}, "inputs"),
        ("broadcast_to", 1, {"shape": (2**40, 2**40, 4, 6)}, "inputs"),
        ("broadcast_to", 1, {"shape": (2**48, 4, 6)}, "shape"),
        ("concatenate", 2, {"axis": 2}, "inputs"),
        ("round", 1, {"decimals": 1.5}, "decimals"),
        ("pointwise", 1, {"axes": (0,), "positions": (0, 1), "points": (3,), "at": 0}, "inputs"),
    ],
)
def test_a_malformed_operation_is_refused_with_the_field_that_is_wrong(
    op: str, inputs: int, parameters: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        record(op, [source()] * inputs, parameters)
    assert caught.value.metadata["field"] == field
    assert caught.value.reason in ("EXPRESSION_INVALID", "DTYPE_UNSUPPORTED")


def test_an_unknown_operation_suggests_the_nearest() -> None:
    with pytest.raises(InvalidArgumentError, match="Did you mean 'floor_divide'"):
        record("floordivide", [source(), source()])


@pytest.mark.parametrize("selector", [4, -1, range(2, 5), range(3, -2, -1), np.array([0, 4]), np.array([-1])])
def test_a_selection_outside_the_array_is_refused_when_it_is_recorded(selector: object) -> None:
    with pytest.raises(SelectionError) as caught:
        record("select", [source()], {"selection": (selector, 0)})
    assert caught.value.reason == "SELECTION_OUT_OF_BOUNDS"
    assert isinstance(caught.value, IndexError)


def test_the_maximum_of_nothing_is_refused_and_its_sum_is_not() -> None:
    empty = record("select", [source()], {"selection": (range(0), range(6))})
    with pytest.raises(InvalidArgumentError, match="no elements"):
        record("max", [empty], {"axes": (0,), "keepdims": False})
    assert record("sum", [empty], {"axes": (0,), "keepdims": False}).shape == (6,)


def test_a_chain_that_is_too_long_is_refused_with_the_cure() -> None:
    node: Expression = source()
    for _ in range(MAX_DEPTH - 1):
        node = record("negative", [node])
    with pytest.raises(ResourceExhaustedError, match="Compute a part"):
        record("negative", [node])


def test_equal_recordings_have_equal_tokens_and_different_ones_do_not() -> None:
    def build(axis: int = 0, version: int = 1, scalar: float = 1.0, position: int = 2) -> str:
        leaf = Source(ARRAY_ID, version, 0, (4, 6), "uint16", (2, 3))
        part = record("select", [leaf], {"selection": (range(4), range(position, 6))})
        least = record("max", [part], {"axes": (axis,), "keepdims": True})
        return record("multiply", [record("subtract", [part, least]), Constant(scalar)]).token

    assert build() == build()
    assert len({build(), build(axis=1), build(version=2), build(scalar=2.0), build(position=1)}) == 5


def test_tokens_are_equal_in_another_process() -> None:
    code = (
        "from larvik.array.expression import Source, Constant\n"
        "from larvik.array.record import record\n"
        f"leaf = Source({ARRAY_ID!r}, 1, 0, (4, 6), 'uint16', (2, 3))\n"
        "print(record('add', [leaf, Constant(1)]).token)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == record("add", [source(), Constant(1)]).token


def test_a_constant_keeps_its_value_when_the_caller_changes_his() -> None:
    values = np.arange(6.0)
    constant = Constant(values)
    token = constant.token
    values[0] = 100
    assert isinstance(constant.value, np.ndarray)
    assert constant.value[0] == 0
    assert Constant(np.arange(6.0)).token == token
    with pytest.raises(ValueError, match="read-only"):
        constant.value[0] = 1


def test_walking_gives_every_node_once_and_inputs_first() -> None:
    leaf = source()
    shared = record("negative", [leaf])
    root = record("add", [record("square", [shared]), shared])
    order = walk([root, shared])
    assert len(order) == len(set(map(id, order))) == 4
    for node in order:
        assert all(order.index(item) < order.index(node) for item in node.inputs)
    assert sources([root]) == [leaf]


def test_expressions_come_back_from_their_plain_form() -> None:
    leaf = source()
    selection = (range(3, -1, -1), np.array([5, 0, 5]))
    picked = record("select", [leaf], {"selection": selection})
    points = record(
        "pointwise",
        [leaf],
        {"axes": (0, 1), "positions": np.array([0, 3, 5, 1]), "points": (2,), "at": 0},
    )
    root = record(
        "add", [record("sum", [picked], {"axes": (0,), "keepdims": False, "dtype": "int64"}), Constant(2)]
    )
    scaled = record("multiply", [points, Constant(np.array([0.5, np.nan]))])
    plain = to_dict([root, scaled])
    json.dumps(plain, default=lambda value: value.hex())  # nothing but plain values and bytes
    again = from_dict(pickle.loads(pickle.dumps(plain)))
    assert [node.token for node in again] == [root.token, scaled.token]
    assert len(sources(again)) == 1


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"nodes": [{}], "results": [0]},
        {"nodes": [{"op": "add", "inputs": [0], "parameters": {}}], "results": [0]},
        {"nodes": [{"constant": ((2,), "uint16", b"123")}], "results": [0]},
        {"nodes": [{"weak": 1}], "results": [1]},
        {"nodes": [{"source": (1,)}], "results": [0]},
    ],
)
def test_a_malformed_plain_form_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        from_dict(plain)
    assert caught.value.reason == "EXPRESSION_INVALID"


def test_whole_numbers_beyond_64_bits_are_refused() -> None:
    assert Constant(2**64 - 1).dtype == np.uint64
    with pytest.raises(InvalidArgumentError, match="64 bits"):
        Constant(2**64)


def test_a_token_tells_apart_what_is_written_with_the_same_digits() -> None:
    flat = source((44,), chunks=(44,))
    shapes = [record("reshape", [flat], {"shape": shape}).token for shape in ((2, 22), (22, 2))]
    assert shapes[0] != shapes[1]
    square = source((4, 4), chunks=(4, 4))
    selections = (
        (np.array([0, 3]), np.array([0, 1, 3])),
        (np.array([0, 3, 0]), np.array([1, 3])),
    )
    outer = [record("select", [square], {"selection": selection}).token for selection in selections]
    assert outer[0] != outer[1]


def test_a_power_of_python_numbers_is_a_fixed_size_number() -> None:
    node = record("pow", [Constant(7), Constant(10**7)])
    assert node.dtype == "int64"
    assert compute([node], _nothing)[0].shape == ()


@pytest.mark.parametrize("decimals", [-(2**31), -1001, 1001, 2**31 - 1])
def test_rounding_to_decimals_that_no_number_has_is_refused(decimals: int) -> None:
    with pytest.raises(InvalidArgumentError, match="decimals") as caught:
        record("round", [source()], {"decimals": decimals})
    assert caught.value.reason == "EXPRESSION_INVALID"


def test_values_that_numpy_refuses_are_an_error_of_ours() -> None:
    power = record("power", [Constant(np.array([2, 3])), Constant(np.array([1, -1]))])
    with pytest.raises(InvalidArgumentError, match="negative integer powers") as caught:
        compute([power], _nothing)
    assert caught.value.reason == "OPERATION_INVALID"


def _joins_of_joins() -> Expression:
    node: Expression = Constant(np.ones(1, "uint8"))
    for _ in range(45):
        node = record("concatenate", [node, node], {"axis": 0})
    return node


def _every_other() -> Expression:
    many = record("broadcast_to", [Constant(np.uint8(1))], {"shape": (2**45,)})
    return record("select", [many], {"selection": (range(0, 2**45, 2),)})


def _no_points() -> Expression:
    empty = Constant(np.ones((0, 1)))
    parameters = {"axes": (0,), "positions": (), "points": (0, 2**45), "at": 0}
    return record("pointwise", [empty], parameters)


@pytest.mark.parametrize("make", [_joins_of_joins, _every_other, _no_points])
def test_the_chunks_of_a_small_expression_are_not_too_many_to_list(make: Callable[[], Expression]) -> None:
    node = make()
    grid = grid_of(node)
    assert tuple(sum(sizes) for sizes in grid) == node.shape
    assert max(len(sizes) for sizes in grid) <= 2**20


def _nothing(source: Source) -> NoReturn:
    raise AssertionError("nothing is stored")
