"""Who calls: the first argument of every service."""

from __future__ import annotations

from dataclasses import dataclass

from larvik.errors import PermissionDeniedError

READ = "read"
WRITE = "write"
ADMIN = "admin"
#: Every scope that a key can have.
SCOPES = frozenset({READ, WRITE, ADMIN})


@dataclass(frozen=True, slots=True)
class Principal:
    """A subject, and what the key that it came with allows.

    Attributes
    ----------
    subject_id : str
        Id of the row in Subject.
    name, kind : str
        Those of the row.
    scopes : frozenset of str
        Some of `SCOPES`.
    key_id : str
        The key; empty for the user of an embedded folder.
    """

    subject_id: str
    name: str
    kind: str
    scopes: frozenset[str]
    key_id: str = ""

    def require(self, scope: str) -> None:
        """Refuse the call when the key lacks `scope`.

        Raises
        ------
        PermissionDeniedError
            ``SCOPE_MISSING``; ``metadata["scope"]`` names it.
        """
        if scope not in self.scopes:
            raise PermissionDeniedError(
                f"This needs a key with the scope {scope!r}; yours has"
                f" {', '.join(sorted(self.scopes)) or 'none'}.",
                reason="SCOPE_MISSING",
                scope=scope,
            )
