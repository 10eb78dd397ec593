"""Laws of Q: how conditions join."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik import Q
from larvik.errors import InvalidArgumentError

A, B, C = Q(name="a"), Q(name="b"), Q(name="c")
simple = st.sampled_from([A, B, C, Q(name="a", id__in=["b"])])
trees = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        inner.map(lambda q: ~q),
    ),
    max_leaves=8,
)


@given(trees)
def test_an_empty_q_changes_nothing_it_is_joined_with(q: Q) -> None:
    assert (Q() & q, q & Q(), Q() | q, q | Q()) == (q, q, q, q)


@given(trees)
def test_negating_twice_gives_the_same_conditions(q: Q) -> None:
    assert ~~q == q


@given(trees)
def test_a_q_survives_pickling(q: Q) -> None:
    assert pickle.loads(pickle.dumps(q)) == q


def test_joins_of_one_kind_stay_flat() -> None:
    assert (A & B & C).children == (("name", "a"), ("name", "b"), ("name", "c"))
    assert (A | (B | C)).children == (("name", "a"), ("name", "b"), ("name", "c"))


def test_joins_of_two_kinds_nest() -> None:
    both = (A | B) & C
    assert both.joined_by == "and"
    assert both.children == (A | B, ("name", "c"))


def test_a_negated_part_is_not_dissolved_in_its_join() -> None:
    assert (~(A & B) & C).children == (~(A & B), ("name", "c"))


def test_joining_leaves_the_parts_as_they_were() -> None:
    assert A & B != A
    assert repr(A) == "Q(name='a')"
    with pytest.raises(AttributeError, match="cannot be changed"):
        A.negated = True  # type: ignore[misc]


def test_a_q_is_shown_as_it_was_written() -> None:
    assert repr(Q(name="a") | ~Q(id="b")) == "Q(name='a' | ~Q(id='b'))"


def test_something_else_than_a_q_is_refused_with_the_cure() -> None:
    with pytest.raises(InvalidArgumentError, match="write Q"):
        Q({"name": "a"})  # type: ignore[arg-type]
