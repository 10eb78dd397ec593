"""Queries come back as they were; malformed ones are refused and name the part that is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.errors import InvalidArgumentError, LarvikError
from larvik.proto.v1 import query_pb2
from larvik.query.predicate import And, Compare, Lookup, Not, Or
from larvik.query.query import Order, Query, Trash
from larvik.wire.messages import parse
from larvik.wire.queries import MAX_CONDITIONS, MAX_DEPTH, decode_query, encode_query

names = st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True)
paths = st.lists(names, min_size=1, max_size=4).map(tuple)
values = st.integers(-100, 100) | st.text("abc", max_size=5) | st.booleans() | st.none()
compares = st.builds(Compare, paths, st.sampled_from([*Lookup]), values)
predicates = st.recursive(
    compares,
    lambda inner: (
        st.builds(And, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Not, inner)
    ),
    max_leaves=8,
)
queries = st.builds(
    Query,
    model=names,
    where=st.lists(predicates, max_size=3).map(tuple),
    order_by=st.lists(st.builds(Order, paths, st.booleans()), max_size=3).map(tuple),
    offset=st.integers(0, 2**40),
    limit=st.none() | st.integers(0, 2**40),
    select_related=st.lists(paths, max_size=2).map(tuple),
    columns=st.lists(names, max_size=3).map(tuple),
    trash=st.sampled_from([*Trash]),
)


@given(queries)
def test_every_query_comes_back_as_it_was(query):
    assert decode_query(query_pb2.Query.FromString(encode_query(query).SerializeToString())) == query


def test_a_query_inside_in_comes_back():
    inner = Query("Sample", where=(Compare(("name",), Lookup.EXACT, "a"),))
    query = Query("Representation", where=(Compare(("sample_id",), Lookup.IN, inner),))
    assert decode_query(encode_query(query)) == query


def test_several_values_of_in_travel_as_a_list():
    query = Query("Sample", where=(Compare(("name",), Lookup.IN, ["a", "b"]),))
    assert decode_query(encode_query(query)).where == (Compare(("name",), Lookup.IN, ("a", "b")),)


def deep(levels: int) -> query_pb2.Query:
    predicate = query_pb2.Predicate()
    predicate.compare.path.append("name")
    predicate.compare.lookup = query_pb2.LOOKUP_EXACT
    for _ in range(levels):
        predicate = query_pb2.Predicate(negated=predicate)
    return query_pb2.Query(model="Sample", where=[predicate])


def test_conditions_may_be_nested_up_to_the_limit():
    decode_query(deep(MAX_DEPTH - 1))


def compare(**fields: object) -> query_pb2.Query:
    given = {"path": ["name"], "lookup": query_pb2.LOOKUP_EXACT, **fields}
    return query_pb2.Query(model="Sample", where=[query_pb2.Predicate(compare=query_pb2.Compare(**given))])


HOSTILE = {
    "no model": query_pb2.Query(),
    "long model": query_pb2.Query(model="x" * 10_000_000),
    "NUL": query_pb2.Query(model="a\0"),
    "too deep": deep(MAX_DEPTH + 1),
    "empty condition": query_pb2.Query(model="Sample", where=[query_pb2.Predicate()]),
    "no lookup": compare(lookup=0),
    "unknown lookup": compare(lookup=99),
    "no path": compare(path=[]),
    "long path": compare(path=["a"] * 50),
    "query without in": compare(value=query_pb2.Value(query_value=query_pb2.Query(model="Sample"))),
    "unknown trash": query_pb2.Query(model="Sample", trash=77),
    "huge limit": query_pb2.Query(model="Sample", limit=2**64 - 1),
    "huge offset": query_pb2.Query(model="Sample", offset=2**63),
    "many columns": query_pb2.Query(model="Sample", columns=["a"] * 5000),
    "many conditions": query_pb2.Query(
        model="Sample",
        where=[
            query_pb2.Predicate(all=query_pb2.PredicateList(children=[compare().where[0]] * MAX_CONDITIONS))
        ],
    ),
    "empty relation": query_pb2.Query(model="Sample", select_related=[query_pb2.RelationPath()]),
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_query_is_refused_and_names_the_part(message):
    with pytest.raises(InvalidArgumentError) as caught:
        decode_query(message)
    assert caught.value.reason in {"QUERY_INVALID", "FIELD_INVALID"}
    assert caught.value.metadata["field"]
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("query", [Query("Sample", offset=-1), Query("Sample", limit=-1)])
def test_a_negative_slice_is_refused_before_it_travels(query):
    with pytest.raises(InvalidArgumentError):
        encode_query(query)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_query_or_an_error_of_ours(data):
    reason = None
    try:
        decode_query(parse(query_pb2.Query, data, field="query"))
    except LarvikError as error:
        reason = error.reason
    assert reason in {None, "MESSAGE_MALFORMED", "QUERY_INVALID", "FIELD_INVALID"}
