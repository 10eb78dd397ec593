"""Structured logs on standard error: one line for each event, rendered by structlog.

Everybody logs through the standard library: an event as message, its fields as ``extra``.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure(format: str, level: str) -> None:
    """Send everything that is logged, the standard library's loggers included, through structlog.

    Parameters
    ----------
    format : str
        ``console``, ``json``, or ``auto``: console on a terminal, else json.
    level : str
        Least level that is shown.
    """
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    final: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.StackInfoRenderer(),
    ]
    final += [renderer] if console else [structlog.processors.format_exc_info, renderer]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("larvik", "larvik_server"):
        logging.getLogger(name).setLevel(level.upper())
