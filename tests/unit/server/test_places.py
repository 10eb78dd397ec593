"""Places are shared: nobody takes all, who waits gets what is given back, nobody is refused for ever."""

from __future__ import annotations

import threading
import time

import pytest

from larvik.errors import ResourceExhaustedError
from larvik_server.flight.places import Places


def places(most: int = 4, most_per_subject: int = 2) -> Places:
    return Places("streams", most, most_per_subject, reason="STREAMS_EXHAUSTED")


def test_one_subject_leaves_places_for_the_others() -> None:
    shared = places()
    shared.take("a", 2)
    with pytest.raises(ResourceExhaustedError) as caught:
        shared.take("a")
    assert caught.value.reason == "STREAMS_EXHAUSTED"
    assert float(caught.value.metadata["retry_after_s"]) > 0
    shared.take("b", 2)
    with pytest.raises(ResourceExhaustedError):
        shared.take("c")
    shared.give("b")
    shared.take("c")
    assert shared.total == 4


def test_what_was_refused_or_given_back_is_not_counted() -> None:
    shared = places()
    with shared.hold("a", 2), pytest.raises(ResourceExhaustedError):
        shared.take("a", 1)
    assert shared.total == 0
    with shared.hold("a", 2):
        assert shared.total == 2


def test_a_lone_caller_may_take_more_than_the_limit() -> None:
    shared = places()
    with shared.hold("a", 9), pytest.raises(ResourceExhaustedError):
        shared.take("b", 1)


def test_who_waits_gets_the_place_that_is_given_back() -> None:
    shared = places(most_per_subject=1)
    shared.take("a")
    got = threading.Event()

    def wait() -> None:
        shared.take("a", wait_s=30)
        got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not got.wait(0.1)
    shared.give("a")
    assert got.wait(10)
    waiting.join()
    began = time.monotonic()
    with pytest.raises(ResourceExhaustedError):
        shared.take("a", wait_s=0.1)
    assert time.monotonic() - began >= 0.1
