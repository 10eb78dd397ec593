"""SQLite, PostgreSQL and a few lines of Python agree on random rows and random conditions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.databases import principal_of
from larvik.db import window
from larvik.db.engine import Database
from larvik.db.unit_of_work import UnitOfWork
from larvik.ids import new_id
from larvik.models import registry
from larvik.query.predicate import And, Compare, Lookup, Not, Or, Predicate
from larvik.query.query import Order, Query, Trash
from larvik.services.catalog import CatalogService

Row = dict[str, Any]
World = dict[str, list[Row]]

# Letters that fold and that must not, wildcards, the edges of UTF-8 and of UTF-16, combining marks;
# mostly short and alike, so that lookups often tell two rows apart.
LETTERS = "aAbBzZéÉßıİ%_\\'\"\x7f\ud7ff\ue000\uffff\U0001f600\U0010ffff ́"
TEXT = st.text(st.sampled_from("aAb"), max_size=2) | st.text(st.sampled_from(LETTERS), max_size=3)
NUMBER = st.sampled_from([-1.0, 0.0, -0.0, 0.1, 0.1 + 0.2, 2.5, 1e300, 5e-324])
FORWARD = {"Sample": {"experiment": "Experiment", "animal": "Animal"}, "Animal": {"experiment": "Experiment"}}
BACKWARD = {
    "Experiment": {"samples": ("Sample", "experiment_id"), "animals": ("Animal", "experiment_id")},
    "Animal": {"samples": ("Sample", "animal_id")},
}
PARTS = {"tags": "Tag", "key_values": "KeyValue"}
TEXTS = {
    "Experiment": ["name", "linked_paper"], "Sample": ["name", "description"], "Animal": ["name", "species"],
    "Tag": ["name"], "KeyValue": ["key", "value"],
}  # fmt: skip
NUMBERS = {"Animal": ["age_days"], "KeyValue": ["number"]}
MODELS = ["Experiment", "Animal", "Sample"]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a few rows of every model, some in the trash, with references among them."""
    world: World = {model: [] for model in (*MODELS, "Tag", "KeyValue")}

    def rows(model: str, **more: Callable[[], Any]) -> None:
        for _ in range(draw(st.integers(0, 6))):
            row = {"id": new_id(), "name": draw(TEXT), "trashed": draw(st.integers(0, 4)) == 0}
            world[model].append({**row, **{name: make() for name, make in more.items()}})

    def one_of(model: str) -> Any:
        return draw(st.sampled_from([None, *(row["id"] for row in world[model])]))

    rows("Experiment", linked_paper=lambda: draw(st.none() | TEXT))
    rows(
        "Animal", species=lambda: draw(st.none() | TEXT), age_days=lambda: draw(st.none() | NUMBER),
        experiment_id=lambda: one_of("Experiment"),
    )  # fmt: skip
    rows(
        "Sample", description=lambda: draw(TEXT), experiment_id=lambda: one_of("Experiment"),
        animal_id=lambda: one_of("Animal"),
    )  # fmt: skip
    live = [row["id"] for model in MODELS for row in world[model][:2]]  # few, so that some have several
    for _ in range(draw(st.sampled_from([0, 6, 16])) if live else 0):
        world["Tag"].append({"id": new_id(), "object_id": draw(st.sampled_from(live)), "name": draw(TEXT)})
        value = draw(st.sampled_from(["a", "b", "a", "b", "1", "2.5", "-1"]) | TEXT)
        pair = {"key": draw(st.sampled_from("kK")), "value": value, "object_id": draw(st.sampled_from(live))}
        world["KeyValue"].append({"id": new_id(), **pair})
    return world


@st.composite
def compares(draw: st.DrawFn, model: str) -> Compare:
    path: list[str] = []
    while draw(st.integers(0, 2)) and len(path) < 3 and model in MODELS:
        forward, backward = FORWARD.get(model, {}), {k: v[0] for k, v in BACKWARD.get(model, {}).items()}
        targets = {**forward, **backward, **PARTS}
        hop = draw(st.sampled_from(sorted(targets)))
        path.append(hop)
        model = targets[hop]
    if draw(st.booleans()) and model in NUMBERS:
        column = draw(st.sampled_from(NUMBERS[model]))
        lookup = draw(st.sampled_from(["exact", "gt", "gte", "lt", "lte", "in", "range", "isnull"]))
        value = draw(NUMBER)
        many: Any = draw(st.lists(NUMBER, max_size=3))
    else:
        column = draw(st.sampled_from(TEXTS[model]))
        lookup = draw(st.sampled_from([*Lookup])).value
        value = draw(TEXT)
        many = draw(st.lists(TEXT, max_size=3))
    value = {
        "in": tuple(many),
        "range": tuple([*many, value, value][:2]),
        "isnull": draw(st.booleans()),
    }.get(lookup, value)
    return Compare((*path, column), Lookup(lookup), value)


@st.composite
def of_one_row(draw: st.DrawFn, model: str) -> Predicate:
    """Draw conditions on one related row, as one call of filter makes them; on a row of `model`."""
    key = Compare(("key_values", "key"), Lookup.EXACT, draw(st.sampled_from("kK")))
    lookup = draw(st.sampled_from([Lookup.EXACT, Lookup.IEXACT, Lookup.CONTAINS]))
    value = Compare(("key_values", "value"), lookup, draw(st.sampled_from("ab")))
    return And((key, draw(st.sampled_from([value, Or((value,)), And((value, value))]))))


def predicates(model: str) -> st.SearchStrategy[Predicate]:
    return st.recursive(
        compares(model) | of_one_row(model),
        lambda inner: (
            st.builds(Not, inner)
            | st.builds(And, st.lists(inner, max_size=3).map(tuple))
            | st.builds(Or, st.lists(inner, max_size=3).map(tuple))
        ),
        max_leaves=5,
    )


# The meaning, in Python


def fold(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def matches(stored: Any, lookup: str, value: Any) -> bool:
    if lookup == "isnull":
        return (stored is None) == value
    if stored is None:
        return False
    if lookup.startswith("i") and lookup != "in":
        return matches(fold(stored), lookup[1:], fold(value))
    data = stored.encode() if isinstance(stored, str) else stored
    encode = lambda item: item.encode() if isinstance(item, str) else item  # noqa: E731
    return {
        "exact": lambda: data == encode(value),
        "contains": lambda: encode(value) in data,
        "startswith": lambda: data.startswith(encode(value)),
        "endswith": lambda: data.endswith(encode(value)),
        "in": lambda: stored in value,
        "gt": lambda: data > encode(value),
        "gte": lambda: data >= encode(value),
        "lt": lambda: data < encode(value),
        "lte": lambda: data <= encode(value),
        "range": lambda: encode(value[0]) <= data <= encode(value[1]),
    }[lookup]()


def related(world: World, model: str, row: Row, hop: str) -> tuple[str, list[Row]]:
    """Return the live rows past a hop."""
    if hop in FORWARD.get(model, {}):
        target = FORWARD[model][hop]
        found = [other for other in world[target] if other["id"] == row[f"{hop}_id"]]
    elif hop in PARTS:
        target = PARTS[hop]
        found = [other for other in world[target] if other["object_id"] == row["id"]]
    else:
        target, column = BACKWARD[model][hop]
        found = [other for other in world[target] if other[column] == row["id"]]
    return target, [other for other in found if not other.get("trashed")]


def is_missing(model: str, node: Predicate) -> bool:
    return (
        isinstance(node, Compare) and node.lookup is Lookup.ISNULL and node.value is True
        and len(node.path) > 1 and node.path[0] in FORWARD.get(model, {})
    )  # fmt: skip


def first_hop(model: str, node: Predicate) -> str | None:
    """Return the relation that everything below `node` begins with."""
    if isinstance(node, Compare):
        return node.path[0] if len(node.path) > 1 and not is_missing(model, node) else None
    if isinstance(node, Not) or not node.children:
        return None
    hops = {first_hop(model, child) for child in node.children}
    return hops.pop() if len(hops) == 1 else None


def beyond(node: Predicate) -> Predicate:
    if isinstance(node, Compare):
        return Compare(node.path[1:], node.lookup, node.value)
    assert not isinstance(node, Not)
    return type(node)(tuple(map(beyond, node.children)))


def flat(node: Predicate) -> Iterator[Predicate]:
    if isinstance(node, And):
        for child in node.children:
            yield from flat(child)
    else:
        yield node


def holds(world: World, model: str, row: Row, node: Predicate) -> bool:
    if isinstance(node, Not):
        return not holds(world, model, row, node.child)
    if isinstance(node, Or):
        return any(holds(world, model, row, child) for child in node.children)
    if isinstance(node, Compare) and len(node.path) == 1:
        return matches(row[node.path[0]], node.lookup.value, node.value)
    if is_missing(model, node):
        return not holds(world, model, row, Compare(node.path, Lookup.ISNULL, False))
    groups: dict[str, list[Predicate]] = {}
    for child in flat(node):
        hop = first_hop(model, child)
        if hop is not None:
            groups.setdefault(hop, []).append(beyond(child))
        elif not holds(world, model, row, child):
            return False
    return all(_any_related(world, model, row, hop, tuple(rest)) for hop, rest in groups.items())


def _any_related(world: World, model: str, row: Row, hop: str, rest: tuple[Predicate, ...]) -> bool:
    target, rows = related(world, model, row, hop)
    return any(holds(world, target, other, And(rest)) for other in rows)


def expected(world: World, query: Query) -> list[str]:
    rows = [row for row in world[query.model] if query.trash is Trash.INCLUDE or not row["trashed"]]
    rows = [row for row in rows if all(holds(world, query.model, row, part) for part in query.where)]
    for order in reversed((*query.order_by, Order(("id",)))):

        def key(row: Row, path: tuple[str, ...] = order.path) -> Any:
            model = query.model
            for hop in path[:-1]:
                model, found = (
                    FORWARD[model][hop],
                    [o for o in world[FORWARD[model][hop]] if o["id"] == row[f"{hop}_id"]],
                )
                if not found:
                    return None
                row = found[0]
            return row[path[-1]]

        there = [row for row in rows if key(row) is not None]
        there.sort(key=lambda row: _bytes(key(row)), reverse=order.descending)
        rows = there + [row for row in rows if key(row) is None]
    return [row["id"] for row in rows]


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


# Asking both databases


def fill(database: Database, world: World) -> None:
    """Replace every row by those of `world`."""
    with UnitOfWork(database) as work:
        for model in reversed(MODELS):
            work.delete_many(Query("KeyValue"))
            work.delete_many(Query("Tag"))
            with database.read() as connection:
                table = database.tables.of(model)
                ids = list(connection.execute(table.select().with_only_columns(table.c.id)).scalars())
            if ids:
                work.purge(model, ids)
        for model in (*MODELS, "Tag", "KeyValue"):
            if world[model]:
                work.create(
                    model,
                    [
                        {k: v for k, v in row.items() if k not in {"trashed", "number"}}
                        for row in world[model]
                    ],
                )
        for model in MODELS:
            for row in world[model]:
                if row["trashed"]:
                    work.delete(model, row["id"])
    for row in world["KeyValue"]:
        try:
            row["number"] = (
                float(row["value"]) if row["value"].isascii() and "_" not in row["value"] else None
            )
        except ValueError:
            row["number"] = None


ORDER_PATHS = [
    ("name",), ("description",), ("experiment", "linked_paper"), ("animal", "age_days"),
    ("animal", "experiment", "name"),
]  # fmt: skip
ORDERS = st.lists(
    st.builds(
        Order,
        st.sampled_from(ORDER_PATHS),
        st.booleans(),
    ),
    max_size=2,
)  # fmt: skip


@settings(
    max_examples=25,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
    deadline=None,
)
@given(world=worlds(), data=st.data())
def test_both_databases_and_python_agree(request, sqlite_database, postgres_database, world, data):
    databases = {"sqlite": sqlite_database, "postgres": postgres_database}
    catalogs = {kind: (CatalogService(one, registry), principal_of(one)) for kind, one in databases.items()}
    for one in databases.values():
        fill(one, world)
    request.addfinalizer(functools.partial(setattr, window, "ROWS", window.ROWS))
    for _ in range(25):
        model = data.draw(st.sampled_from(MODELS))
        where = tuple(data.draw(st.lists(predicates(model), max_size=2)))
        order = tuple(data.draw(ORDERS)) if model == "Sample" else ()
        query = Query(model, where, order, trash=data.draw(st.sampled_from([Trash.EXCLUDE, Trash.INCLUDE])))
        wanted = expected(world, query)
        window.ROWS = data.draw(st.sampled_from([1, 2, 4, 4000]))
        for kind, (catalog, principal) in catalogs.items():
            found, token = [], None
            while True:
                page = catalog.page(principal, query, size=2, token=token)
                found += [record.values["id"] for record in page.records]
                token = page.next_token
                if token is None:
                    break
            assert found == wanted, kind
            assert catalog.count(principal, query) == len(wanted), kind
