"""Resolving ``sample__experiment__name__startswith``: names to a path, a column and a lookup.

Errors name what is unknown, list what exists and suggest the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

from larvik.errors import InvalidArgumentError, suggestion
from larvik.query.predicate import Lookup
from larvik.schema import FieldSpec, FieldType, ModelSpec, Registry, RelationSpec, ReverseSpec

#: Most relations that one path may follow.
MAX_HOPS = 8
MAX_PATH_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Hop:
    """One relation along a path, from `source` to `target`."""

    name: str
    source: ModelSpec
    target: ModelSpec
    relation: RelationSpec | ReverseSpec

    @property
    def to_many(self) -> bool:
        """Whether many rows may be on the far side."""
        return isinstance(self.relation, ReverseSpec)


@dataclass(frozen=True, slots=True)
class ResolvedPath:
    """A path whose every name is known.

    ``key`` is set for a lookup by key over ``key_values__<key>``: the key's text.
    """

    hops: tuple[Hop, ...]
    column: FieldSpec
    lookup: Lookup = Lookup.EXACT
    key: str | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """The names of the hops, then the column."""
        return (*(hop.name for hop in self.hops), self.column.name)


def fold(name: str) -> str:
    """Return `name` as biometa compares it: without case and underscores."""
    return name.replace("_", "").casefold()


def resolve(registry: Registry, model: str, text: str, *, lookups: bool = True) -> ResolvedPath:
    """Return what `text` (names joined by ``__``) means on `model`.

    Parameters
    ----------
    lookups : bool
        Whether the last name may be a lookup; without one it is ``exact``.

    Raises
    ------
    InvalidArgumentError
        ``FIELD_UNKNOWN`` or ``LOOKUP_UNKNOWN``, with suggestions; ``FIELD_INVALID`` for a path
        that is too long.
    """
    if len(text) > MAX_PATH_LENGTH or text.count("__") > 2 * MAX_HOPS + 2:
        raise InvalidArgumentError(
            f"The path {text[:60]!r}... is too long: at most {MAX_HOPS} relations.", reason="FIELD_INVALID"
        )
    names = text.split("__")
    spec = registry.get(model)
    hops: list[Hop] = []
    while names:
        hop, used = _hop(registry, spec, names)
        if hop is None:
            break
        hops.append(hop)
        spec, names = hop.target, names[used:]
        if len(hops) > MAX_HOPS:
            raise InvalidArgumentError(
                f"{text!r} follows more than {MAX_HOPS} relations.", reason="FIELD_INVALID"
            )
    return _ending(registry, spec, hops, names, text, lookups)


def _hop(registry: Registry, spec: ModelSpec, names: list[str]) -> tuple[Hop | None, int]:
    relation = spec.relation(names[0])
    if relation is not None:
        return Hop(names[0], spec, registry.get(relation.target), relation), 1
    reverses = registry.reverses(spec.name)
    for used in (2, 1):
        name = "__".join(names[:used])
        if len(names) >= used and name in reverses:
            reverse = reverses[name]
            return Hop(name, spec, registry.get(reverse.model), reverse), used
    return None, 0


def _ending(
    registry: Registry, spec: ModelSpec, hops: list[Hop], names: list[str], text: str, lookups: bool
) -> ResolvedPath:
    if hops and (not names or (lookups and _is_lookup(names) and _column(spec, names[0]) is None)):
        return _ending_in_relation(hops, names, text)
    column = _column(spec, names[0])
    if column is None and spec.part_of == "key_values":
        value = spec.column("value")
        assert value is not None
        return ResolvedPath(tuple(hops), value, _lookup(value, names[1:], text), key=names[0])
    if column is None:
        raise _unknown(registry, spec, names[0], text)
    rest = names[1:]
    if rest and not lookups:
        raise InvalidArgumentError(
            f"{spec.name}.{column.name} is a field; {'__'.join(rest)!r} cannot follow it.",
            reason="FIELD_UNKNOWN",
        )
    return ResolvedPath(tuple(hops), column, _lookup(column, rest, text))


def _ending_in_relation(hops: list[Hop], names: list[str], text: str) -> ResolvedPath:
    """Return what a path means that ends in a relation: a tag's name, else the related row's id."""
    last = hops[-1]
    if isinstance(last.relation, RelationSpec):
        column = last.source.column(last.relation.column)  # the row itself holds the id
        hops = hops[:-1]
    else:
        column = last.target.column("name" if last.target.part_of == "tags" else "id")
    assert column is not None
    return ResolvedPath(tuple(hops), column, _lookup(column, names, text))


def _is_lookup(names: list[str]) -> bool:
    return len(names) == 1 and names[0] in set(Lookup)


def _column(spec: ModelSpec, name: str) -> FieldSpec | None:
    found = spec.column(name)
    if found is None and spec.is_part:
        wanted = fold(name)
        found = next((c for c in spec.columns() if wanted in (fold(c.name), fold(c.label or c.name))), None)
    return found


def _lookup(column: FieldSpec, names: list[str], text: str) -> Lookup:
    if not names:
        return Lookup.EXACT
    if len(names) > 1 or names[0] not in set(Lookup):
        raise InvalidArgumentError(
            f"{text!r}: {'__'.join(names)[:80]!r} is neither a lookup nor a relation of {column.name}."
            f" {suggestion(names[0][:80], [lookup.value for lookup in Lookup])}",
            reason="LOOKUP_UNKNOWN",
            field=text,
        )
    return Lookup(names[0])


def _unknown(registry: Registry, spec: ModelSpec, name: str, text: str) -> InvalidArgumentError:
    names = [*(c.label or c.name for c in spec.columns()), *(r.name for r in spec.relations)]
    names += registry.reverses(spec.name)
    return InvalidArgumentError(
        f"{spec.name} has no field {name[:80]!r} (in {text[:120]!r}). {suggestion(name[:80], names)}",
        reason="FIELD_UNKNOWN",
        field=text[:200],
        model=spec.name,
    )


#: Field types without an order, which take only ``exact``, ``in`` and ``isnull``.
UNORDERED = frozenset({FieldType.JSON, FieldType.BINARY, FieldType.INT64_LIST, FieldType.STRING_LIST})
