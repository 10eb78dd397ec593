"""grpc.health.v1 over the state of this process and its data process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthServicer as Base

from larvik.errors import NotFoundError

#: Names that a health check may ask for; the empty one means the server as a whole.
SERVICES = (
    "",
    "larvik.proto.v1.CatalogService",
    "larvik.proto.v1.UploadService",
    "arrow.flight.protocol.FlightService",
)
FLIGHT = SERVICES[-1]


class HealthServicer(Base):
    """Tells what is serving; `set` changes it."""

    def __init__(self) -> None:
        self._states = dict.fromkeys(SERVICES, pb.HealthCheckResponse.SERVING)
        self._changed = asyncio.Condition()

    async def set(self, service: str, is_serving: bool) -> None:
        """Change the state of one service."""
        state = pb.HealthCheckResponse.SERVING if is_serving else pb.HealthCheckResponse.NOT_SERVING
        async with self._changed:
            self._states[service] = state
            self._changed.notify_all()

    async def stop(self) -> None:
        """Say of every service that it no longer serves."""
        for service in SERVICES:
            await self.set(service, is_serving=False)

    async def Check(self, request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:  # noqa: N802
        """Return the state of a service."""
        if request.service not in self._states:
            raise NotFoundError(f"There is no service {request.service[:200]!r}.", reason="SERVICE_UNKNOWN")
        return pb.HealthCheckResponse(status=self._states[request.service])

    async def List(self, request: pb.HealthListRequest, context: Any) -> pb.HealthListResponse:  # noqa: N802
        """Return the state of every service."""
        states = {name: pb.HealthCheckResponse(status=state) for name, state in self._states.items()}
        return pb.HealthListResponse(statuses=states)

    async def Watch(  # noqa: N802
        self, request: pb.HealthCheckRequest, context: Any
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """Yield the state of a service now and whenever it changes."""
        last = None
        while True:
            async with self._changed:
                state = self._states.get(request.service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
                if state == last:
                    await self._changed.wait()
                    continue
            last = state
            yield pb.HealthCheckResponse(status=state)
