"""Settings of lazy arrays that a program may change, for all or for a block of code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from larvik.errors import InvalidArgumentError, suggestion

#: Where an expression may be evaluated; "auto" leaves it to the planner.
PLACES = ("auto", "client", "server", "dask")


@dataclass(frozen=True, slots=True)
class Options:
    """What `set_options` sets.

    Attributes
    ----------
    evaluate : str
        One of `PLACES`.
    """

    evaluate: str = "auto"


_everywhere = Options()
_here: ContextVar[Options | None] = ContextVar("larvik_array_options", default=None)


def options() -> Options:
    """Return the options that hold here: those of the innermost ``with``, else those of the program."""
    return _here.get() or _everywhere


@contextmanager
def evaluating(place: str) -> Iterator[None]:
    """Hold ``evaluate=place`` for a block of code of this thread alone."""
    token = _here.set(replace(options(), evaluate=place))
    try:
        yield
    finally:
        _here.reset(token)


class set_options:  # noqa: N801  # reads as a function, like xarray.set_options
    """Set options for the program, or for a block of code when used with ``with``.

    Parameters
    ----------
    evaluate : {"auto", "client", "server", "dask"}
        Where lazy arrays are computed: where fewest bytes move, in this process, on the server, or
        by Dask (its configured cluster, or this process).

    Raises
    ------
    InvalidArgumentError
        ``ARGUMENT_INVALID``, for another value.

    Examples
    --------
    >>> with set_options(evaluate="client"):
    ...     options().evaluate
    'client'
    """

    def __init__(self, *, evaluate: str) -> None:
        global _everywhere
        if evaluate not in PLACES:
            raise InvalidArgumentError(
                f"evaluate is {str(evaluate)[:40]!r}. {suggestion(str(evaluate)[:40], PLACES)}",
                field="evaluate",
            )
        self._before = _everywhere
        _everywhere = replace(_everywhere, evaluate=evaluate)
        self._set = Options(evaluate=evaluate)

    def __enter__(self) -> Self:
        global _everywhere
        _everywhere = self._before
        self._token = _here.set(self._set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.reset(self._token)
