"""Queries, on both databases: lookups, relations, order, pages, what they cost and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from larvik.db import selects, window
from larvik.db.compiler import MAX_CONDITIONS, MAX_DEPTH, MAX_QUERIES, Compiler
from larvik.db.engine import Database
from larvik.db.unit_of_work import UnitOfWork
from larvik.errors import InvalidArgumentError, NotFoundError
from larvik.ids import new_id
from larvik.models import registry
from larvik.query.predicate import And, Compare, Lookup, Not, Or
from larvik.query.query import Order, Query, Trash
from larvik.services.catalog import CatalogService
from larvik.services.principal import Principal
from larvik.testing.statements import count_statements

NAMES = [
    "",
    "%",
    "A",
    "AB",
    "Ab",
    "\\",
    "_",
    "a",
    "ab",
    "aé",
    "aÉ",
    "b",
    "\ud7ff",
    "\ue000",
    "\U0001f600",
    "\U0010ffff",
]

LATEST = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))  # in UTC it lies beyond the last year


class Face:
    """The catalog with the principal and the usual model left out."""

    def __init__(self, catalog: CatalogService, principal: Principal) -> None:
        self.catalog, self.principal = catalog, principal

    def create(self, model: str, *rows: dict[str, object]) -> list[str]:
        return [str(record.values["id"]) for record in self.catalog.create(self.principal, model, rows)]

    def names(self, *where: object, model: str = "Sample", **options: object) -> list[object]:
        query = Query(model, where, **options)
        page = self.catalog.page(self.principal, query, size=1000)
        assert self.catalog.count(self.principal, query) == len(page.records)
        return [record.values["name"] for record in page.records]


@pytest.fixture
def face(database: Database, principal: Principal) -> Face:
    return Face(CatalogService(database, registry), principal)


def where(path: str, value: object, lookup: Lookup = Lookup.EXACT) -> Compare:
    return Compare(tuple(path.split(".")), lookup, value)


@pytest.mark.parametrize(
    ("lookup", "value", "found"),
    [
        (Lookup.EXACT, "a", ["a"]),
        (Lookup.IEXACT, "AB", ["AB", "Ab", "ab"]),
        (Lookup.IEXACT, "aé", ["aé"]),
        (Lookup.CONTAINS, "%", ["%"]),
        (Lookup.CONTAINS, "_", ["_"]),
        (Lookup.CONTAINS, "\\", ["\\"]),
        (Lookup.CONTAINS, "", NAMES),
        (Lookup.ICONTAINS, "B", ["AB", "Ab", "ab", "b"]),
        (Lookup.STARTSWITH, "a", ["a", "ab", "aé", "aÉ"]),
        (Lookup.STARTSWITH, "%", ["%"]),
        (Lookup.STARTSWITH, "\ud7ff", ["\ud7ff"]),
        (Lookup.STARTSWITH, "\U0010ffff", ["\U0010ffff"]),
        (Lookup.STARTSWITH, "", NAMES),
        (Lookup.ISTARTSWITH, "a", ["A", "AB", "Ab", "a", "ab", "aé", "aÉ"]),
        (Lookup.ENDSWITH, "b", ["Ab", "ab", "b"]),
        (Lookup.ENDSWITH, "", NAMES),
        (Lookup.IENDSWITH, "É", ["aÉ"]),
        (Lookup.IN, ["a", "b", "c"], ["a", "b"]),
        (Lookup.IN, [], []),
        (Lookup.GT, "aé", ["b", "\ud7ff", "\ue000", "\U0001f600", "\U0010ffff"]),
        (Lookup.LTE, "A", ["", "%", "A"]),
        (Lookup.RANGE, ("A", "Ab"), ["A", "AB", "Ab"]),
        (Lookup.ISNULL, False, NAMES),
        (Lookup.ISNULL, True, []),
    ],
)
def test_a_lookup_of_text_compares_bytes(face, lookup, value, found):
    face.create("Sample", *({"name": name} for name in NAMES))
    assert sorted(face.names(where("name", value, lookup))) == sorted(found)


def test_text_sorts_by_code_point(face):
    face.create("Sample", *({"name": name} for name in NAMES))
    assert face.names(order_by=(Order(("name",)),)) == sorted(NAMES)
    assert face.names(order_by=(Order(("name",), True),)) == sorted(NAMES, reverse=True)


def test_nulls_come_last_both_ways(face):
    ages = {"young": 1.0, "old": 9.0, "unknown": None}
    face.create("Animal", *({"name": name, "age_days": age} for name, age in ages.items()))
    assert face.names(model="Animal", order_by=(Order(("age_days",)),)) == ["young", "old", "unknown"]
    assert face.names(model="Animal", order_by=(Order(("age_days",), True),)) == ["old", "young", "unknown"]


def test_conditions_of_one_filter_speak_of_one_related_row_and_of_two_filters_of_two(face):
    both, split = face.create("Sample", {"name": "both"}, {"name": "split"})
    face.create(
        "KeyValue",
        {"object_id": both, "key": "dose", "value": "5"},
        {"object_id": split, "key": "dose", "value": "4"},
        {"object_id": split, "key": "age", "value": "5"},
    )
    key, value = where("key_values.key", "dose"), where("key_values.value", "5")
    assert face.names(And((key, value))) == ["both"]
    assert face.names(key, value) == ["both", "split"]
    assert face.names(And((key, Or((value, where("key_values.value", "6")))))) == ["both"]
    assert face.names(Not(And((key, value)))) == ["split"]
    assert face.names(And((key, Not(value)))) == []


def test_rows_never_repeat(face):
    sample = face.create("Sample", {"name": "s"})[0]
    face.create("Tag", *({"object_id": sample, "name": f"t{index}"} for index in range(5)))
    assert face.names(where("tags.name", "t", Lookup.STARTSWITH)) == ["s"]


def test_conditions_through_relations_see_live_rows_alone(face):
    experiment = face.create("Experiment", {"name": "e"})[0]
    face.create("Sample", {"name": "s", "experiment_id": experiment})
    forward, backward = where("experiment.name", "e"), where("samples.name", "s")
    assert face.names(forward) == ["s"]
    assert face.names(backward, model="Experiment") == ["e"]
    face.catalog.delete_many(face.principal, Query("Sample"))
    assert face.names(backward, model="Experiment") == []
    face.catalog.delete(face.principal, "Experiment", experiment)
    assert face.names(forward, trash=Trash.INCLUDE) == []


def test_what_lies_past_a_missing_row_is_null(face):
    experiment, bare = face.create("Experiment", {"name": "e", "linked_paper": "x"}, {"name": "f"})
    face.create(
        "Sample", {"name": "in e", "experiment_id": experiment}, {"name": "in f", "experiment_id": bare}
    )
    face.create("Sample", {"name": "alone"})
    assert face.names(where("experiment.linked_paper", True, Lookup.ISNULL)) == ["in f", "alone"]
    assert face.names(where("experiment.linked_paper", False, Lookup.ISNULL)) == ["in e"]
    assert face.names(where("experiment.linked_paper", None)) == ["in f", "alone"]
    assert face.names(where("samples.id", True, Lookup.ISNULL), model="Experiment") == []
    assert face.names(where("representations.id", True, Lookup.ISNULL)) == ["in e", "in f", "alone"]


def test_not_counts_a_comparison_with_null_as_false(face):
    face.create("Animal", {"name": "known", "age_days": 3.0}, {"name": "unknown"})
    assert face.names(Not(where("age_days", 3.0)), model="Animal") == ["unknown"]
    assert face.names(Not(Not(where("age_days", 3.0))), model="Animal") == ["known"]


def test_numbers_of_key_value_pairs_compare_as_numbers(face):
    ids = face.create("Sample", *({"name": name} for name in "abc"))
    for id, value in zip(ids, ("9", "10.0", "ten"), strict=True):
        face.create("KeyValue", {"object_id": id, "key": "dose", "value": value})
    assert face.names(And((where("key_values.key", "dose"), where("key_values.value", 9.5, Lookup.GT)))) == [
        "b"
    ]
    assert face.names(where("key_values.dose", 10)) == ["b"]
    assert face.names(where("key_values.dose", [9, 10], Lookup.IN)) == ["a", "b"]
    assert face.names(where("key_values.dose", "ten")) == ["c"]


def test_biometa_is_searched_by_any_spelling(database, face):
    with UnitOfWork(database, face.principal.subject_id) as work:
        computed = {"dims": ("x",), "shape": (1,), "dtype": "uint8", "spec": {}}
        image = work.create("Representation", [{"name": "r"}], computed=[computed])[0].values["id"]
        work.create("Channel", [{"object_id": image, "index": 0, "emission_wavelength": 510.5}])
    for name in ("EmissionWavelength", "emission_wavelength", "EMISSIONWAVELENGTH"):
        path = ("biometa__channels", name)
        assert face.names(Compare(path, Lookup.GTE, 510.5), model="Representation") == ["r"]


@pytest.mark.parametrize("count", [1, 3, 40_000])
def test_a_list_of_values_may_be_long(face, count):
    ids = face.create("Sample", *({"name": f"s{index}"} for index in range(3)))
    wanted = [*ids[:2], *(new_id() for _ in range(count))]
    assert face.names(where("id", wanted, Lookup.IN)) == ["s0", "s1"]


def test_lists_of_every_type_find_their_rows(face):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    experiment = face.create("Experiment", {"name": "e"})[0]
    face.create("Animal", {"name": "a", "age_days": 0.1, "sex": "male"}, {"name": "b", "age_days": 0.2})
    face.create("ExperimentalGroup", {"name": "g", "is_control": True, "experiment_id": experiment})
    assert face.names(where("age_days", [0.1, 5, 1e-300], Lookup.IN), model="Animal") == ["a"]
    assert face.names(where("is_control", [True], Lookup.IN), model="ExperimentalGroup") == ["g"]
    assert face.names(where("revision", [1, 2**62], Lookup.IN), model="Experiment") == ["e"]
    created = face.catalog.page(face.principal, Query("Experiment")).records[0].values["created_at"]
    assert face.names(where("created_at", [created, moment], Lookup.IN), model="Experiment") == ["e"]


def test_lists_are_found_whole(database, face):
    with UnitOfWork(database, face.principal.subject_id) as work:
        for name, dims, shape in (("a", ("y", "x"), (1, 2)), ("b", ("x", "y"), (2, 1))):
            computed = {"dims": dims, "shape": shape, "dtype": "uint8", "spec": {}}
            work.create("Representation", [{"name": name}], computed=[computed])
    assert face.names(where("dims", ["y", "x"]), model="Representation") == ["a"]
    assert face.names(where("shape", [(2, 1), (5,)], Lookup.IN), model="Representation") == ["b"]


def test_a_query_stands_for_the_ids_of_its_rows(face):
    old, new = face.create("Experiment", {"name": "old"}, {"name": "new"})
    face.create("Sample", {"name": "s", "experiment_id": old}, {"name": "t", "experiment_id": new})
    inner = Query("Experiment", (where("name", "old"),))
    assert face.names(where("experiment_id", inner, Lookup.IN)) == ["s"]
    last = Query("Experiment", order_by=(Order(("id",), True),), limit=1)
    assert face.names(where("experiment_id", last, Lookup.IN)) == ["t"]
    assert face.names(where("id", Query("Sample", offset=1), Lookup.IN)) == ["t"]
    with pytest.raises(InvalidArgumentError, match="stands for ids of Experiment"):
        face.names(where("experiment_id", Query("Team"), Lookup.IN))


# Costs


def test_each_read_is_one_statement(database, face):
    experiment = face.create("Experiment", {"name": "e"})[0]
    face.create("Sample", *({"name": f"s{index}", "experiment_id": experiment} for index in range(5)))
    conditions = (
        And((where("experiment.name", "e"), where("tags.name", "x"))),
        Not(where("animal.name", "x")),
    )
    query = Query("Sample", conditions, (Order(("experiment", "name")),), select_related=(("experiment",),))
    for call in (face.catalog.page, face.catalog.count, face.catalog.table):
        with count_statements(database) as statements:
            call(face.principal, query)
        assert len(statements) == 1


def test_related_rows_come_along_in_the_same_statement(face):
    experiment = face.create("Experiment", {"name": "e"})[0]
    face.create("Sample", {"name": "s", "experiment_id": experiment}, {"name": "alone"})
    query = Query("Sample", select_related=(("experiment", "owner"), ("animal",)))
    first, second = face.catalog.page(face.principal, query).records
    assert first.related["experiment"].values["name"] == "e"
    assert first.related["experiment"].related["owner"].values["name"] == "tester"
    assert first.related["animal"] is None
    assert second.related == {"experiment": None, "animal": None}


def test_only_the_columns_that_were_asked_for_come(face):
    face.create("Sample", {"name": "s"})
    query = Query("Sample", columns=("name", "revision"), order_by=(Order(("created_at",)),))
    assert face.catalog.page(face.principal, query).records[0].values == {"name": "s", "revision": 1}


# Pages


@pytest.mark.parametrize(
    "keys", [(), ("name",), ("-name",), ("description", "-name"), ("experiment.name", "-id"), ("-id",)]
)
def test_pages_put_together_are_the_whole(face, keys):
    experiments = face.create("Experiment", {"name": "e"}, {"name": "f"})
    rows = [
        {
            "name": f"s{index % 4}",
            "description": "x" * (index % 3),
            "experiment_id": [*experiments, None][index % 3],
        }
        for index in range(23)
    ]
    face.create("Sample", *rows)
    order = tuple(Order(tuple(key.removeprefix("-").split(".")), key.startswith("-")) for key in keys)
    for query in (Query("Sample", order_by=order), Query("Sample", order_by=order, offset=3, limit=17)):
        whole = [record.values["id"] for record in face.catalog.page(face.principal, query, size=100).records]
        paged, token = [], None
        while True:
            page = face.catalog.page(face.principal, query, size=5, token=token)
            paged += [record.values["id"] for record in page.records]
            token = page.next_token
            if token is None:
                break
        assert paged == whole
        assert len(whole) == (23 if query.limit is None else 17)


def test_pages_of_a_large_table_are_whole_whatever_matches(face, monkeypatch):
    monkeypatch.setattr(window, "ROWS", 50)  # what is looked at first, so that few rows make a large table
    experiments = face.create("Experiment", {"name": "often"}, {"name": "seldom"}, {"name": "last"})
    chosen = [0 if index % 3 else 1 if index % 97 == 0 else None for index in range(600)]
    chosen[-1] = 2
    rows = [
        {"name": f"s{i}", "experiment_id": None if e is None else experiments[e]}
        for i, e in enumerate(chosen)
    ]
    face.create("Sample", *rows)
    for number, name in enumerate(("often", "seldom", "last", "none")):
        query = Query("Sample", (where("experiment.name", name),))
        wanted = [f"s{index}" for index, e in enumerate(chosen) if e == number]
        found, token = [], None
        while True:
            page = face.catalog.page(face.principal, query, size=20, token=token)
            found += [record.values["name"] for record in page.records]
            token = page.next_token
            if token is None:
                break
        assert found == wanted


def test_rows_inserted_meanwhile_neither_repeat_nor_hide_others(face):
    face.create("Sample", *({"name": f"m{index}"} for index in range(10)))
    query = Query("Sample", order_by=(Order(("name",)),))
    first = face.catalog.page(face.principal, query, size=5)
    face.create("Sample", *({"name": f"a{index}"} for index in range(7)), {"name": "z"})
    second = face.catalog.page(face.principal, query, size=100, token=first.next_token)
    names = [record.values["name"] for record in (*first.records, *second.records)]
    assert names == [*(f"m{index}" for index in range(10)), "z"]


def test_a_token_of_another_query_or_a_damaged_one_is_refused(face):
    face.create("Sample", *({"name": f"s{index}"} for index in range(3)))
    query = Query("Sample")
    token = face.catalog.page(face.principal, query, size=1).next_token
    others = [(replace(query, where=(where("name", "s1"),)), token)]
    others += [(query, bad) for bad in (token[:-2], token[2:], "x", "é", "e30", "W10", token + "AAAA")]
    for other, bad in others:
        with pytest.raises(InvalidArgumentError) as caught:
            face.catalog.page(face.principal, other, size=1, token=bad)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"


def test_a_page_has_at_most_a_thousand_rows(face):
    face.create("Sample", *({"name": "s"} for _ in range(1001)))
    page = face.catalog.page(face.principal, Query("Sample"), size=5000)
    assert len(page.records) == 1000
    assert page.next_token is not None
    assert face.catalog.page(face.principal, Query("Sample", limit=0), size=10).records == ()


# What is refused


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (Query("Sample", (where("nam", "x"),)), "FIELD_UNKNOWN"),
        (Query("Sample", (where("experiment.colour", "x"),)), "FIELD_UNKNOWN"),
        (Query("Sample", (where("name", 5),)), "FIELD_INVALID"),
        (Query("Sample", (where("name", "a\0"),)), "FIELD_INVALID"),
        (Query("Sample", (where("name", "x" * 10_000_000),)), "FIELD_INVALID"),
        (Query("Sample", (where("name", "\ud800"),)), "FIELD_INVALID"),
        (Query("Sample", (where("name", [None], Lookup.IN),)), "FIELD_INVALID"),
        (Query("Sample", (where("name", "abc", Lookup.IN),)), "FIELD_INVALID"),
        (Query("Sample", (where("name", "abc", Lookup.ISNULL),)), "FIELD_INVALID"),
        (Query("Sample", (where("name", ("a",), Lookup.RANGE),)), "FIELD_INVALID"),
        (Query("Sample", (where("revision", 2**63),)), "FIELD_INVALID"),
        (Query("Sample", (where("revision", 1.5),)), "FIELD_INVALID"),
        (Query("Sample", (where("created_at", datetime(2026, 1, 1)),)), "FIELD_INVALID"),
        (Query("Sample", (where("created_at", LATEST),)), "FIELD_INVALID"),
        (Query("Sample", (where("revision", "1", Lookup.CONTAINS),)), "LOOKUP_INVALID"),
        (Query("Representation", (where("spec", {}),)), "LOOKUP_INVALID"),
        (Query("Representation", (where("dims", ["x"], Lookup.GT),)), "LOOKUP_INVALID"),
        (Query("Animal", (where("sex", "mal"),)), "FIELD_INVALID"),
        (Query("Sample", (where("id", "x"),)), "ID_INVALID"),
        (Query("Sample", (where("id", [new_id()] * 100_001, Lookup.IN),)), "LIMIT_EXCEEDED"),
        (Query("Sample", (And((where("name", "x"),) * MAX_CONDITIONS),)), "LIMIT_EXCEEDED"),
        (Query("Sample", order_by=(Order(("representations", "name")),)), "FIELD_INVALID"),
        (Query("Representation", order_by=(Order(("spec",)),)), "FIELD_INVALID"),
        (Query("Sample", order_by=(Order(("nam",)),)), "FIELD_UNKNOWN"),
        (Query("Sample", order_by=(Order(("name",)),) * 17), "LIMIT_EXCEEDED"),
        (Query("Sample", select_related=(("representations",),)), "FIELD_INVALID"),
        (Query("Sample", select_related=(("experimen",),)), "FIELD_UNKNOWN"),
        (Query("Sample", columns=("colour",)), "FIELD_UNKNOWN"),
        (Query("Sample", limit=-1), "QUERY_INVALID"),
        (Query("Sample", offset=2**70), "QUERY_INVALID"),
    ],
)
def test_what_cannot_be_asked_is_refused(face, query, reason):
    calls = [face.catalog.page] if query.select_related else [face.catalog.page, face.catalog.table]
    for call in calls:
        with pytest.raises(InvalidArgumentError) as caught:
            call(face.principal, query)
        assert caught.value.reason == reason


def test_conditions_nest_only_so_deep(face):
    deep: object = where("name", "x")
    for _ in range(MAX_DEPTH + 1):
        deep = Not(deep)
    inner = Query("Sample")
    for _ in range(MAX_QUERIES + 1):
        inner = Query("Sample", (where("id", inner, Lookup.IN),))
    for query in (Query("Sample", (deep,)), inner):
        with pytest.raises(InvalidArgumentError) as caught:
            face.catalog.count(face.principal, query)
        assert caught.value.reason == "LIMIT_EXCEEDED"


def test_the_largest_allowed_conditions_run(face):
    face.create("Sample", {"name": "s"})
    wide = Or(tuple(where("name", f"{index}", Lookup.ISTARTSWITH) for index in range(MAX_CONDITIONS - 1)))
    deep: object = where("tags.name", "x")
    inner = Query("Sample", (where("name", "s"),))
    for _ in range(MAX_DEPTH // 2 - 1):
        deep = Not(And((deep, where("name", "s"))))
    for _ in range(MAX_QUERIES - 1):
        inner = Query("Sample", (where("id", inner, Lookup.IN),))
    assert face.names(wide) == []
    assert face.names(deep) == ["s"]
    assert face.names(*inner.where) == ["s"]


def test_an_unknown_model_is_not_found(face):
    with pytest.raises(NotFoundError, match="Did you mean 'Sample'"):
        face.catalog.page(face.principal, Query("Sampel"))


@pytest.mark.parametrize("depth", [9, 70, 100, 5000])
def test_paths_that_no_database_can_join_are_refused(face: Face, depth: int) -> None:
    line = ("parent",) * depth
    for query in (
        Query("Representation", select_related=(line,)),
        Query("Representation", order_by=(Order((*line, "name")),)),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            face.catalog.page(face.principal, query)
        assert caught.value.reason == "LIMIT_EXCEEDED"


def test_many_relations_are_refused_before_the_database_refuses_them(face: Face) -> None:
    ends = (("experiment", "owner"), ("group", "team"))
    paths = [(*("parent",) * depth, "sample", *end) for depth in range(6) for end in ends]
    query = Query("Representation", select_related=tuple(paths[:10]), order_by=(Order((*paths[-1], "name")),))
    face.catalog.page(face.principal, query)
    for many in (
        replace(query, select_related=tuple(paths)),
        replace(query, order_by=tuple(Order((*path, "id")) for path in paths)),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            face.catalog.page(face.principal, many)
        assert caught.value.reason == "LIMIT_EXCEEDED"


def test_what_rights_hide_is_neither_fetched_along_nor_sorted_by(face: Face) -> None:
    shown, hidden = face.create("Experiment", {"name": "shown"}, {"name": "hidden"})
    face.create(
        "Sample", {"name": "first", "experiment_id": hidden}, {"name": "second", "experiment_id": shown}
    )
    database = face.catalog._database
    compiler = Compiler(
        database.tables,
        database.dialect,
        lambda spec, table: table.c.name != "hidden" if spec.name == "Experiment" else None,
    )
    query = Query("Sample", order_by=(Order(("experiment", "name")),), select_related=(("experiment",),))
    with database.read() as connection:
        records = selects.page(compiler, connection, query, 10, None).records
    seen = [(record.values["name"], record.related["experiment"]) for record in records]
    assert [(name, other.values["name"] if other else None) for name, other in seen] == [
        ("second", "shown"),
        ("first", None),
    ]
