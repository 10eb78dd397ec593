"""Larvik's server at the other end of a shaped link."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from ground import Ground, port_of
from peers.service import free_port


class Far:
    """A server that is reached over a shaped link. A context manager.

    Attributes
    ----------
    url : str
        Its address at this end.
    """

    def __init__(self, here: Ground) -> None:
        self._here = here
        self._stack = ExitStack()
        self.url = ""

    def __enter__(self) -> Self:
        # The server tells clients where its Flight port is: it has to name the link's.
        here, port = self._here, free_port()
        link = self._stack.enter_context(here.link_to(port))
        here.stop_larvik()
        public = f"grpc://127.0.0.1:{link.ports[0]}"
        server = here.larvik("--flight-port", str(port), LARVIK_PUBLIC_FLIGHT_URL=public)
        self._stack.callback(here.stop_larvik)
        outer = self._stack.enter_context(here.link_to(port_of(server.url)))
        self.url = f"larvik://127.0.0.1:{outer.ports[0]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
