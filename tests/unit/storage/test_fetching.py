"""Fetching ahead: as many at once as were asked for, in any order, none left behind."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from larvik.storage.fetching import fetch_ahead


def test_everything_comes_once():
    assert sorted(fetch_ahead(lambda item: item * item, range(50), 4)) == [n * n for n in range(50)]
    assert list(fetch_ahead(abs, [], 4)) == []


def test_so_many_are_under_way_at_once_whatever_the_cores():
    together = threading.Barrier(6)

    def meet(item: int) -> int:
        together.wait(20)  # passes when six are under way
        return item

    assert sorted(fetch_ahead(meet, range(12), 6)) == list(range(12))


def test_no_more_are_begun_than_were_asked_for():
    begun: list[int] = []
    with closing(fetch_ahead(lambda item: item, (begun.append(n) or n for n in range(100)), 3)) as fetched:
        next(fetched)
        assert len(begun) == 3


def test_a_slow_one_holds_up_no_other():
    gate = threading.Event()
    with closing(fetch_ahead(lambda item: gate.wait(20) and item if item == 0 else item, range(4), 2)) as got:
        assert sorted(next(got) for _ in range(3)) == [1, 2, 3]
        gate.set()
        assert list(got) == [0]


def test_an_error_is_raised_after_what_was_begun_has_ended():
    gate, ended = threading.Event(), []

    def work(item: int) -> int:
        if item == 1:
            threading.Timer(0.1, gate.set).start()
            raise ValueError("spoiled")
        gate.wait(20)
        ended.append(item)
        return item

    with pytest.raises(ValueError, match="spoiled"):
        list(fetch_ahead(work, range(2), 2))
    assert ended == [0]


def test_closing_it_waits_for_what_was_begun():
    gate, ended = threading.Event(), []

    def work(item: int) -> int:
        if item:
            gate.wait(20)
        ended.append(item)
        return item

    fetched = fetch_ahead(work, range(3), 3)
    assert next(fetched) == 0
    threading.Timer(0.1, gate.set).start()
    fetched.close()
    assert 1 in ended
