"""Tokens are read from headers; keys that stopped working are refused, and all are when that is not known."""

from __future__ import annotations

import threading

import pytest

from larvik.errors import LarvikError, PermissionDeniedError, UnauthenticatedError, UnavailableError
from larvik.services.principal import Principal
from larvik_server import access
from larvik_server.access import ANY, RevokedKeys, bearer_token, check_scope


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", b"Bearer abc", "Bearer  abc "])
def test_a_bearer_token_is_read(header):
    assert bearer_token(header) == "abc"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "abc", b"\xff\xfe"])
def test_another_header_is_no_token(header):
    with pytest.raises(UnauthenticatedError) as caught:
        bearer_token(header)
    assert caught.value.reason == "TOKEN_MISSING"


def test_a_scope_that_the_key_lacks_is_named():
    reader = Principal("s", "reader", "service", frozenset({"read"}))
    check_scope(reader, ANY)
    check_scope(reader, "read")
    with pytest.raises(PermissionDeniedError, match="write"):
        check_scope(reader, "write")


class Database:
    """Gives the revoked keys, or fails."""

    def __init__(self) -> None:
        self.keys = frozenset({"old"})
        self.is_down = False
        self.asked = threading.Semaphore(0)

    def __call__(self) -> frozenset[str]:
        self.asked.release()
        if self.is_down:
            raise UnavailableError("down")
        return self.keys


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(access, "REFRESH_S", 0.01)
    return Database()


def refused(revoked: RevokedKeys, key: str, kind: type[LarvikError]) -> bool:
    try:
        revoked.check(key)
    except kind:
        return True
    return False


def until(condition, database: Database) -> None:
    for _ in range(2000):
        if condition():
            return
        assert database.asked.acquire(timeout=5), "the database is no longer asked"
    raise AssertionError("it never came")


def test_a_key_that_is_revoked_later_is_refused_after_the_next_look(database):
    revoked = RevokedKeys(database)
    revoked.check("new")
    assert refused(revoked, "old", UnauthenticatedError)
    database.keys = frozenset({"old", "new"})
    until(lambda: refused(revoked, "new", UnauthenticatedError), database)
    revoked.stop()


def test_everything_is_refused_once_the_database_cannot_be_asked(database, monkeypatch):
    monkeypatch.setattr(access, "STALE_S", 0.2)
    revoked = RevokedKeys(database)
    revoked.check("new")
    database.is_down = True
    until(lambda: refused(revoked, "new", UnavailableError), database)
    database.is_down = False
    until(lambda: not refused(revoked, "new", UnavailableError), database)
    revoked.stop()
