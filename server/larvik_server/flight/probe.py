"""Asking a data process' own listener whether it still answers."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.flight as flight

from larvik_server.flight.config import FlightConfig
from larvik_server.flight.gate import HEALTH, PROBE_HEADER

log = logging.getLogger(__name__)

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


class Probe:
    """Calls the health action of a listener of this process, as a caller from outside would.

    Parameters
    ----------
    config : FlightConfig
        Of this process.
    port : int
        Where it listens.
    secret : str
        Tells the gate that this is no stranger.
    """

    def __init__(self, config: FlightConfig, port: int, secret: str) -> None:
        host = _EVERYWHERE.get(config.host, f"[{config.host}]" if ":" in config.host else config.host)
        # The certificate names the host by which others reach it; this connection stays on the machine.
        options = {"disable_server_verification": True} if config.tls_cert else {}
        scheme = "grpc+tls" if config.tls_cert else "grpc"
        self._client = flight.FlightClient(f"{scheme}://{host}:{port}", **options)
        headers = [(PROBE_HEADER.encode(), secret.encode())]
        self._options = flight.FlightCallOptions(timeout=config.hang_s, headers=headers)

    def is_answered(self) -> bool:
        """Return whether the listener answers in time."""
        try:
            return bool(list(self._client.do_action(flight.Action(HEALTH, b""), self._options)))
        except (pa.ArrowException, OSError) as error:
            log.warning("probe.failed", extra={"error": str(error)[:200]})
            return False
