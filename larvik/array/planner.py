"""Where an expression is evaluated: wherever fewest bytes have to move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from larvik.array.demand import decoded_bytes, demand, touched_chunks
from larvik.array.expression import Constant, Expression, Source, walk
from larvik.array.options import options
from larvik.array.regions import lengths, nbytes, whole

#: Bytes per second, and seconds of a call, of a link that was not measured yet.
BANDWIDTH = 125e6
LATENCY_S = 0.002
#: Decoded bytes per second that are computed from, where nothing was measured.
RATE = 500e6
#: How many times longer the server must take before its result is computed here from what is fetched.
WORTH_FETCHING = 2.0


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
    encoding : str
        How the pixels travel from the server: ``chunks``, ``dense``, ``store`` or ``refs``; several joined by
        commas, empty where there is no server.
    encoding_why : str
        One sentence of the server's.
    bytes_stored : int
        Stored bytes of the chunks that are touched, as the server estimates them.
    seconds : mapping of str to float
        How long it would take at each place that was considered, in seconds; a rough estimate.
    """

    where: str
    why: str
    bytes_result: int
    bytes_source: int
    bytes_moved: int
    chunks: int
    encoding: str = ""
    encoding_why: str = ""
    bytes_stored: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        text = (
            f"{self.where}: {self.why} Result {size(self.bytes_result)}, "
            f"{self.chunks:,} stored chunks of {size(self.bytes_source)}, {size(self.bytes_moved)} moved."
        )
        if not self.encoding:
            return text
        return (
            f"{text} Encoding {self.encoding}: {self.encoding_why}"
            f" About {size(self.bytes_stored)} are stored."
        )


class Link(Protocol):
    """What is known of the way to a server; None where nothing was measured yet."""

    @property
    def bandwidth(self) -> float | None:
        """Bytes per second."""

    @property
    def latency_s(self) -> float | None:
        """Of a small call, there and back."""

    @property
    def server_rate(self) -> float | None:
        """Decoded bytes per second that the server computes from."""


def plan(
    expressions: Expression | Sequence[Expression],
    *,
    remote: bool,
    where: str | None = None,
    link: Link | None = None,
) -> Plan:
    """Return where `expressions` are best evaluated together.

    Parameters
    ----------
    expressions : Expression or sequence of Expression
        What is computed.
    remote : bool
        Whether the stored arrays are behind a server.
    where : str, optional
        ``auto``, ``client``, ``server`` or ``dask``; by default what `set_options` says.
    link : Link, optional
        What was measured of the way to the server.

    Notes
    -----
    Reads no pixels. "auto" compares the selected bytes of the sources with those of the result and
    of the constants that would be sent; where these are equal, the sources are fetched. Where bandwidth
    was measured, it compares how long either takes: a fast link to a slow server is better used to fetch.
    """
    results = [expressions] if isinstance(expressions, Expression) else list(expressions)
    wanted = where or options().evaluate
    figures = _figures(results)
    seconds = _seconds(figures, link) if remote else {}
    place, why = _choose(figures, remote, wanted, seconds if link is not None and link.bandwidth else {})
    moved = (
        {"server": figures.sent + figures.result, "client": figures.fetched}.get(place, 0) if remote else 0
    )
    return Plan(place, why, figures.result, figures.source, moved, figures.chunks, seconds=seconds)


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


def _seconds(figures: _Figures, link: Link | None) -> dict[str, float]:
    """Return about how long fetching and computing here, and computing there, would take."""
    bandwidth = (link.bandwidth if link is not None else None) or BANDWIDTH
    latency = (link.latency_s if link is not None else None) or LATENCY_S
    rate = (link.server_rate if link is not None else None) or RATE
    return {
        "client": 2 * latency + max(figures.fetched / bandwidth, figures.source / RATE),
        "server": 2 * latency + (figures.sent + figures.result) / bandwidth + figures.source / rate,
    }


def _choose(figures: _Figures, remote: bool, wanted: str, seconds: Mapping[str, float]) -> tuple[str, str]:
    if wanted == "dask":
        return "dask", "Dask was asked for; its workers read the chunks."
    if not remote:
        return "client", "The arrays are in this process' own store, so nothing has to move."
    if wanted != "auto":
        return wanted, f"The {wanted} was asked for."
    pushed = figures.result + figures.sent
    if seconds and pushed < figures.fetched:
        # Only where the server clearly is what takes long; its time is everybody's.
        slow = seconds["server"] > WORTH_FETCHING * seconds["client"]
        return ("client" if slow else "server"), (
            f"On this link the server would take about {seconds['server']:.2g} s, fetching "
            f"{size(figures.fetched)} and computing here {seconds['client']:.2g} s."
        )
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
