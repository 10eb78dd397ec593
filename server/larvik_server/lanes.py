"""The lanes of data: one process for bulk data, and others beside it for tiles, which so wait for nothing."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from larvik_server import process
from larvik_server.flight.limits import StreamLimits

if TYPE_CHECKING:
    from larvik.services.bundle import ServiceConfig
    from larvik_server.flight.config import FlightConfig
    from larvik_server.process import DataProcess
    from larvik_server.settings import Limits, Settings

BULK, TILES = "bulk", "tiles"


class Lanes:
    """The data processes of a server.

    Parameters
    ----------
    settings : Settings
        How many, and where they listen.
    services : ServiceConfig
        Over what.
    child : subprocess.Popen
        From `process.spawn`, to become the process for bulk data.
    changed : callable
        Told whether bulk data are served, whenever that may have changed; called from a thread.
    """

    def __init__(
        self,
        settings: Settings,
        services: ServiceConfig,
        child: subprocess.Popen[str],
        changed: Callable[[bool], object],
    ) -> None:
        config = _config(settings, services)
        self._scheme = "grpc+tls" if settings.is_tls else "grpc"
        # An address that only this machine knows is no use to who comes by a public one.
        self._is_told = not settings.public_flight_url or bool(settings.public_tile_url)
        self._public = settings.public_tile_url
        self._serving: dict[int, bool] = {}
        self._bulk = process.DataProcess(child, config, changed)
        self._tiles = [
            self._tile_process(config, settings, number) for number in range(settings.tile_processes)
        ]

    @property
    def port(self) -> int:
        """Of the process for bulk data."""
        return self._bulk.port

    def tile_urls(self) -> list[str]:
        """Return the addresses that serve tiles now; without a host, as the one for bulk data."""
        if not self._is_told:
            return []
        serving = [number for number in range(len(self._tiles)) if self._serving.get(number)]
        if self._public:
            return [self._public] if serving else []
        return [f"{self._scheme}://:{self._tiles[number].port}" for number in serving]

    def start(self) -> None:
        """Start the process for bulk data and wait until it listens; raises as `DataProcess.start`."""
        self._bulk.start()

    def start_tiles(self) -> None:
        """Start the processes for tiles, without waiting: until then the one for bulk data takes tiles."""
        for one in self._tiles:
            one.start_later()

    async def stop(self) -> None:
        """Let all of them drain."""
        await asyncio.gather(*(asyncio.to_thread(one.stop) for one in (self._bulk, *self._tiles)))

    def end(self) -> None:
        """End all of them, one after another; idempotent."""
        for one in (self._bulk, *self._tiles):
            one.stop()

    def _tile_process(self, config: FlightConfig, settings: Settings, number: int) -> DataProcess:
        port = settings.tile_port + number if settings.tile_port else 0

        def changed(is_serving: bool) -> None:
            self._serving[number] = is_serving

        return process.DataProcess(None, replace(config, lane=TILES, port=port, descriptors=False), changed)


def _config(settings: Settings, services: ServiceConfig) -> FlightConfig:
    from larvik_server.flight.config import FlightConfig

    secret = settings.ticket_secret
    return FlightConfig(
        services=services,
        host=settings.host,
        port=settings.flight_port,
        tls_cert=str(settings.tls.cert) if settings.tls.cert else None,
        tls_key=str(settings.tls.key) if settings.tls.key else None,
        ticket_secret=secret.get_secret_value().encode() if secret is not None else secrets.token_bytes(32),
        ticket_seconds=settings.ticket_seconds,
        lane=BULK,
        limits=_stream_limits(settings.limits),
        listed=settings.limits.listed,
        descriptors=settings.handout.descriptors,
        addresses=settings.handout.addresses,
        grace_s=settings.limits.grace_s,
        hang_s=settings.limits.hang_s,
        log_format=settings.log.format,
        log_level=settings.log.level,
    )


def _stream_limits(limits: Limits) -> StreamLimits:
    return StreamLimits(
        streams=limits.streams,
        streams_per_subject=limits.streams_per_subject,
        channels=limits.tile_channels,
        channels_per_subject=limits.tile_channels_per_subject,
        held_bytes=limits.held_bytes,
        held_bytes_per_subject=limits.held_bytes_per_subject,
        stall_s=limits.stall_s,
        stream_s=limits.stream_s,
    )
