"""What a data process is told by its parent, and what it answers: JSON lines on its standard streams."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from larvik.services.bundle import ServiceConfig
from larvik_server.flight.limits import StreamLimits


@dataclass(frozen=True, slots=True)
class FlightConfig:
    """Everything that a data process needs; secrets travel by pipe, never in arguments or the environment.

    Attributes
    ----------
    services : ServiceConfig
        Over what.
    host, port : str, int
        Where to listen; port 0 takes a free one.
    tls_cert, tls_key : str or None
        PEM files.
    ticket_secret : bytes
        Key of the tickets' signatures.
    lane : str
        ``bulk``, or ``tiles``: what it is for. Either serves both.
    limits : StreamLimits
        What it takes at once.
    descriptors, addresses : bool
        Which stored objects may be handed out.
    ticket_seconds, listed, grace_s, hang_s
        As in `larvik_server.settings`.
    log_format, log_level : str
        As in `larvik_server.settings`.
    """

    services: ServiceConfig
    host: str
    port: int
    tls_cert: str | None
    tls_key: str | None
    ticket_secret: bytes
    ticket_seconds: int
    lane: str
    limits: StreamLimits
    listed: int
    descriptors: bool
    addresses: bool
    grace_s: float
    hang_s: float
    log_format: str
    log_level: str

    @property
    def location(self) -> str:
        """Where the server listens, as pyarrow names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'grpc+tls' if self.tls_cert else 'grpc'}://{host}:{self.port}"

    def to_json(self) -> str:
        """Return the line that the parent writes."""
        values = asdict(self)
        values["services"]["data"] = str(self.services.data)
        values["ticket_secret"] = base64.b64encode(self.ticket_secret).decode()
        return json.dumps(values)

    @classmethod
    def from_json(cls, line: str) -> FlightConfig:
        """Return what the parent wrote."""
        values: dict[str, Any] = json.loads(line)
        services = values["services"]
        services["data"] = Path(services["data"])
        services["import_roots"], services["models"] = (
            tuple(services["import_roots"]),
            tuple(services["models"]),
        )
        values["limits"] = StreamLimits(**values["limits"])
        values["services"] = ServiceConfig(**services)
        values["ticket_secret"] = base64.b64decode(values["ticket_secret"])
        return cls(**values)
