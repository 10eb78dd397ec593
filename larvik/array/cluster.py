"""The Dask cluster that evaluates, where one is configured: one client per process and scheduler."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larvik.array.options import options
from larvik.errors import LarvikError, UnavailableError, UnsupportedError
from larvik.profiles import dask_scheduler

#: How long a scheduler gets to answer, in seconds.
CONNECT_S = 10.0

_lock = threading.Lock()
_clients: dict[tuple[int, str], Any] = {}


def scheduler() -> str:
    """Return the address of the configured scheduler: that of `set_options`, else LARVIK_DASK; else empty."""
    return options().dask_scheduler or dask_scheduler()


def compute_graphs(graphs: Sequence[Any], **settings: Any) -> list[NDArray[Any]]:
    """Return the values of Dask arrays, computed together: by the configured cluster, or as Dask is set up.

    Raises
    ------
    UnavailableError
        ``SERVER_UNREACHABLE``, when the scheduler does not answer, or its workers are gone.

    Notes
    -----
    Tasks hold URLs and expressions, never a token: workers find theirs in their own environment or profile
    (``LARVIK_TOKEN``, ``LARVIK_PROFILE``). They read stored chunks themselves, as near to the store as they
    are: from the folder, by descriptors on the server's host, by presigned addresses of a bucket, else
    through the server.
    """
    address = scheduler()
    if not address:
        import dask

        return [np.asarray(value) for value in dask.compute(*graphs, **settings)]
    client = client_of(address)
    futures = client.compute(list(graphs))
    try:
        return [np.asarray(value) for value in client.gather(futures)]
    except LarvikError:
        raise
    except Exception as error:
        if type(error).__module__.startswith("distributed") or isinstance(error, OSError):
            raise UnavailableError(
                f"The Dask cluster at {address} lost its workers or its connection: {error}.",
                reason="SERVER_UNREACHABLE",
                url=address,
            ) from error
        raise
    finally:
        client.cancel(futures, force=True)  # after an interrupt; what is done is let go of


def client_of(address: str) -> Any:
    """Return this process' client of a scheduler; see `compute_graphs` for errors."""
    try:
        from distributed import Client
    except ImportError:
        raise UnsupportedError(
            "A Dask cluster is configured, but distributed is not installed. Install larvik[dask].",
            reason="EXTRA_MISSING",
            extra="dask",
        ) from None
    key = (os.getpid(), address)
    with _lock:
        client = _clients.get(key)
        if client is None or client.status != "running":
            try:
                client = _clients[key] = Client(address, timeout=CONNECT_S, set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                raise UnavailableError(
                    f"No Dask scheduler answers at {address}. Is it running, and is LARVIK_DASK right?",
                    reason="SERVER_UNREACHABLE",
                    url=address,
                ) from error
        return client


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
