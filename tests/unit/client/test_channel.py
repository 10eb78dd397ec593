"""Calls are repeated only while the server cannot be reached, and only until the deadline."""

from __future__ import annotations

import pickle
import time

import pytest

from larvik.errors import (
    LarvikError,
    NotFoundError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from larvik_client.channel import ATTEMPTS, Credentials, retried


class Server:
    """Fails some times, then answers."""

    def __init__(self, failures: int, error: type[Exception] = UnavailableError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error("not now")
        return "answer"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("larvik_client.channel.PAUSE_S", 0.0)


def test_a_call_is_repeated_until_the_server_answers():
    server = Server(ATTEMPTS - 1)
    assert retried(server, time.monotonic() + 60) == "answer"
    assert server.calls == ATTEMPTS


def test_a_server_that_never_answers_is_given_up():
    server = Server(100)
    with pytest.raises(UnavailableError):
        retried(server, time.monotonic() + 60)
    assert server.calls == ATTEMPTS


def test_nothing_is_repeated_after_the_deadline():
    server = Server(100)
    with pytest.raises(UnavailableError):
        retried(server, time.monotonic())
    assert server.calls == 1


def test_an_answer_that_is_an_error_is_not_repeated():
    server = Server(1, NotFoundError)
    with pytest.raises(NotFoundError):
        retried(server, time.monotonic() + 60)
    assert server.calls == 1


def test_tokens_are_neither_shown_nor_pickled():
    credentials = Credentials("very-secret", None)
    assert "secret" not in repr(credentials)
    with pytest.raises(TypeError):
        pickle.dumps(credentials)


class Failing:
    """Raises errors one after another, then answers."""

    def __init__(self, *errors: LarvikError) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def full(retry_after_s: float) -> ResourceExhaustedError:
    return ResourceExhaustedError("full", reason="STREAMS_EXHAUSTED", retry_after_s=retry_after_s)


def test_a_full_server_is_asked_again_when_it_says_so_however_often():
    began = time.monotonic()
    assert retried(Failing(*[full(0.01)] * (3 * ATTEMPTS))) == "answer"
    assert time.monotonic() - began >= 3 * ATTEMPTS * 0.005


def test_a_full_server_is_waited_for_no_longer_than_the_patience():
    with pytest.raises(ResourceExhaustedError):
        retried(Failing(*[full(0.02)] * 100), patience_s=0.1)
    with pytest.raises(ResourceExhaustedError):
        retried(Failing(full(60)), time.monotonic() + 1)


def test_a_limit_without_a_time_is_not_tried_again():
    with pytest.raises(ResourceExhaustedError):
        retried(Failing(ResourceExhaustedError("too large")))


def test_an_expired_ticket_is_asked_for_again_and_a_wrong_token_is_not():
    expired = UnauthenticatedError("expired", reason="TICKET_EXPIRED")
    assert retried(Failing(expired, expired)) == "answer"
    with pytest.raises(UnauthenticatedError):
        retried(Failing(*[expired] * ATTEMPTS))
    with pytest.raises(UnauthenticatedError):
        retried(Failing(UnauthenticatedError("no")))
