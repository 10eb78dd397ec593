"""Expressions travel unchanged; whatever else arrives is refused with the field that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from larvik.array.evaluate import compute
from larvik.array.expression import MAX_NODES, Constant, Expression, Source
from larvik.array.grids import grid_of
from larvik.array.planner import plan
from larvik.array.record import record
from larvik.array.spec import DTYPES
from larvik.errors import InvalidArgumentError, LarvikError, ResourceExhaustedError, SelectionError
from larvik.proto.v1 import array_pb2 as pb
from larvik.wire.expressions import decode_expressions, encode_expressions

ARRAY_ID = "0190b5a2-7d1c-7000-8000-000000000001"
STACK = Source(ARRAY_ID, 7, 1, (2, 8, 30, 40), "uint16", (1, 4, 16, 16))


def select(*selection: Any) -> Expression:
    return record("select", [STACK], {"selection": selection})


def reduce(op: str, node: Expression, *axes: int, **more: Any) -> Expression:
    return record(op, [node], {"axes": axes, "keepdims": False, **more})


EXPRESSIONS: dict[str, Callable[[], Expression]] = {
    "source": lambda: STACK,
    "positions": lambda: select(0, -1 + 8, 29, 0),
    "slices": lambda: select(range(0, 2), range(7, -1, -1), range(1, 30, 3), range(0)),
    "lists": lambda: select(1, np.array([3, 3, 0]), range(30), np.array([], dtype=np.int64)),
    "all positions": lambda: select(0, 0, 0, 0),
    "max": lambda: reduce("max", STACK, 1),
    "argmax": lambda: reduce("argmax", STACK, 0, 1, 2, 3),
    "sum dtype": lambda: reduce("sum", STACK, 1, 3, dtype="float32"),
    "std ddof": lambda: reduce("nanstd", STACK, 2, ddof=1.0),
    "no axes": lambda: reduce("max", STACK),
    "weak": lambda: record("add", [record("multiply", [STACK, Constant(2)]), Constant(0.5)]),
    "weak bool": lambda: record("logical_and", [STACK, Constant(True)]),
    "weak nan": lambda: record(
        "where", [record("less", [STACK, Constant(3)]), STACK, Constant(float("nan"))]
    ),
    "big": lambda: record("add", [Constant(np.uint64(1)), Constant(2**64 - 1)]),
    "tensor": lambda: record("add", [STACK, Constant(np.arange(40, dtype="int32"))]),
    "big endian": lambda: Constant(np.arange(4, dtype=">u2")),
    "scalar tensor": lambda: record("maximum", [STACK, Constant(np.float32(3.5))]),
    "empty tensor": lambda: Constant(np.empty((0, 3), "float64")),
    "transpose": lambda: record("transpose", [STACK], {"axes": (3, 2, 1, 0)}),
    "reshape": lambda: record("reshape", [STACK], {"shape": (16, 30, 20, 2)}),
    "broadcast": lambda: record("broadcast_to", [STACK], {"shape": (3, 2, 8, 30, 40)}),
    "concatenate": lambda: record("concatenate", [STACK, STACK, STACK], {"axis": 3}),
    "points": lambda: record(
        "pointwise", [STACK], {"axes": (1, 2), "positions": np.array([0, 7, 3, 29]), "points": (2,), "at": 1}
    ),
    "one point": lambda: record(
        "pointwise", [STACK], {"axes": (1,), "positions": np.array([7]), "points": (), "at": 0}
    ),
    "cast": lambda: record("astype", [STACK], {"dtype": "float16"}),
    "round": lambda: record("round", [STACK], {"decimals": -2}),
    "isclose": lambda: record("isclose", [STACK, STACK], {"rtol": 1e-5, "atol": 0.0, "equal_nan": True}),
    "nan_to_num": lambda: record("nan_to_num", [STACK], {"nan": 0.0, "posinf": 5.0}),
    "clip": lambda: record("clip", [STACK, Constant(3), Constant(500)]),
    "shared": lambda: record("subtract", [reduce("max", STACK, 1), reduce("min", STACK, 1)]),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_arrives_as_it_was_sent(name: str) -> None:
    node = EXPRESSIONS[name]()
    message = pb.ArrayExpression.FromString(encode_expressions([node]).SerializeToString())
    (found,) = decode_expressions(message)
    assert found.token == node.token
    assert (found.shape, found.dtype) == (node.shape, node.dtype)
    assert encode_expressions([found]) == message


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_every_dtype_arrives_bit_by_bit(dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 2, (2, 3, 8), dtype="uint8")
    value = (
        values.astype(bool)
        if dtype == "bool"
        else np.frombuffer(values.tobytes() * 8, dtype)[:6].reshape(2, 3)
    )
    (found,) = decode_expressions(encode_expressions([Constant(value)]))
    assert isinstance(found, Constant)
    assert isinstance(found.value, np.ndarray)
    assert found.value.tobytes() == np.ascontiguousarray(value).tobytes()
    assert not found.value.flags.writeable


def test_what_is_shared_is_sent_once_and_several_results_arrive_in_order() -> None:
    first, second = reduce("max", STACK, 1), reduce("min", STACK, 1)
    message = encode_expressions([second, first, second])
    assert len(message.nodes) == 3
    found = decode_expressions(message)
    assert [node.token for node in found] == [second.token, first.token, second.token]
    assert found[0] is found[2]


def test_the_seed_expression_is_small() -> None:
    node = reduce("max", select(0, range(8), range(30), range(40)), 0)
    assert len(encode_expressions([node]).SerializeToString()) < 200


def message_of(node: Expression) -> pb.ArrayExpression:
    return encode_expressions([node])


def changed(name: str, change: Callable[[pb.ArrayExpression], object]) -> pb.ArrayExpression:
    message = message_of(EXPRESSIONS[name]())
    change(message)
    return message


def operation(message: pb.ArrayExpression) -> pb.OperationNode:
    return next(node.operation for node in message.nodes if node.HasField("operation"))


def parameter(message: pb.ArrayExpression, name: str) -> pb.Parameter:
    return operation(message).parameters[name]


MALFORMED: dict[str, tuple[Callable[[], pb.ArrayExpression], str]] = {
    "nothing": (pb.ArrayExpression, "results"),
    "no results": (lambda: changed("max", lambda m: m.ClearField("results")), "results"),
    "result too high": (lambda: changed("max", lambda m: m.results.append(2)), "results[1]"),
    "too many results": (lambda: changed("max", lambda m: m.results.extend([0] * 64)), "results"),
    "empty node": (lambda: changed("max", lambda m: m.nodes.add()), "nodes[2]"),
    "forward input": (
        lambda: changed("max", lambda m: operation(m).inputs.append(1)),
        "nodes[1].operation.inputs[1]",
    ),
    "unknown op": (lambda: changed("max", lambda m: setattr(operation(m), "op", "exec")), "nodes[1].op"),
    "no op": (lambda: changed("max", lambda m: operation(m).ClearField("op")), "nodes[1].op"),
    "no inputs": (lambda: changed("max", lambda m: operation(m).ClearField("inputs")), "nodes[1].inputs"),
    "two inputs": (lambda: changed("max", lambda m: operation(m).inputs.append(0)), "nodes[1].inputs"),
    "missing parameter": (
        lambda: changed("max", lambda m: operation(m).parameters.pop("axes")),
        "nodes[1].axes",
    ),
    "empty parameter": (
        lambda: changed("max", lambda m: parameter(m, "axes").Clear()),
        "nodes[1].operation.parameters['axes']",
    ),
    "unknown parameter": (
        lambda: changed("max", lambda m: setattr(parameter(m, "where"), "bool_value", True)),
        "nodes[1].where",
    ),
    "wrong kind": (
        lambda: changed("max", lambda m: setattr(parameter(m, "axes"), "bool_value", True)),
        "nodes[1].axes",
    ),
    "number for bool": (
        lambda: changed("max", lambda m: setattr(parameter(m, "keepdims"), "int64_value", 1)),
        "nodes[1].keepdims",
    ),
    "axis too high": (
        lambda: changed("max", lambda m: parameter(m, "axes").int64_list.values.append(9)),
        "nodes[1].inputs",
    ),
    "huge axis": (
        lambda: changed("max", lambda m: parameter(m, "axes").int64_list.values.append(2**62)),
        "nodes[1].operation.parameters['axes']",
    ),
    "many axes": (
        lambda: changed("max", lambda m: parameter(m, "axes").int64_list.values.extend(range(40))),
        "nodes[1].operation.parameters['axes']",
    ),
    "selection for axes": (
        lambda: changed(
            "max", lambda m: parameter(m, "axes").selection.axes.add(slice=pb.Slice(count=1, step=1))
        ),
        "nodes[1].axes",
    ),
    "unknown dtype": (
        lambda: changed("cast", lambda m: setattr(parameter(m, "dtype"), "string_value", "object")),
        "nodes[1].dtype",
    ),
    "long text": (
        lambda: changed("cast", lambda m: setattr(parameter(m, "dtype"), "string_value", "x" * 10**6)),
        "nodes[1].operation.parameters['dtype']",
    ),
    "step zero": (
        lambda: changed(
            "slices", lambda m: setattr(parameter(m, "selection").selection.axes[1].slice, "step", 0)
        ),
        "nodes[1].operation.parameters['selection'].axes[1]",
    ),
    "huge slice": (
        lambda: changed(
            "slices", lambda m: setattr(parameter(m, "selection").selection.axes[1].slice, "count", 2**63)
        ),
        "nodes[1].operation.parameters['selection'].axes[1]",
    ),
    "empty axis": (
        lambda: changed("slices", lambda m: parameter(m, "selection").selection.axes[1].Clear()),
        "nodes[1].operation.parameters['selection'].axes[1]",
    ),
    "too few axes": (
        lambda: changed("slices", lambda m: parameter(m, "selection").selection.axes.pop()),
        "nodes[1].inputs",
    ),
    "huge reshape": (
        lambda: changed("reshape", lambda m: parameter(m, "shape").int64_list.values.extend([2**39] * 5)),
        "nodes[1].inputs",
    ),
    "huge broadcast": (
        lambda: changed("broadcast", lambda m: parameter(m, "shape").int64_list.values.insert(0, 2**39)),
        "nodes[1].shape",
    ),
    "source id": (
        lambda: changed("source", lambda m: setattr(m.nodes[0].source, "array_id", "../etc")),
        "nodes[0].nodes[0].source.array_id",
    ),
    "source dtype": (
        lambda: changed("source", lambda m: setattr(m.nodes[0].source, "dtype", "O")),
        "nodes[0].source.dtype",
    ),
    "source chunks": (
        lambda: changed("source", lambda m: m.nodes[0].source.chunks.pop()),
        "nodes[0].source.chunks",
    ),
    "chunks of zero": (
        lambda: changed("source", lambda m: m.nodes[0].source.chunks.__setitem__(0, 0)),
        "nodes[0].source.chunks",
    ),
    "too many chunks": (
        lambda: changed("source", lambda m: m.nodes[0].source.shape.__setitem__(0, 2**39)),
        "nodes[0].source.chunks",
    ),
    "too many dims": (
        lambda: changed("source", lambda m: m.nodes[0].source.shape.extend([1] * 40)),
        "nodes[0].source.shape",
    ),
    "huge version": (
        lambda: changed("source", lambda m: setattr(m.nodes[0].source, "version", 2**63)),
        "nodes[0].source.version",
    ),
    "empty constant": (
        lambda: changed("weak bool", lambda m: m.nodes[1].constant.ClearField("bool_value")),
        "nodes[1].constant",
    ),
    "tensor data": (
        lambda: changed("big endian", lambda m: setattr(m.nodes[0].constant.tensor, "data", b"123")),
        "nodes[0].constant.tensor.data",
    ),
    "tensor shape": (
        lambda: changed("big endian", lambda m: m.nodes[0].constant.tensor.shape.extend([2**39] * 20)),
        "nodes[0].constant.tensor.data",
    ),
    "tensor dtype": (
        lambda: changed("big endian", lambda m: setattr(m.nodes[0].constant.tensor, "dtype", "M8[s]")),
        "nodes[0].constant.tensor.dtype",
    ),
    "point outside the count": (
        lambda: changed("points", lambda m: parameter(m, "positions").int64_list.values.append(1)),
        "nodes[1].inputs",
    ),
    "cannot be combined": (
        lambda: changed("concatenate", lambda m: setattr(parameter(m, "axis"), "int64_value", 4)),
        "nodes[1].inputs",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_message_is_refused_with_the_field_that_is_wrong(name: str) -> None:
    build, field = MALFORMED[name]
    with pytest.raises(InvalidArgumentError) as caught:
        decode_expressions(build())
    assert caught.value.reason == "EXPRESSION_INVALID"
    assert caught.value.metadata["field"] == f"expression.{field}"
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    "change",
    [
        lambda axes: setattr(axes[0], "position", 2),
        lambda axes: setattr(axes[0], "position", 2**63),
        lambda axes: axes[0].positions.values.append(-1),
        lambda axes: setattr(axes[1].slice, "count", 9),
        lambda axes: setattr(axes[2].slice, "start", 10),
    ],
)
def test_a_selection_outside_the_array_is_a_selection_error(change: Callable[[Any], object]) -> None:
    message = message_of(select(0, range(8), range(29, -1, -1), 0))
    change(message.nodes[1].operation.parameters["selection"].selection.axes)
    with pytest.raises(SelectionError) as caught:
        decode_expressions(message)
    assert caught.value.reason == "SELECTION_OUT_OF_BOUNDS"
    assert "nodes[1]" in str(caught.value)


def test_too_many_nodes_are_refused_on_both_sides() -> None:
    message = message_of(STACK)
    for _ in range(MAX_NODES):
        message.nodes.add().CopyFrom(message.nodes[0])
    with pytest.raises(InvalidArgumentError, match="at most 10000"):
        decode_expressions(message)
    rows = [record("select", [STACK], {"selection": (0, 0, 0, range(40))}) for _ in range(MAX_NODES - 1)]
    joined = record("concatenate", rows, {"axis": 0})
    with pytest.raises(ResourceExhaustedError, match="Compute a part"):
        encode_expressions([joined])


def test_a_chain_that_is_too_long_is_refused() -> None:
    message = message_of(record("negative", [STACK]))
    for number in range(1, 200):
        node = message.nodes.add().operation
        node.op = "negative"
        node.inputs.append(number)
    with pytest.raises(ResourceExhaustedError, match="chain"):
        decode_expressions(message)


def test_a_graph_that_doubles_at_every_node_is_decoded_and_planned_at_once() -> None:
    node: Expression = select(0, 0, 0, range(40))
    for _ in range(30):
        node = record("concatenate", [node, node], {"axis": 0})
    (found,) = decode_expressions(message_of(node))
    assert found.shape == (40 * 2**30,)
    assert plan(found, remote=True).bytes_result == 80 * 2**30


@given(st.binary(max_size=400))
def test_any_bytes_give_an_expression_or_a_typed_error(raw: bytes) -> None:
    try:
        message = pb.ArrayExpression.FromString(raw)
    except DecodeError:
        return
    _decode_or_refuse(message)


@given(
    name=st.sampled_from(list(EXPRESSIONS)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_message_with_changed_bytes_gives_an_expression_or_a_typed_error(
    name: str, edits: list[tuple[int, int]]
) -> None:
    raw = bytearray(message_of(EXPRESSIONS[name]()).SerializeToString())
    for position, value in edits:
        raw[position % len(raw)] = value
    try:
        message = pb.ArrayExpression.FromString(bytes(raw))
    except DecodeError:
        return
    _decode_or_refuse(message)


numbers = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 40)


@given(
    data=st.data(),
    name=st.sampled_from([name for name in EXPRESSIONS if name not in ("source", "big endian")]),
)
def test_wild_parameters_give_an_expression_or_a_typed_error(data: st.DataObject, name: str) -> None:
    message = message_of(EXPRESSIONS[name]())
    for node in message.nodes:
        for key in list(node.operation.parameters) if node.HasField("operation") else ():
            kind = data.draw(
                st.sampled_from(["keep", "int64_value", "float64_value", "int64_list", "selection"])
            )
            target = node.operation.parameters[key]
            if kind == "int64_value":
                target.int64_value = data.draw(numbers)
            elif kind == "float64_value":
                target.float64_value = data.draw(st.floats())
            elif kind == "int64_list":
                target.int64_list.values[:] = data.draw(st.lists(numbers, max_size=8))
            elif kind == "selection":
                target.selection.axes.add(position=data.draw(st.integers(0, 2**64 - 1)))
    _decode_or_refuse(message)


def _decode_or_refuse(message: pb.ArrayExpression) -> None:
    try:
        found = decode_expressions(message)
    except (InvalidArgumentError, ResourceExhaustedError):
        return
    for node in found:
        plan(node, remote=True)
        assert len(grid_of(node)) == node.ndim
        if node.nbytes < 2**24 and plan(node, remote=True).bytes_source < 2**24:
            _compute_or_refuse(node)


class Zeros:
    def __init__(self, source: Source) -> None:
        self.shape, self.dtype, self.chunks = source.shape, source.dtype, source.chunks

    def read(self, selection: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        shape = [len(range(*item.indices(size))) for item, size in zip(selection, self.shape, strict=True)]
        block = np.zeros(shape, self.dtype)
        if out is None:
            return block
        out[...] = block
        return out


def _compute_or_refuse(node: Expression) -> None:
    try:
        (value,) = compute([node], Zeros)
    except LarvikError:
        return
    assert (value.shape, value.dtype) == (node.shape, node.dtype)
