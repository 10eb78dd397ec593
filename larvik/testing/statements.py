"""Counting SQL statements: a test says how many a call may cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Observed(Protocol):
    """A database that tells what it runs: `larvik.db.engine.Database`."""

    observers: list[Callable[[str], None]]


@contextmanager
def count_statements(database: Observed) -> Iterator[list[str]]:
    """Give a list that fills with the text of every statement while the block runs.

    Notes
    -----
    Statements of every thread count; BEGIN, COMMIT and ROLLBACK do not.
    """
    statements: list[str] = []
    database.observers.append(statements.append)
    try:
        yield statements
    finally:
        database.observers.remove(statements.append)
