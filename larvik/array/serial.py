"""Expressions as plain values (dicts, lists, numbers, bytes) and back: what a pickle holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from larvik.array.expression import (
    MAX_NODES,
    Constant,
    Expression,
    Operation,
    Parameter,
    Selector,
    Source,
    as_dtype,
    invalid,
    walk,
)
from larvik.array.record import record
from larvik.errors import LarvikError


def to_dict(expressions: Sequence[Expression]) -> dict[str, Any]:
    """Return ``{"nodes": [...], "results": [...]}``: nodes in topological order, inputs by index.

    Notes
    -----
    Levels beside a source are left out, since they do not belong to what is computed.
    """
    order = walk(expressions)
    index = {id(node): number for number, node in enumerate(order)}
    return {
        "nodes": [_node_to_dict(node, index) for node in order],
        "results": [index[id(node)] for node in expressions],
    }


def from_dict(value: Mapping[str, Any]) -> list[Expression]:
    """Return the expressions of `to_dict`, checked again.

    Raises
    ------
    InvalidArgumentError
        ``EXPRESSION_INVALID``, naming the node and what is wrong with it.
    """
    nodes: list[Expression] = []
    try:
        if len(value["nodes"]) > MAX_NODES:
            raise invalid(f"has more than {MAX_NODES} nodes", "nodes")
        for item in value["nodes"]:
            nodes.append(_node_from_dict(item, nodes))
        return [nodes[number] for number in value["results"]]
    except LarvikError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, ValueError) as error:
        raise invalid(f"is malformed at node {len(nodes)}", f"nodes[{len(nodes)}]") from error


def _node_to_dict(node: Expression, index: Mapping[int, int]) -> dict[str, Any]:
    if isinstance(node, Source):
        return {
            "source": (node.array_id, node.version, node.level, node.shape, node.dtype.name, node.chunks),
        }
    if isinstance(node, Constant):
        if not isinstance(node.value, np.ndarray):
            return {"weak": node.value}
        return {"constant": (node.shape, node.dtype.name, node.value.tobytes())}
    assert isinstance(node, Operation)
    parameters = {name: _plain(value) for name, value in node.parameters.items()}
    return {"op": node.op, "inputs": [index[id(item)] for item in node.inputs], "parameters": parameters}


def _plain(value: Parameter) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple) and any(isinstance(item, range | np.ndarray) for item in value):
        return {"selection": [_plain_selector(item) for item in value]}
    return list(value) if isinstance(value, tuple) else value


def _plain_selector(item: Selector) -> Any:
    if isinstance(item, range):
        return (item.start, len(item), item.step)
    return item.tolist() if isinstance(item, np.ndarray) else item


def _node_from_dict(item: Mapping[str, Any], nodes: Sequence[Expression]) -> Expression:
    if "source" in item:
        return Source(*item["source"])
    if "weak" in item:
        return Constant(item["weak"])
    if "constant" in item:
        shape, dtype, data = item["constant"]
        return Constant(np.frombuffer(data, as_dtype(dtype)).reshape(shape), owned=True)
    parameters = {name: _unplain(value) for name, value in item["parameters"].items()}
    return record(item["op"], [nodes[number] for number in item["inputs"]], parameters)


def _unplain(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(selector(part) for part in value["selection"])
    if isinstance(value, list):
        return tuple(value)
    return value


def selector(item: Any) -> Selector:
    """Return the selector of one axis from its plain form: a position, (start, count, step), or a list."""
    if isinstance(item, int):
        return item
    if isinstance(item, tuple):
        start, count, step = item
        return range(start, start + count * step, step)
    return np.asarray(item, dtype=np.int64)
