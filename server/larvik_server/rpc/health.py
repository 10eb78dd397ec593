"""grpc.health.v1 over the state of this process and its data process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthServicer as Base

from larvik.errors import NotFoundError, UnavailableError

#: Names that a health check may ask for; the empty one means the server as a whole.
SERVICES = (
    "",
    "larvik.proto.v1.CatalogService",
    "larvik.proto.v1.UploadService",
    "arrow.flight.protocol.FlightService",
)
FLIGHT = SERVICES[-1]

_SERVING, _NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING


class HealthServicer(Base):
    """Tells what is serving; `set` changes it."""

    def __init__(self) -> None:
        self._states = dict.fromkeys(SERVICES, pb.HealthCheckResponse.SERVING)
        self._changed = asyncio.Condition()
        self._is_stopped = False

    async def set(self, service: str, *, is_serving: bool) -> None:
        """Change the state of one service; once stopped, nothing serves again."""
        async with self._changed:
            if not self._is_stopped:
                self._states[service] = _SERVING if is_serving else _NOT_SERVING
                self._changed.notify_all()

    async def stop(self) -> None:
        """Say of every service that it no longer serves, and end who watches: the server waits for them."""
        async with self._changed:
            self._is_stopped = True
            self._states = dict.fromkeys(SERVICES, _NOT_SERVING)
            self._changed.notify_all()

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
        """Yield the state of a service now and whenever it changes, until the server stops."""
        last = None
        while True:
            async with self._changed:
                while (state := self._state(request)) == last and not self._is_stopped:
                    await self._changed.wait()
            if state == last:
                raise UnavailableError("The server is shutting down.", reason="SERVER_DRAINING")
            last = state
            yield pb.HealthCheckResponse(status=state)

    def _state(self, request: pb.HealthCheckRequest) -> pb.HealthCheckResponse.ServingStatus:
        return self._states.get(request.service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
