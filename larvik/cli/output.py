"""Tables, JSON and progress: rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from larvik.cli.errors import OutputClosedError
from larvik.connection import Progress


def write(line: str) -> None:
    """Write one line to standard output.

    Raises
    ------
    OutputClosedError
        When whoever read it has left.
    """
    try:
        sys.stdout.write(line + "\n")
    except BrokenPipeError:
        raise OutputClosedError from None


def print_json(value: object) -> None:
    """Write `value` as JSON, one document; times as ISO 8601, bytes as hex, NaN and infinity as null."""
    write(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat() if value == value else None  # pandas' NaT is a datetime too
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)  # of NumPy


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str = "") -> None:
    """Write rows as a table on a terminal, as tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            write("\t".join(_cell(value) for value in row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        caption=caption or None, caption_justify="left", header_style="bold", box=None, pad_edge=False
    )
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    Console().print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return str(value).replace("\t", " ").replace("\n", " ")


def size_text(size_bytes: float) -> str:
    """Return a size for people: ``3.4 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size_bytes) < 1024 or unit == "TiB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Give a function that draws a bar on a terminal, and a line every tenth elsewhere."""
    if sys.stderr.isatty():
        with _bar(title) as update:
            yield update
    else:
        yield _Lines(title)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """Progress without a terminal: one line each tenth of the way."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._tenth = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth > self._tenth:
            self._tenth = tenth
            sys.stderr.write(f"{self._title} {tenth * 10}%\n")
