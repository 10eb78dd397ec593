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
#: How stored pixels may travel from a server; "auto" leaves it to both ends.
ENCODINGS = ("auto", "chunks", "dense", "store", "refs", "tiles")


@dataclass(frozen=True, slots=True)
class Options:
    """What `set_options` sets.

    Attributes
    ----------
    evaluate : str
        One of `PLACES`.
    encoding : str
        One of `ENCODINGS`.
    dask_scheduler : str
        Address of the Dask scheduler; empty for that of ``LARVIK_DASK``, or none.
    """

    evaluate: str = "auto"
    encoding: str = "auto"
    dask_scheduler: str = ""


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
    evaluate : {"auto", "client", "server", "dask"}, optional
        Where lazy arrays are computed: where fewest bytes move, in this process, on the server, or
        by Dask (its configured cluster, or this process).
    encoding : {"auto", "chunks", "dense", "store", "refs", "tiles"}, optional
        How stored pixels travel from a server: as is cheapest; as stored chunks that are decoded here;
        decoded; as descriptors of the stored objects, on the same host; as presigned addresses of them, from
        a bucket; as one message of the tile channel. A server that cannot refuses the read. What the server
        computes always travels decoded.
    dask_scheduler : str, optional
        Address of the Dask scheduler (``tcp://host:port``) that computes what "dask" evaluates; without it
        that of ``LARVIK_DASK``, else whatever Dask itself is set up for. Workers find their token in their
        own environment or profile.

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

    def __init__(
        self,
        *,
        evaluate: str | None = None,
        encoding: str | None = None,
        dask_scheduler: str | None = None,
    ) -> None:
        global _everywhere
        given = {"evaluate": (evaluate, PLACES), "encoding": (encoding, ENCODINGS)}
        for name, (value, known) in given.items():
            if value is not None and value not in known:
                raise InvalidArgumentError(
                    f"{name} is {str(value)[:40]!r}. {suggestion(str(value)[:40], known)}", field=name
                )
        self._changes = {name: value for name, (value, _) in given.items() if value is not None}
        if dask_scheduler is not None:
            self._changes["dask_scheduler"] = dask_scheduler
        self._before = _everywhere
        _everywhere = replace(_everywhere, **self._changes)

    def __enter__(self) -> Self:
        global _everywhere
        _everywhere = self._before
        self._token = _here.set(replace(options(), **self._changes))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.reset(self._token)
