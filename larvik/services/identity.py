"""Identity: keys that prove who calls, and the principal that a key stands for.

A token is ``lvk_<key id>_<secret>`` with 160 random bits in its secret; the database holds its
SHA-256 alone, which is enough for secrets that cannot be guessed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from larvik.db.engine import Database
from larvik.db.keys import Keys, StoredKey
from larvik.db.unit_of_work import UnitOfWork, transact
from larvik.errors import InvalidArgumentError, NotFoundError, UnauthenticatedError, suggestion
from larvik.services.principal import READ, SCOPES, Principal

#: How long an accepted token is believed without asking the database, in seconds.
CACHE_S = 5.0
#: Fewest characters of a token that comes from the settings.
MIN_PRESET = 16
_MAX_CACHED = 10_000
_PRESET = "preset"
_TOKEN = re.compile(r"lvk_([a-z2-7]{10})_[a-z2-7]{32}")


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; `token` is shown once and stored nowhere."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    token: str = field(repr=False)


class IdentityService:
    """Keys and subjects of one database. Threads share it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys = Keys(database)
        self._cache: dict[bytes, tuple[float, Principal]] = {}
        self._lock = threading.Lock()

    def first_start(self) -> list[IssuedKey]:
        """Make the subjects ``admin`` and ``reader`` with a key each, if no key exists yet.

        Returns
        -------
        list of IssuedKey
            The new keys; empty on every start but the first.
        """
        if any(not key.is_preset for key in self._keys.list()):
            return []
        wanted = {"admin": tuple(sorted(SCOPES)), "reader": (READ,)}
        return [self.issue(self.subject(name, "service"), name, scopes) for name, scopes in wanted.items()]

    def preset(self, token: str | None) -> None:
        """Accept `token`, which the operator chose, as an administrator's; revoke the one before it.

        Raises
        ------
        InvalidArgumentError
            ``TOKEN_WEAK``, when it has fewer than 16 characters.

        Notes
        -----
        A token that Larvik itself issued keeps the scopes that it was issued with.
        """
        if token is not None and len(token) < MIN_PRESET:
            raise InvalidArgumentError(
                f"LARVIK_TOKEN has {len(token)} characters; at least {MIN_PRESET} are needed.",
                reason="TOKEN_WEAK",
                field="LARVIK_TOKEN",
            )
        now = datetime.now(UTC)
        digest = _hash(token) if token is not None else b""
        for key in self._keys.list():
            if hmac.compare_digest(key.hash, digest) and (key.revoked_at is None or not key.is_preset):
                return  # known already; a key that was made for less than administration stays so
            if key.is_preset and key.revoked_at is None:
                self._keys.revoke(key.id, now)
        if token is not None:
            scopes = tuple(sorted(SCOPES))
            owner = self.subject("admin", "service")
            self._keys.put(StoredKey(_key_id(token), owner, _PRESET, digest, scopes, True, now))
        self.forget()

    def authenticate(self, token: str) -> Principal:
        """Return whom `token` stands for; believed for 5 seconds before the database is asked again.

        Raises
        ------
        UnauthenticatedError
            ``TOKEN_INVALID``, ``TOKEN_REVOKED`` or ``TOKEN_EXPIRED``.
        """
        digest = _hash(token)
        known = self._cache.get(digest)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        found = self._keys.find(_key_id(token))
        if found is None or not hmac.compare_digest(found.key.hash, digest):
            raise UnauthenticatedError("The token is not one of this Larvik.", reason="TOKEN_INVALID")
        if found.key.revoked_at is not None:
            raise UnauthenticatedError("The token was revoked. Ask for another.", reason="TOKEN_REVOKED")
        now = datetime.now(UTC)
        if found.key.expires_at is not None and found.key.expires_at <= now:
            raise UnauthenticatedError("The token has expired. Ask for another.", reason="TOKEN_EXPIRED")
        scopes = frozenset(found.key.scopes)
        principal = Principal(found.key.subject_id, found.name, found.kind, scopes, found.key.id)
        left = (found.key.expires_at - now).total_seconds() if found.key.expires_at is not None else CACHE_S
        with self._lock:
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            self._cache[digest] = (time.monotonic() + min(CACHE_S, left), principal)
        return principal

    def issue(
        self, subject_id: str, name: str, scopes: Iterable[str], *, lifetime: timedelta | None = None
    ) -> IssuedKey:
        """Make a key for a subject.

        Raises
        ------
        InvalidArgumentError
            ``SCOPE_UNKNOWN``; lists the scopes.
        """
        wanted = tuple(sorted(set(scopes)))
        for scope in wanted:
            if scope not in SCOPES:
                raise InvalidArgumentError(
                    f"There is no scope {scope[:80]!r}. {suggestion(scope[:80], SCOPES)}",
                    reason="SCOPE_UNKNOWN",
                )
        key_id, secret = _random(10), _random(32)
        token = f"lvk_{key_id}_{secret}"
        now = datetime.now(UTC)
        expires = None if lifetime is None else now + lifetime
        self._keys.put(StoredKey(key_id, subject_id, name, _hash(token), wanted, False, now, expires))
        return IssuedKey(key_id, name, wanted, token)

    def keys(self) -> list[StoredKey]:
        """Return every key, oldest first."""
        return self._keys.list()

    def revoke(self, key_id: str) -> None:
        """Revoke a key: refused here at once, by other processes within 5 seconds.

        Raises
        ------
        NotFoundError
            ``KEY_NOT_FOUND``, when there is none that still works.
        """
        if not self._keys.revoke(key_id, datetime.now(UTC)):
            raise NotFoundError("There is no such key, or it is revoked already.", reason="KEY_NOT_FOUND")
        self.forget()

    def revoked_keys(self) -> frozenset[str]:
        """Return the ids of the keys that no longer work; what data processes check tickets against."""
        return self._keys.revoked(datetime.now(UTC))

    def local(self) -> Principal:
        """Return the user of an embedded folder: whoever may read its files may do everything."""
        return Principal(self.subject("local", "user"), "local", "user", SCOPES)

    def subject(self, name: str, kind: str) -> str:
        """Return the id of the subject called `name`, made if it is missing."""
        found = self._keys.subject_id(name)
        return (
            found
            if found is not None
            else transact(self._database, None, lambda work: _subject(work, name, kind))
        )

    def forget(self) -> None:
        """Drop what is believed: the next call of each token asks the database."""
        with self._lock:
            self._cache.clear()


def _subject(work: UnitOfWork, name: str, kind: str) -> str:
    return str(work.find_or_create("Subject", {"name": name}, {"kind": kind}).values["id"])


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _key_id(token: str) -> str:
    found = _TOKEN.fullmatch(token)
    return found[1] if found else _PRESET


def _random(characters: int) -> str:
    return base64.b32encode(secrets.token_bytes(characters * 5 // 8 + 1)).decode().lower()[:characters]
