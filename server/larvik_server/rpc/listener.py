"""The gRPC server: one port, the gate, the servicers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from larvik.errors import InvalidArgumentError, PreconditionError
from larvik.proto.v1 import catalog_pb2, uploads_pb2
from larvik.proto.v1.catalog_pb2_grpc import add_CatalogServiceServicer_to_server
from larvik.proto.v1.uploads_pb2_grpc import add_UploadServiceServicer_to_server
from larvik.services.bundle import Services
from larvik.services.identity import CACHE_S, IdentityService
from larvik.services.principal import Principal
from larvik_server.rpc.calls import Gate
from larvik_server.rpc.catalog import CatalogServicer, Description
from larvik_server.rpc.health import SERVICES, HealthServicer
from larvik_server.rpc.scopes import METHODS
from larvik_server.rpc.threads import Threads
from larvik_server.rpc.uploads import UploadServicer
from larvik_server.settings import Limits, Tls


class RpcListener:
    """Binds its port when made, serves from `start` to `stop`.

    Raises
    ------
    PreconditionError
        ``PORT_IN_USE``; names host and port.
    """

    def __init__(self, host: str, port: int, tls: Tls, limits: Limits) -> None:
        self._limits = limits
        self._authenticate: Callable[[str], Awaitable[Principal]] | None = None
        self.gate = Gate(self._principal, METHODS, limits.deadline_s)
        self.threads = Threads(limits.threads, limits.long_threads)
        self.health = HealthServicer()
        options = [
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_send_message_length", 2 * limits.message_bytes),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(
            interceptors=[self.gate], options=options, maximum_concurrent_rpcs=limits.calls
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls.cert is None or tls.key is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, _credentials(tls.cert, tls.key))
        except RuntimeError:
            raise PreconditionError(
                f"The gRPC port {port} of {host} cannot be taken: another program may listen there. Choose"
                " another with --port.",
                reason="PORT_IN_USE",
                field="port",
            ) from None

    async def start(self, services: Services, description: Description) -> None:
        """Serve `services`."""
        self._authenticate = Tokens(services.identity, self.threads).principal
        catalog = CatalogServicer(
            services.catalog, self.threads, description, self._limits.message_bytes, services.copier.wake
        )
        uploads = UploadServicer(services, self.threads)
        add_CatalogServiceServicer_to_server(catalog, self._server)
        add_UploadServiceServicer_to_server(uploads, self._server)
        add_HealthServicer_to_server(self.health, self._server)
        names = [
            catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].full_name,
            uploads_pb2.DESCRIPTOR.services_by_name["UploadService"].full_name,
            "grpc.health.v1.Health",
            reflection.SERVICE_NAME,
        ]
        reflection.enable_server_reflection(names, self._server)
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, let running ones finish for `grace_s` seconds, then end them."""
        self.gate.is_draining = True
        await self.health.stop()
        await self._server.stop(grace_s)
        self.threads.stop()

    async def _principal(self, token: str) -> Principal:
        assert self._authenticate is not None, "no call is taken before the services are there"
        return await self._authenticate(token)


class Tokens:
    """Tells whom tokens stand for, without a thread for those that the identity service still believes."""

    def __init__(self, identity: IdentityService, threads: Threads) -> None:
        self._identity = identity
        self._threads = threads
        self._believed: dict[str, float] = {}

    async def principal(self, token: str) -> Principal:
        """Return the principal of a token; see `IdentityService.authenticate`."""
        if time.monotonic() < self._believed.get(token, 0.0):
            return self._identity.authenticate(token)
        began = time.monotonic()
        found = await self._threads.run(self._identity.authenticate, token)
        if len(self._believed) > 10_000:
            self._believed.clear()
        # Not to the last moment: the service itself would ask the database then, on the event loop.
        self._believed[token] = began + CACHE_S * 0.8
        return found


def _credentials(cert: Path, key: Path) -> grpc.ServerCredentials:
    try:
        # gRPC itself would only say that it cannot take the port.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        return grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    except OSError as error:
        raise InvalidArgumentError(
            f"The certificate and key cannot be used: {error.strerror}. Name a PEM file of each that belong"
            " together; the key has no password.",
            reason="CERTIFICATE_INVALID",
            field="tls",
        ) from None


__all__ = ["SERVICES", "RpcListener"]
