"""The composition root: starts and stops the listeners over one set of services."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from larvik_server import process

if TYPE_CHECKING:
    from larvik.services.bundle import ServiceConfig, Services
    from larvik.services.identity import IssuedKey
    from larvik_server.lanes import Lanes
    from larvik_server.rpc.listener import RpcListener
    from larvik_server.settings import Settings


def serve(flags: Mapping[str, Any], file: Path | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Parameters as of `larvik_server.settings.load`.

    Notes
    -----
    The data process is spawned first, so that its imports run beside everything else here.
    """
    child = process.spawn()
    try:
        from larvik_server.settings import check_exposure, load

        settings = load(flags, file)
        check_exposure(settings)
        return asyncio.run(_serve(settings, child))
    finally:
        process.end(child)


async def _serve(settings: Settings, child: subprocess.Popen[str]) -> int:
    from larvik_server.rpc.listener import RpcListener

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = RpcListener(settings.host, settings.port, settings.tls, settings.limits)
    try:
        await _run(settings, child, listener, stop)
    finally:
        await listener.stop(0)
    print("larvik: stopped", flush=True)
    return 0


async def _run(
    settings: Settings, child: subprocess.Popen[str], listener: RpcListener, stop: asyncio.Event
) -> None:
    """Open the services, start both listeners, and drain them when `stop` is set."""
    from larvik.services.bundle import open_services

    url = connect_url(settings, listener.port)
    with ExitStack() as stack:
        services = stack.enter_context(open_services(service_config(settings), serve_url=url))
        token = settings.token.get_secret_value() if settings.token is not None else None
        services.identity.preset(token)
        keys = [] if token is not None else services.identity.first_start()
        lanes = _lanes(settings, child, asyncio.get_running_loop(), listener)
        stack.callback(lanes.end)
        await asyncio.to_thread(lanes.start)
        await _start_rpc(settings, listener, services, lanes)
        _announce(settings, url, lanes.port, keys)
        lanes.start_tiles()
        await asyncio.to_thread(_settle, settings, services)
        await stop.wait()
        print("larvik: draining, running calls finish first", flush=True)
        await asyncio.gather(listener.stop(settings.limits.grace_s), lanes.stop())


def _settle(settings: Settings, services: Services) -> None:
    """Load what the first calls will need but readiness does not."""
    from larvik_server import logs

    logs.configure(settings.log.format, settings.log.level)
    services.copier.start()
    _ = services.imports


def _lanes(
    settings: Settings, child: subprocess.Popen[str], loop: asyncio.AbstractEventLoop, listener: RpcListener
) -> Lanes:
    from larvik_server.lanes import Lanes
    from larvik_server.rpc.health import FLIGHT

    def changed(is_serving: bool) -> None:
        asyncio.run_coroutine_threadsafe(listener.health.set(FLIGHT, is_serving=is_serving), loop)

    return Lanes(settings, service_config(settings), child, changed)


async def _start_rpc(settings: Settings, listener: RpcListener, services: Services, lanes: Lanes) -> None:
    from importlib.metadata import version

    from larvik_server.rpc.catalog import Description

    # Without a host the client uses the one that it reached this server by: right through tunnels and
    # containers.
    own = f"{'grpc+tls' if settings.is_tls else 'grpc'}://:{lanes.port}"
    await listener.start(
        services,
        Description(
            version("larvik"),
            settings.public_flight_url or own,
            settings.public_http_url,
            ("dense", "tiles"),
            lanes.tile_urls,
        ),
    )


def service_config(settings: Settings) -> ServiceConfig:
    """Return what the services are opened over."""
    from larvik.services.bundle import ServiceConfig

    options = settings.store.model_dump(exclude_none=True)
    for name in ("secret", "token"):
        if name in options:
            options[name] = options[name].get_secret_value()
    database = settings.database_url
    return ServiceConfig(
        data=settings.data,
        database_url=database.get_secret_value() if database is not None else None,
        store_url=settings.store_url,
        store_options=options,
        import_roots=settings.import_roots,
        models=settings.models,
        decode_uploads=settings.decode_uploads,
        disk_cache_bytes=settings.disk_cache_bytes,
        disk_cache=str(settings.disk_cache) if settings.disk_cache else None,
        dask=settings.dask,
    )


def connect_url(settings: Settings, port: int) -> str:
    """Return the URL by which a client on this machine reaches the server."""
    from larvik_server.settings import is_loopback

    wildcard = settings.host in ("0.0.0.0", "::", "")
    host = "127.0.0.1" if wildcard else settings.host
    plain = not settings.is_tls and not is_loopback(host)
    shown = f"[{host}]" if ":" in host else host
    return f"{'larvik+insecure' if plain else 'larvik'}://{shown}:{port}"


def _announce(settings: Settings, url: str, flight_port: int, keys: Sequence[IssuedKey]) -> None:
    """Say how to connect; a launcher waits for the line that begins with ``larvik: ready``."""
    from larvik_server.settings import is_loopback

    lines = []
    token = "your token"
    for key in keys:
        lines.append(f"larvik: new key {key.name!r} ({', '.join(key.scopes)}), shown only now: {key.token}")
    if keys:
        token = keys[0].token
    elif settings.token is not None:
        token = "what LARVIK_TOKEN holds"
    flight_host = url.split("://")[1].rpartition(":")[0]
    # On the loopback a larvik:// URL means clear text, unless the caller says otherwise.
    tls = ", tls=True" if settings.is_tls and is_loopback(flight_host.strip("[]")) else ""
    scheme = "grpc+tls" if settings.is_tls else "grpc"
    lines += [
        f"larvik: ready at {url} (Flight: {scheme}://{flight_host}:{flight_port}), data in {settings.data}",
        "",
        "  import larvik",
        f'  larvik.connect("{url}", token="{token}"{tls})',
        "",
    ]
    print("\n".join(lines), flush=True)
