"""The closed registry of operations that an expression may hold."""

from larvik.array.operators import elementwise, reduction, selection, structure
from larvik.array.operators.base import Operator

#: Every operation, by name.
OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for family in (elementwise, reduction, selection, structure)
    for operator in family.OPERATORS
}

__all__ = ["OPERATORS", "Operator"]
