"""`Expression` graphs as one message, both ways. What arrives is checked node by node before it is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from larvik.array.expression import (
    DTYPE_OBJECTS,
    MAX_DIMS,
    MAX_ELEMENTS,
    MAX_NODES,
    Constant,
    Expression,
    Operation,
    Selector,
    Source,
    walk,
)
from larvik.array.record import record
from larvik.errors import InvalidArgumentError, LarvikError, ResourceExhaustedError, SelectionError
from larvik.ids import parse_id
from larvik.proto.v1 import array_pb2

#: Most results of one message.
MAX_RESULTS = 64
#: Most chunks along one axis that a source may claim.
MAX_CHUNKS = 2**24
#: Most elements of all nodes' positions together.
MAX_POSITIONS = 2**24
#: Longest dim that a node may have.
MAX_LENGTH = 2**40


def encode_expressions(expressions: Sequence[Expression]) -> array_pb2.ArrayExpression:
    """Return the message of expressions; what they share is in it once.

    Raises
    ------
    ResourceExhaustedError
        ``LIMIT_EXCEEDED``, for more nodes than a server takes.
    """
    order = walk(expressions)
    if len(order) > MAX_NODES:
        raise ResourceExhaustedError(
            f"The expression has {len(order):,} nodes, and a server takes {MAX_NODES:,}. "
            "Compute a part of it first.",
            field="expression",
        )
    index = {id(node): number for number, node in enumerate(order)}
    message = array_pb2.ArrayExpression(results=[index[id(node)] for node in expressions])
    for node in order:
        target = message.nodes.add()
        if isinstance(node, Source):
            target.source.array_id = node.array_id
            target.source.version = node.version
            target.source.level = node.level
            target.source.shape.extend(node.shape)
            target.source.dtype = node.dtype.name
            target.source.chunks.extend(node.chunks)
        elif isinstance(node, Constant):
            _write_constant(target.constant, node)
        else:
            assert isinstance(node, Operation)
            target.operation.op = node.op
            target.operation.inputs.extend(index[id(item)] for item in node.inputs)
            for name, value in node.parameters.items():
                _write_parameter(target.operation.parameters[name], value)
    return message


def _write_constant(message: array_pb2.ConstantNode, node: Constant) -> None:
    value = node.value
    if isinstance(value, np.ndarray):
        message.tensor.shape.extend(value.shape)
        message.tensor.dtype = value.dtype.name
        message.tensor.data = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, float):
        message.float64_value = value
    elif value < 2**63:
        message.int64_value = value
    else:
        message.uint64_value = value


def _write_parameter(message: array_pb2.Parameter, value: Any) -> None:
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int64_value = value
    elif isinstance(value, float):
        message.float64_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, tuple) and any(isinstance(item, range | np.ndarray) for item in value):
        _write_selection(message.selection, value)
    else:
        message.int64_list.SetInParent()
        message.int64_list.values.extend(value.tolist() if isinstance(value, np.ndarray) else value)


def _write_selection(message: array_pb2.Selection, selection: Sequence[Selector]) -> None:
    message.SetInParent()
    for item in selection:
        axis = message.axes.add()
        if isinstance(item, int):
            axis.position = item
        elif isinstance(item, range):
            axis.slice.start, axis.slice.count, axis.slice.step = item.start, len(item), item.step
        else:
            axis.positions.SetInParent()
            axis.positions.values.extend(item.tolist())


def decode_expressions(message: array_pb2.ArrayExpression) -> list[Expression]:
    """Return the expressions of a message.

    Raises
    ------
    InvalidArgumentError
        ``EXPRESSION_INVALID``: no result, an input that is not an earlier node, an unknown operation, wrong
        parameters, operands that NumPy refuses, too many nodes, dims or elements; ``metadata["field"]`` names
        the node and what is wrong with it. What sources claim is checked by who knows the arrays.
    SelectionError
        ``SELECTION_OUT_OF_BOUNDS``, likewise.
    ResourceExhaustedError
        ``LIMIT_EXCEEDED``, for a chain of operations that is too long.
    """
    if len(message.nodes) > MAX_NODES:
        raise _refused(f"has {len(message.nodes)} nodes; at most {MAX_NODES} fit", "nodes")
    if not 1 <= len(message.results) <= MAX_RESULTS:
        raise _refused(f"asks for {len(message.results)} results; it takes 1 to {MAX_RESULTS}", "results")
    decoder = _Decoder()
    nodes: list[Expression] = []
    for number, item in enumerate(message.nodes):
        nodes.append(decoder.node(item, nodes, f"nodes[{number}]"))
    return [_earlier(nodes, number, f"results[{place}]") for place, number in enumerate(message.results)]


class _Decoder:
    """Decodes the nodes of one message, and counts what they hold together."""

    def __init__(self) -> None:
        self._positions = 0

    def node(self, message: array_pb2.ExpressionNode, nodes: Sequence[Expression], field: str) -> Expression:
        kind = message.WhichOneof("kind")
        if kind is None:
            raise _refused("is empty: a node is a source, a constant or an operation", field)
        try:
            if kind == "source":
                return _source(message.source, f"{field}.source")
            if kind == "constant":
                return _constant(message.constant, f"{field}.constant")
            return self._operation(message.operation, nodes, f"{field}.operation")
        except SelectionError as error:
            raise _placed(error, SelectionError, field) from None
        except ResourceExhaustedError as error:
            raise _placed(error, ResourceExhaustedError, field) from None
        except InvalidArgumentError as error:
            raise _placed(error, InvalidArgumentError, field, "EXPRESSION_INVALID") from None

    def _operation(
        self, message: array_pb2.OperationNode, nodes: Sequence[Expression], field: str
    ) -> Expression:
        inputs = [
            _earlier(nodes, number, f"{field}.inputs[{place}]") for place, number in enumerate(message.inputs)
        ]
        parameters = {
            name: self._parameter(value, name, f"{field}.parameters[{name[:80]!r}]")
            for name, value in message.parameters.items()
        }
        return record(message.op, inputs, parameters)

    def _parameter(self, message: array_pb2.Parameter, name: str, field: str) -> Any:
        kind = message.WhichOneof("kind")
        if kind is None:
            raise _refused("is empty", field)
        if kind == "int64_list":
            self._count(len(message.int64_list.values), field)
            values = message.int64_list.values
            return np.array(values, dtype=np.int64) if name == "positions" else _sizes(values, field)
        if kind == "selection":
            if len(message.selection.axes) > MAX_DIMS:
                raise _refused(f"has {len(message.selection.axes)} axes; at most {MAX_DIMS} fit", field)
            return tuple(
                self._selector(axis, f"{field}.axes[{number}]")
                for number, axis in enumerate(message.selection.axes)
            )
        value = getattr(message, kind)
        if kind == "string_value" and len(value) > 80:
            raise _refused("is too long", field)
        return value

    def _selector(self, message: array_pb2.AxisSelection, field: str) -> Selector:
        kind = message.WhichOneof("kind")
        if kind == "position":
            return int(message.position)
        if kind == "positions":
            self._count(len(message.positions.values), field)
            return np.array(message.positions.values, dtype=np.int64)
        if kind == "slice":
            return _slice(message.slice, field)
        raise _refused("is empty: it takes position, slice or positions", field)

    def _count(self, count: int, field: str) -> None:
        self._positions += count
        if self._positions > MAX_POSITIONS:
            raise _refused(f"brings the positions of the expression above {MAX_POSITIONS}", field)


def _slice(message: array_pb2.Slice, field: str) -> range:
    start, count, step = message.start, message.count, message.step
    if step == 0:
        raise _refused("has the step 0", field)
    if start > MAX_LENGTH or count > MAX_LENGTH or abs(step) > MAX_LENGTH:
        raise _refused("lies outside every array", field)
    if count <= 1:
        return range(start, start + 1) if count else range(0)
    return range(start, start + (count - 1) * step + (1 if step > 0 else -1), step)


def _sizes(values: Sequence[int], field: str) -> tuple[int, ...]:
    if len(values) > MAX_DIMS:
        raise _refused(f"has {len(values)} numbers; at most {MAX_DIMS} fit", field)
    if any(abs(value) > MAX_LENGTH for value in values):
        raise _refused("holds a number that is too large", field)
    return tuple(int(value) for value in values)


def _source(message: array_pb2.SourceNode, field: str) -> Source:
    shape = _sizes(message.shape, f"{field}.shape")
    chunks = _sizes(message.chunks, f"{field}.chunks")
    if len(shape) != len(chunks) or any(chunk < 1 for chunk in chunks):
        raise _refused(f"takes {len(shape)} lengths of at least 1, one for each dim", f"{field}.chunks")
    if any(size // chunk > MAX_CHUNKS for size, chunk in zip(shape, chunks, strict=True)):
        raise _refused("has too many chunks along one dim", f"{field}.chunks")
    if message.version >= 2**63:
        raise _refused("does not fit 63 bits", f"{field}.version")
    array_id = parse_id(message.array_id, field=f"{field}.array_id")
    return Source(
        array_id, int(message.version), int(message.level), shape, _dtype(message.dtype, field), chunks
    )


def _constant(message: array_pb2.ConstantNode, field: str) -> Constant:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise _refused("is empty", field)
    if kind != "tensor":
        return Constant(getattr(message, kind))
    shape = _sizes(message.tensor.shape, f"{field}.tensor.shape")
    dtype = DTYPE_OBJECTS[_dtype(message.tensor.dtype, f"{field}.tensor")]
    data = message.tensor.data
    if math.prod(shape) > MAX_ELEMENTS or math.prod(shape) * dtype.itemsize != len(data):
        raise _refused(
            f"holds {len(data)} bytes, which are not {dtype.name} of shape {shape}", f"{field}.tensor.data"
        )
    if dtype.name == "bool":
        # A byte other than 0 and 1 is not a bool that NumPy computes with.
        return Constant(np.frombuffer(data, np.uint8).reshape(shape) != 0, owned=True)
    return Constant(np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape), owned=True)


def _dtype(name: str, field: str) -> str:
    if name not in DTYPE_OBJECTS:
        raise _refused(f"is {name[:80]!r}. There are: {', '.join(DTYPE_OBJECTS)}", f"{field}.dtype")
    return name


def _earlier(nodes: Sequence[Expression], number: int, field: str) -> Expression:
    if number >= len(nodes):
        raise _refused(f"is {number}, which is not the index of an earlier node", field)
    return nodes[number]


def _refused(problem: str, field: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"expression.{field} {problem}.", reason="EXPRESSION_INVALID", field=f"expression.{field}"
    )


def _placed(
    error: LarvikError, kind: type[LarvikError], field: str, reason: str | None = None
) -> LarvikError:
    """Return the error with the node that it is about."""
    inner = error.metadata.get("field", "")
    if inner.startswith("expression."):
        return error
    metadata = {**error.metadata, "field": f"expression.{field}" + (f".{inner}" if inner else "")}
    return kind(f"expression.{field}: {error.message}", reason=reason or error.reason, **metadata)
