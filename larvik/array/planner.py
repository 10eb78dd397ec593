"""Where an expression is evaluated: wherever fewest bytes have to move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from larvik.array.demand import decoded_bytes, demand, touched_chunks
from larvik.array.expression import Constant, Expression, Source, walk
from larvik.array.options import options
from larvik.array.regions import lengths, nbytes, whole


@dataclass(frozen=True, slots=True)
class Plan:
    """Where and why, with the figures behind it.

    Attributes
    ----------
    where : str
        ``client`` (this process), ``server`` (push-down) or ``dask``.
    why : str
        One sentence.
    bytes_result : int
        Bytes of the result.
    bytes_source : int
        Decoded bytes of the stored chunks that are touched.
    bytes_moved : int
        Bytes that travel between client and server; 0 where there is no server.
    chunks : int
        Stored chunks that are touched.
    """

    where: str
    why: str
    bytes_result: int
    bytes_source: int
    bytes_moved: int
    chunks: int

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.why} Result {size(self.bytes_result)}, "
            f"{self.chunks:,} stored chunks of {size(self.bytes_source)}, {size(self.bytes_moved)} moved."
        )


def plan(expressions: Expression | Sequence[Expression], *, remote: bool, where: str | None = None) -> Plan:
    """Return where `expressions` are best evaluated together.

    Parameters
    ----------
    expressions : Expression or sequence of Expression
        What is computed.
    remote : bool
        Whether the stored arrays are behind a server.
    where : str, optional
        ``auto``, ``client``, ``server`` or ``dask``; by default what `set_options` says.

    Notes
    -----
    Reads no pixels. "auto" compares the selected bytes of the sources with those of the result and
    of the constants that would be sent; where these are equal, the sources are fetched.
    """
    results = [expressions] if isinstance(expressions, Expression) else list(expressions)
    wanted = where or options().evaluate
    figures = _figures(results)
    place, why = _choose(figures, remote, wanted)
    moved = (
        {"server": figures.sent + figures.result, "client": figures.fetched}.get(place, 0) if remote else 0
    )
    return Plan(place, why, figures.result, figures.source, moved, figures.chunks)


@dataclass(frozen=True, slots=True)
class _Figures:
    """Bytes of the result, of constants, of selected elements and of touched chunks; their number."""

    result: int
    sent: int
    fetched: int
    source: int
    chunks: int


def _figures(results: Sequence[Expression]) -> _Figures:
    distinct = list({id(node): node for node in results}.values())
    needed = demand((node, whole(node.shape)) for node in distinct if node.size)
    sources = [(node, regions) for node, regions in needed.items() if isinstance(node, Source)]
    return _Figures(
        result=sum(node.nbytes for node in distinct),
        sent=sum(
            node.nbytes
            for node in walk(distinct)
            if isinstance(node, Constant) and isinstance(node.value, np.ndarray)
        ),
        fetched=sum(nbytes(lengths(part), node.dtype.itemsize) for node, parts in sources for part in parts),
        source=sum(decoded_bytes(node, part) for node, parts in sources for part in parts),
        chunks=sum(touched_chunks(node, part) for node, parts in sources for part in parts),
    )


def _choose(figures: _Figures, remote: bool, wanted: str) -> tuple[str, str]:
    if wanted == "dask":
        return "dask", "Dask was asked for; its workers read the chunks."
    if not remote:
        return "client", "The arrays are in this process' own store, so nothing has to move."
    if wanted != "auto":
        return wanted, f"The {wanted} was asked for."
    pushed = figures.result + figures.sent
    if pushed < figures.fetched:
        return "server", (
            f"Sending the expression moves {size(pushed)}, fetching what it reads would move "
            f"{size(figures.fetched)}."
        )
    return (
        "client",
        f"Fetching moves {size(figures.fetched)}, no more than the {size(pushed)} of evaluating it there.",
    )


def size(count: int) -> str:
    """Return a number of bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
