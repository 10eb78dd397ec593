"""The ``larvik`` command. Commands that need a server come from ``larvik_server`` by entry point."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with a code of `larvik.cli.errors`."""
    from larvik.cli.app import app
    from larvik.cli.errors import Ending

    with Ending(sys.stderr) as ending:
        for entry in entry_points(group="larvik.commands"):
            entry.load()(app)
        app(arguments, obj=ending)
