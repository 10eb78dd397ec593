"""Recording: making checked nodes of the closed registry."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from larvik.array.expression import (
    MAX_DEPTH,
    Constant,
    Expression,
    Operation,
    Parameter,
    Selector,
    as_dtype,
    invalid,
)
from larvik.array.operators import OPERATORS, Operator
from larvik.errors import InvalidArgumentError, LarvikError, ResourceExhaustedError, suggestion

_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "whole numbers",
    list: "a selection",
}


def record(op: str, inputs: Iterable[Expression], parameters: Mapping[str, Any] | None = None) -> Operation:
    """Return the node that applies `op` to `inputs`.

    Parameters
    ----------
    op : str
        Name in `larvik.array.operators.OPERATORS`.
    inputs : iterable of Expression
        Its operands.
    parameters : mapping, optional
        What the operation takes beside; axes count from 0, selectors lie inside.

    Raises
    ------
    InvalidArgumentError
        ``EXPRESSION_INVALID``, for an unknown operation, wrong parameters, or operands that NumPy
        would refuse; ``metadata["field"]`` names which.
    SelectionError
        ``SELECTION_OUT_OF_BOUNDS``.
    ResourceExhaustedError
        ``LIMIT_EXCEEDED``, for a chain of more than 128 operations.
    """
    operands = tuple(inputs)
    operator = OPERATORS.get(op)
    if operator is None:
        raise invalid(
            f"names no operation {op[:80]!r}. {suggestion(op[:80], OPERATORS)}".removesuffix("."), "op"
        )
    if not operator.least <= len(operands) <= operator.most:
        expected = f"{operator.least}" if operator.least == operator.most else f"at least {operator.least}"
        raise invalid(f"gives {len(operands)} inputs to {op}, which takes {expected}", "inputs")
    checked = _checked(operator, parameters or {})
    if 1 + max(item.depth for item in operands) > MAX_DEPTH:
        raise ResourceExhaustedError(
            f"The expression is a chain of more than {MAX_DEPTH} operations. Compute a part of it first.",
            field="expression",
        )
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, dtype = operator.infer(operands, checked)
    except LarvikError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        what = ", ".join(_described(item) for item in operands)
        raise InvalidArgumentError(
            f"{op} cannot take {what}: {error}.", reason="EXPRESSION_INVALID", field="inputs"
        ) from None
    return Operation(op, operands, checked, shape, as_dtype(dtype))


def _described(item: Expression) -> str:
    if isinstance(item, Constant) and item.weak:
        return repr(item.value)
    return f"{item.dtype.name} of shape {item.shape}"


def _checked(operator: Operator, given: Mapping[str, Any]) -> dict[str, Parameter]:
    for name in given:
        if name not in operator.takes:
            raise invalid(
                f"gives {operator.name} the parameter {name[:80]!r}, which it does not take", name[:80]
            )
    checked: dict[str, Parameter] = {}
    for name, kind in operator.takes.items():
        if name in given:
            checked[name] = _cast(operator.name, name, kind, given[name])
        elif name not in operator.optional:
            raise invalid(f"lacks the parameter {name!r} of {operator.name}", name)
    return checked


def _cast(op: str, name: str, kind: type, value: Any) -> Any:
    """Return a parameter as its type, refusing what is another."""
    if kind is bool and isinstance(value, bool | np.bool_):
        return bool(value)
    if kind is int and isinstance(value, int | np.integer) and not isinstance(value, bool):
        if -(2**31) <= value < 2**31:
            return int(value)
    elif (
        kind is float
        and isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
    ):
        return float(value)
    elif kind is str and isinstance(value, str):
        return as_dtype(value).name
    elif name == "positions" and _are_positions(value):
        positions = np.array(value, dtype=np.int64).ravel()
        positions.flags.writeable = False
        return positions
    elif (
        kind is tuple
        and isinstance(value, tuple)
        and all(isinstance(item, int | np.integer) for item in value)
    ):
        return tuple(int(item) for item in value)
    elif (
        kind is list
        and isinstance(value, tuple)
        and all(isinstance(item, int | range | np.ndarray) for item in value)
    ):
        return tuple(_selector(item) for item in value)
    raise invalid(f"gives {op} a {name} that is not {_KINDS[kind]}", name)


def _are_positions(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iu"
    return isinstance(value, tuple) and all(isinstance(item, int) and abs(item) < 2**62 for item in value)


def _selector(item: Selector) -> Selector:
    """Return a selector as it is written in every process: empty and single ranges in one form."""
    if isinstance(item, range):
        if len(item) <= 1:
            return range(item[0], item[0] + 1) if item else range(0)
        return range(item[0], item[-1] + (1 if item.step > 0 else -1), item.step)
    if isinstance(item, np.ndarray):
        positions = item.astype(np.int64, copy=True).ravel()
        positions.flags.writeable = False
        return positions
    return int(item)
