"""Where to connect: what was given, the environment, and profiles: named servers with their tokens.

Profiles are kept in ``profiles.toml`` of the user's configuration.

The file::

    current = "lab"

    [profiles.lab]
    url = "larvik://larvik.example.org:7410"
    token = "..."
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from larvik.errors import InvalidArgumentError, suggestion

#: Schemes of servers.
REMOTE = ("larvik", "larvik+insecure")


@dataclass(frozen=True, slots=True)
class Profile:
    """One server, or folder, and the token to use there; the token never shows in a repr."""

    name: str
    url: str
    token: str | None = field(default=None, repr=False)


def path() -> Path:
    """Return where the profiles are kept, below ``XDG_CONFIG_HOME``."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "larvik" / "profiles.toml"


def load() -> list[Profile]:
    """Return every profile of the file; none when there is no file.

    Raises
    ------
    InvalidArgumentError
        ``PROFILE_INVALID``, when the file cannot be understood; names it.
    """
    found = _read().get("profiles", {})
    if not isinstance(found, dict):
        raise _invalid("profiles is not a table")
    return [_profile(name, values) for name, values in found.items()]


def current() -> Profile | None:
    """Return the profile that ``LARVIK_PROFILE``, else the file's ``current``, names; None without either."""
    name = os.environ.get("LARVIK_PROFILE") or _read().get("current")
    if not name:
        return None
    known = {profile.name: profile for profile in load()}
    if name not in known:
        raise _invalid(
            f"there is no profile {str(name)[:80]!r}. {suggestion(str(name)[:80], known)}".rstrip(".")
        )
    return known[str(name)]


def dask_scheduler() -> str:
    """Return the address of the Dask scheduler that ``LARVIK_DASK`` names; empty without one."""
    return os.environ.get("LARVIK_DASK", "")


def destination(given: str | os.PathLike[str] | None) -> tuple[str, str | None]:
    """Return where to connect, and the token that the environment or a profile has for it."""
    where: object = os.environ.get("LARVIK_URL") or os.environ.get("LARVIK_DATA") or None
    if given is not None:
        where = os.fspath(given) if isinstance(given, os.PathLike) else given
    if where is None:
        profile = current()
        if profile is not None:
            return profile.url, profile.token
        raise InvalidArgumentError(
            "Nothing says where to connect: give a URL or a folder, set LARVIK_URL or LARVIK_DATA,"
            f" or name a current profile in {path()}.",
            reason="URL_INVALID",
        )
    if not isinstance(where, str) or not where.strip() or "\0" in where:  # bytes, a number, ...
        raise InvalidArgumentError(
            "The URL or folder to connect to is empty or not text.", reason="URL_INVALID"
        )
    return where, _token_for(where) if scheme(where) in REMOTE else None


def _token_for(url: str) -> str | None:
    """Return the token for `url`: that of the environment unless it is another URL's, else a profile's."""
    meant = os.environ.get("LARVIK_URL", url)
    if os.environ.get("LARVIK_TOKEN") and meant.rstrip("/") == url.rstrip("/"):
        return os.environ["LARVIK_TOKEN"]
    return next((one.token for one in load() if one.url.rstrip("/") == url.rstrip("/")), None)


def scheme(where: str) -> str:
    """Return the scheme of a URL in lower case; empty for a folder."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", where)
    return found[1].lower() if found else ""


def _read() -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _invalid(f"it cannot be read: {error}") from None


def _profile(name: str, values: object) -> Profile:
    url = values.get("url") if isinstance(values, dict) else None
    token = values.get("token") if isinstance(values, dict) else None
    if not isinstance(url, str) or not isinstance(token, str | None):
        raise _invalid(f'profile {name!r} needs url = "...", and token = "..." if any')
    return Profile(name, url, token)


def _invalid(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{path()}: {problem}.", reason="PROFILE_INVALID")
