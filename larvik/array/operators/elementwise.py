"""Operations element by element: NumPy's ufuncs, casts, rounding, choices."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.expression import Constant, Expression, Operation
from larvik.array.grids import bounded, grid_of
from larvik.array.operators.base import Context, Operator
from larvik.array.regions import Grid, Region, lengths
from larvik.errors import InvalidArgumentError

#: Most decimals to round to, on either side of the point.
MAX_DECIMALS = 1000

#: Ufuncs by the number of inputs; each has one output and no core dims.
UNARY = (
    "negative", "positive", "absolute", "fabs", "sign", "rint", "floor", "ceil", "trunc", "sqrt",
    "square", "cbrt", "reciprocal", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin",
    "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh",
    "deg2rad", "rad2deg", "degrees", "radians", "logical_not", "invert", "bitwise_count", "isfinite",
    "isinf", "isnan", "signbit", "spacing", "conjugate",
)  # fmt: skip
BINARY = (
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod", "power",
    "float_power", "logaddexp", "logaddexp2", "arctan2", "hypot", "maximum", "minimum", "fmax", "fmin",
    "heaviside", "copysign", "nextafter", "greater", "greater_equal", "less", "less_equal", "equal",
    "not_equal", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
    "left_shift", "right_shift", "gcd", "lcm",
)  # fmt: skip


class Elementwise(Operator):
    """A function that NumPy broadcasts over its inputs."""

    def __init__(
        self,
        name: str,
        count: int,
        function: Callable[..., Any],
        takes: Mapping[str, type] | None = None,
        optional: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(name, count, count)
        self.function = function
        self.takes = takes or {}
        self.optional = optional

    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Broadcast the shapes; run the function on single elements for the dtype."""
        shape = np.broadcast_shapes(*(item.shape for item in inputs))
        samples = [
            item.value if isinstance(item, Constant) and item.weak else _sample(item) for item in inputs
        ]
        return shape, np.asarray(self._call(samples, parameters)).dtype

    def _call(self, blocks: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        return self.function(*blocks, **parameters)

    def grid(self, node: Operation) -> Grid:
        """Take each axis from the operand with most chunks there, constants last."""
        return bounded(broadcast_grid(node.inputs, node.shape), node.dtype.itemsize)

    def pull(self, node: Operation, region: Region) -> Sequence[Region | None]:
        """Ask every input for the same region, broadcast axes apart."""
        return [narrowed(item, node, region) for item in node.inputs]

    def block(self, node: Operation, region: Region, context: Context) -> NDArray[Any]:
        """Compute the inputs' regions, then the function on them."""
        blocks = [
            item.value
            if isinstance(item, Constant) and item.weak
            else _at_least_1d(context.read(item, needed))
            for item, needed in zip(node.inputs, self.pull(node, region), strict=True)
            if needed is not None
        ]
        try:
            result = np.asarray(self._call(blocks, node.parameters))
        except (ValueError, TypeError, ArithmeticError) as error:  # what NumPy finds in the values alone
            raise InvalidArgumentError(
                f"{self.name} cannot take some of these values: {error}.",
                reason="OPERATION_INVALID",
                field="inputs",
            ) from None
        return result.reshape(lengths(region)).astype(node.dtype, copy=False)


class Rounding(Elementwise):
    """``round``."""

    def infer(
        self, inputs: tuple[Expression, ...], parameters: Mapping[str, Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Refuse decimals that no number has: NumPy counts up to them, for every block."""
        if abs(parameters["decimals"]) > MAX_DECIMALS:
            raise ValueError(f"decimals is {parameters['decimals']}, not -{MAX_DECIMALS} to {MAX_DECIMALS}")
        return super().infer(inputs, parameters)


class Cast(Elementwise):
    """``astype``."""

    def _call(self, blocks: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        return np.asarray(blocks[0]).astype(parameters["dtype"])


def narrowed(item: Expression, node: Operation, region: Region) -> Region:
    """Return the part of `item`, broadcast to `node`, that a region of `node` needs."""
    extra = node.ndim - item.ndim
    return tuple(
        range(1) if size == 1 and node.shape[extra + axis] != 1 else region[extra + axis]
        for axis, size in enumerate(item.shape)
    )


def broadcast_grid(inputs: Sequence[Expression], shape: tuple[int, ...]) -> Grid:
    """Return the chunks of what the inputs broadcast to."""
    axes: list[tuple[int, ...]] = []
    ordered = sorted(inputs, key=lambda item: isinstance(item, Constant))
    grids = [(item.ndim, item.shape, grid_of(item)) for item in ordered]
    for axis, size in enumerate(shape):
        found: tuple[int, ...] = (size,)
        for ndim, item_shape, grid in grids:
            own = axis - (len(shape) - ndim)
            if own >= 0 and item_shape[own] == size and len(grid[own]) > len(found):
                found = grid[own]
        axes.append(found)
    return tuple(axes)


def _sample(item: Expression) -> NDArray[Any]:
    return np.ones(1, item.dtype)


def _at_least_1d(block: NDArray[Any]) -> NDArray[Any]:
    """Keep single elements arrays, since NumPy's operators treat scalars differently."""
    return block.reshape(1) if block.ndim == 0 else block


def _pow(base: Any, exponent: Any) -> Any:
    # Two Python numbers would make a whole number of any length.
    if not isinstance(base, np.ndarray) and not isinstance(exponent, np.ndarray):
        base = np.atleast_1d(base)
    return operator.pow(base, exponent)


def _isclose(a: Any, b: Any, **kwargs: Any) -> Any:
    return np.isclose(a, b, **kwargs)


def _nan_to_num(a: Any, **kwargs: Any) -> Any:
    return np.nan_to_num(a, copy=True, **kwargs)


_DTYPE: dict[str, type] = {"dtype": str}
_OPTIONAL_DTYPE = frozenset(_DTYPE)

OPERATORS: list[Operator] = [
    *(Elementwise(name, 1, getattr(np, name), _DTYPE, _OPTIONAL_DTYPE) for name in UNARY),
    *(Elementwise(name, 2, getattr(np, name), _DTYPE, _OPTIONAL_DTYPE) for name in BINARY),
    Elementwise("clip", 3, np.clip, _DTYPE, _OPTIONAL_DTYPE),
    Elementwise("pow", 2, _pow),
    Elementwise("where", 3, np.where),
    Rounding("round", 1, np.round, {"decimals": int}),
    Elementwise("isclose", 2, _isclose, {"rtol": float, "atol": float, "equal_nan": bool}),
    Elementwise(
        "nan_to_num",
        1,
        _nan_to_num,
        {"nan": float, "posinf": float, "neginf": float},
        frozenset({"posinf", "neginf"}),
    ),
    Cast("astype", 1, np.asarray, _DTYPE),
]
