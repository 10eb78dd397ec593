"""The environment of the peers that do not install beside Larvik: ``.tools/peers``, made by make."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".tools" / "peers"
PYTHON = FOLDER / "bin" / "python"


_left_out = False


def leave_out() -> None:
    """Measure without what lives in that environment: servers that take seconds to start."""
    global _left_out
    _left_out = True


def missing(name: str) -> str | None:
    """Tell why the peer called `name` cannot run here; None when it can."""
    if _left_out:
        return "left out"
    return None if installed(name) else f"{name} is not installed (make .tools/.peers-ready)"


@cache
def installed(name: str) -> bool:
    """Whether the environment has the package called `name`."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return PYTHON.exists() and (FOLDER / "lib" / version / "site-packages" / name).is_dir()
