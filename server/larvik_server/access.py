"""Who calls, on both listeners: bearer tokens, scopes, and the keys that no longer work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from larvik.errors import UnauthenticatedError, UnavailableError
from larvik.services.principal import Principal

log = logging.getLogger(__name__)

#: A method that any token may call; the others name a scope.
ANY = ""
#: How often the revoked keys are read, and how old what is known of them may be, in seconds.
REFRESH_S = 2.0
STALE_S = 5.0


def bearer_token(header: str | bytes | None) -> str:
    """Return the token of an ``authorization`` header.

    Raises
    ------
    UnauthenticatedError
        ``TOKEN_MISSING``, without a header of the form ``Bearer TOKEN``.
    """
    text = header.decode("ascii", "replace") if isinstance(header, bytes) else header or ""
    scheme, _, token = text.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError(
            "Every call needs a token: larvik.connect(url, token=...), LARVIK_TOKEN, or the header"
            " 'authorization: Bearer TOKEN'.",
            reason="TOKEN_MISSING",
        )
    return token.strip()


def check_scope(principal: Principal, scope: str) -> None:
    """Refuse a principal whose key lacks `scope`; see `Principal.require`."""
    if scope != ANY:
        principal.require(scope)


class RevokedKeys:
    """The keys that no longer work, read again every 2 s; refuses everything once that fails for 5 s.

    Parameters
    ----------
    read : callable
        Gives the ids from the database.
    """

    def __init__(self, read: Callable[[], frozenset[str]]) -> None:
        self._read = read
        self._keys = read()
        self._read_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="revoked-keys", daemon=True)
        self._thread.start()

    def check(self, key_id: str) -> None:
        """Refuse a key that was revoked or has expired.

        Raises
        ------
        UnauthenticatedError
            ``TOKEN_REVOKED``.
        UnavailableError
            ``KEYS_UNKNOWN``, when the database could not be asked for 5 s.
        """
        if time.monotonic() - self._read_at > STALE_S:
            raise UnavailableError(
                "The server cannot check tokens now, because its database does not answer. Retry in a"
                " moment.",
                reason="KEYS_UNKNOWN",
            )
        if key_id in self._keys:
            raise UnauthenticatedError(
                "The token was revoked or has expired. Ask for another.", reason="TOKEN_REVOKED"
            )

    def stop(self) -> None:
        """End the reading."""
        self._stopped.set()
        self._thread.join(timeout=STALE_S)

    def _refresh(self) -> None:
        while not self._stopped.wait(REFRESH_S):
            began = time.monotonic()
            try:
                self._keys = self._read()
            except Exception as error:  # whatever it was, what is known grows stale and then refuses
                log.warning("keys.unreadable", extra={"error": str(error)})
            else:
                self._read_at = began
