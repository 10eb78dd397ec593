"""Keys and tokens: made once, believed for seconds, revoked for good; on both databases."""

from __future__ import annotations

import re
import threading
from datetime import timedelta

import pytest

from larvik.db.engine import Database, open_database
from larvik.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from larvik.models import registry
from larvik.query.query import Query
from larvik.services.catalog import CatalogService
from larvik.services.identity import IdentityService
from larvik.services.principal import ADMIN, READ, SCOPES, WRITE
from larvik.testing.statements import count_statements

CHOSEN = "a token of the operator's own"


@pytest.fixture
def identity(database: Database) -> IdentityService:
    return IdentityService(database)


def reason(identity: IdentityService, token: str) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        identity.authenticate(token)
    return caught.value.reason


def test_the_first_start_makes_an_administrators_and_a_readers_key_and_no_other_does(identity):
    admin, reader = identity.first_start()
    assert identity.first_start() == []
    assert (admin.name, reader.name) == ("admin", "reader")
    assert identity.authenticate(admin.token).scopes == SCOPES
    assert identity.authenticate(reader.token).scopes == {READ}
    assert identity.authenticate(reader.token).name == "reader"


def test_a_token_is_long_and_stored_nowhere(identity, database):
    admin, _ = identity.first_start()
    assert re.fullmatch(r"lvk_[a-z2-7]{10}_[a-z2-7]{32}", admin.token)
    assert admin.token not in repr(admin)
    secret = admin.token.rpartition("_")[2]
    stored = identity.keys()
    assert all(secret.encode() not in key.hash and secret not in repr(key) for key in stored)


@pytest.mark.parametrize(
    "token", ["", "x", "lvk_", "lvk_aaaaaaaaaa_" + "a" * 32, "é\ud800", "x" * 1_000_000, "\0"]
)
def test_what_is_no_token_is_refused(identity, token):
    identity.first_start()
    assert reason(identity, token) == "TOKEN_INVALID"


def test_another_secret_with_the_same_key_is_refused(identity):
    token = identity.first_start()[0].token
    assert reason(identity, token[:-1] + ("a" if token[-1] != "a" else "b")) == "TOKEN_INVALID"


def test_a_revoked_key_is_refused_here_at_once_and_elsewhere_when_it_is_asked_again(identity, database):
    admin, reader = identity.first_start()
    elsewhere = IdentityService(database)
    elsewhere.authenticate(reader.token)
    identity.authenticate(reader.token)
    assert identity.revoked_keys() == frozenset()
    identity.revoke(reader.key_id)
    assert reason(identity, reader.token) == "TOKEN_REVOKED"
    assert elsewhere.authenticate(reader.token).name == "reader"  # believed for a few seconds
    elsewhere.forget()
    assert reason(elsewhere, reader.token) == "TOKEN_REVOKED"
    assert identity.revoked_keys() == {reader.key_id}
    assert identity.authenticate(admin.token).name == "admin"
    with pytest.raises(NotFoundError):
        identity.revoke(reader.key_id)


def test_an_expired_key_is_refused(identity):
    subject = identity.subject("guest", "user")
    key = identity.issue(subject, "for a moment", [READ], lifetime=timedelta(microseconds=1))
    assert reason(identity, key.token) == "TOKEN_EXPIRED"
    assert identity.revoked_keys() == {key.key_id}


def test_a_believed_token_asks_the_database_nothing(identity, database):
    token = identity.first_start()[0].token
    with count_statements(database) as statements:
        for _ in range(5):
            identity.authenticate(token)
    assert len(statements) == 1


def test_a_preset_token_is_an_administrators_until_another_takes_its_place(identity):
    identity.preset(CHOSEN)
    identity.preset(CHOSEN)
    assert identity.authenticate(CHOSEN).scopes == SCOPES
    identity.preset("another token of the operator")
    assert reason(identity, CHOSEN) == "TOKEN_INVALID"
    identity.preset(None)
    assert reason(identity, "another token of the operator") == "TOKEN_REVOKED"
    identity.preset(CHOSEN)
    assert identity.authenticate(CHOSEN).name == "admin"


def test_a_readers_key_as_preset_token_stays_a_readers(identity):
    _, reader = identity.first_start()
    identity.preset(reader.token)
    identity.forget()
    assert identity.authenticate(reader.token).scopes == {READ}


def test_a_short_preset_token_is_refused(identity):
    with pytest.raises(InvalidArgumentError, match="at least 16") as caught:
        identity.preset("secret")
    assert caught.value.reason == "TOKEN_WEAK"


def test_replicas_that_start_together_agree(database):
    errors: list[BaseException] = []
    barrier = threading.Barrier(3)

    def start() -> None:
        identity = IdentityService(
            open_database(database.url.render_as_string(hide_password=False), registry)
        )
        barrier.wait()
        try:
            identity.preset(CHOSEN)
            identity.first_start()
            identity.local()
        except BaseException as error:
            errors.append(error)
        finally:
            identity._database.close()

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert IdentityService(database).authenticate(CHOSEN).scopes == SCOPES


def test_an_unknown_scope_is_refused(identity):
    with pytest.raises(InvalidArgumentError, match="Did you mean 'read'") as caught:
        identity.issue(identity.subject("guest", "user"), "x", ["reed"])
    assert caught.value.reason == "SCOPE_UNKNOWN"


def test_every_call_of_the_catalog_needs_its_scope(identity, database):
    catalog, query = CatalogService(database, registry), Query("Sample")
    owner = identity.subject("guest", "user")
    calls = {
        READ: [
            lambda who: catalog.page(who, query),
            lambda who: catalog.count(who, query),
            lambda who: catalog.table(who, query),
            lambda who: catalog.table_schema(who, query),
        ],
        WRITE: [
            lambda who: catalog.create(who, "Sample", []),
            lambda who: catalog.update(who, "Sample", owner, {}),
            lambda who: catalog.update_many(who, query, {}),
            lambda who: catalog.delete(who, "Sample", owner),
            lambda who: catalog.delete_many(who, query),
            lambda who: catalog.restore(who, "Sample", owner),
        ],
        ADMIN: [
            lambda who: catalog.create(who, "Subject", [{"name": "x"}]),
            lambda who: catalog.delete_many(who, Query("Team")),
        ],
    }
    for needed, functions in calls.items():
        lacking = identity.authenticate(identity.issue(owner, "k", SCOPES - {needed}).token)
        for function in functions:
            with pytest.raises(PermissionDeniedError) as caught:
                function(lacking)
            assert (caught.value.reason, caught.value.metadata["scope"]) == ("SCOPE_MISSING", needed)
