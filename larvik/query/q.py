"""Q: conditions that are joined by ``&``, ``|`` and ``~`` before a query takes them."""

from __future__ import annotations

from typing import Literal

from larvik.errors import InvalidArgumentError

#: One named condition: path with lookup, and the value as it was given.
Condition = tuple[str, object]


class Q:
    """Conditions on rows, still without a model: ``Q(type="initial") | ~Q(sample__name="blank")``.

    Parameters
    ----------
    *parts : Q
        Conditions that must hold too.
    **conditions : object
        Paths with lookups and their values, as ``filter`` takes them; all must hold.

    Notes
    -----
    A value: immutable, and free to be used in many queries. An empty Q asks for nothing.
    """

    __slots__ = ("children", "joined_by", "negated")
    children: tuple[Q | Condition, ...]
    joined_by: Literal["and", "or"]
    negated: bool

    def __init__(self, *parts: Q, **conditions: object) -> None:
        for part in parts:
            if not isinstance(part, Q):
                raise InvalidArgumentError(
                    f"Conditions are Q objects or keyword arguments, not {type(part).__name__}:"
                    " write Q(name=...) or name=... .",
                    reason="QUERY_INVALID",
                )
        self._set(tuple(part for part in parts if part), "and", False)
        self._set((*self.children, *conditions.items()), "and", False)

    def _set(
        self, children: tuple[Q | Condition, ...], joined_by: Literal["and", "or"], negated: bool
    ) -> None:
        object.__setattr__(self, "children", children)
        object.__setattr__(self, "joined_by", joined_by)
        object.__setattr__(self, "negated", negated)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("A Q cannot be changed; combine it with & | ~ into a new one.")

    def __bool__(self) -> bool:
        """Tell whether there is any condition."""
        return bool(self.children)

    def __and__(self, other: Q) -> Q:
        return _join(self, other, "and")

    def __or__(self, other: Q) -> Q:
        return _join(self, other, "or")

    def __invert__(self) -> Q:
        if not self:
            return self
        return _make(self.children, self.joined_by, not self.negated)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Q):
            return NotImplemented
        return self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash((self.joined_by, self.negated, len(self.children)))

    def __getstate__(self) -> tuple[object, ...]:
        return self.children, self.joined_by, self.negated

    def __reduce__(self) -> tuple[object, ...]:
        return _make, (self.children, self.joined_by, self.negated)

    def __repr__(self) -> str:
        mark = " & " if self.joined_by == "and" else " | "
        shown = mark.join(
            repr(child) if isinstance(child, Q) else f"{child[0]}={child[1]!r}" for child in self.children
        )
        return f"{'~' if self.negated else ''}Q({shown})"


def _make(children: tuple[Q | Condition, ...], joined_by: Literal["and", "or"], negated: bool) -> Q:
    q = Q()
    q._set(children, joined_by, negated)
    return q


def _join(left: Q, right: Q, by: Literal["and", "or"]) -> Q:
    if not isinstance(right, Q):
        return NotImplemented
    if not left or not right:
        return left or right
    return _make((*_operands(left, by), *_operands(right, by)), by, False)


def _operands(q: Q, by: Literal["and", "or"]) -> tuple[Q | Condition, ...]:
    """Return what `q` adds to a join: its own children when it is the same kind of join, else itself."""
    if not q.negated and (q.joined_by == by or len(q.children) == 1):
        return q.children
    return (q,)
