"""The embedded connection: the services run in this process, over a data folder."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # its hooks around fork come in pairs: before `_before_fork`
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from larvik.connection import Cancelled, Progress, Upload
from larvik.errors import PreconditionError
from larvik.models.generic import model_class
from larvik.query.query import Record
from larvik.schema import Registry
from larvik.services.bound import BoundCatalog, BoundUploads
from larvik.services.bundle import ServiceConfig, Services, open_services
from larvik.services.import_options import ImportOptions
from larvik.services.principal import Principal

if TYPE_CHECKING:
    import pyarrow as pa

    from larvik.array.expression import Source
    from larvik.array.local import LocalEvaluator
    from larvik.array.spec import ArraySpec
    from larvik.models.array import LarvikArray
    from larvik.models.base import Model
    from larvik.storage.engine import RegionReader
    from larvik.storage.zarr_store import ReadOnlyStore


#: How long a fork waits for modules that are being loaded, in seconds.
_LONGEST_WARM_UP_S = 10.0


class EmbeddedArrays(BoundUploads):
    """Pixels and tables of one folder, for its local user. Satisfies `larvik.connection.Arrays`."""

    def __init__(
        self, services: Services, principal: Principal, url: str, here: Callable[[], _Opened]
    ) -> None:
        super().__init__(lambda: services.uploads, principal)
        self._services = services
        self._url = url
        self._here = here
        self._evaluator: LocalEvaluator | None = None

    @property
    def evaluator(self) -> LocalEvaluator:
        """What lazy arrays of this connection evaluate through."""
        if self._evaluator is None:
            from larvik.array.local import LocalEvaluator

            self._evaluator = LocalEvaluator(self._open, self._url)
        return self._evaluator

    def _open(self, source: Source) -> RegionReader:
        # Lazy arrays outlive a close and a fork: what is open now, in this process, reads for them.
        opened = self._here()
        return opened.services.arrays.source_reader(opened.principal, source)

    def begin(  # type: ignore[override]  # gives what connections promise
        self,
        model: str,
        values: Mapping[str, object],
        spec: ArraySpec,
        biometa: Mapping[str, Sequence[Mapping[str, object]]],
    ) -> Upload:
        """Open a session for one new array of `model`."""
        begun = super().begin(model, values, spec, biometa)
        return Upload(begun.id, begun.model, begun.array_id, begun.spec, begun.document)

    def write_table(self, values: Mapping[str, object], rows: pa.Table) -> Record:
        """Store a measurement table; return its row of model ``Table``."""
        return self._services.tables.write(self._principal, values, rows)

    def read_table(self, id: str) -> pa.Table:
        """Return the rows of a measurement table."""
        return self._services.tables.read(self._principal, id)

    def import_path(
        self,
        path: str,
        options: Mapping[str, object],
        *,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> list[Record]:
        """Import or register a path; in this process any path that its user may read."""
        return self._services.imports.import_path(
            self._principal,
            path,
            ImportOptions.of(options),
            progress=progress,
            cancelled=cancelled,
            anywhere=True,
        )


class EmbeddedConnection:
    """A data folder opened in this process. Satisfies `larvik.connection.Connection`.

    Parameters
    ----------
    folder : str or path
        The data folder; made, with an empty database, when it is missing.
    database_url, store_url, store_options
        Where rows and arrays are, when not in the folder; see `larvik.services.bundle.ServiceConfig`.
    import_roots : sequence of str
        Folders that arrays may be registered below.
    models : sequence of str
        Import packages with models of one's own.
    create : bool
        Whether to make what is missing.

    Raises
    ------
    NotFoundError
        ``FOLDER_NOT_FOUND``, when nothing may be made and the folder is none of Larvik's.
    PreconditionError
        ``FOLDER_SERVED``, when a server holds the folder (names its URL); ``DATA_ON_NETWORK``;
        ``SCHEMA_OUTDATED`` or ``SCHEMA_UNKNOWN``.

    Notes
    -----
    Threads share it. A forked child gets services of its own at the first use; the parent's are
    neither used nor closed there.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        database_url: str | None = None,
        store_url: str | None = None,
        store_options: Mapping[str, Any] | None = None,
        import_roots: Sequence[str] = (),
        models: Sequence[str] = (),
        create: bool = True,
    ) -> None:
        self._create = create
        self._config = ServiceConfig(
            data=Path(os.path.abspath(os.path.expanduser(folder))),
            database_url=database_url,
            store_url=store_url,
            store_options=dict(store_options or {}),
            import_roots=tuple(import_roots),
            models=tuple(models),
        )
        self.url = self._config.data.as_uri()
        self.is_closed = False
        self._lock = threading.RLock()
        self._opened: _Opened | None = None
        self._inherited: list[_Opened] = []
        _connections.add(self)
        self._here()
        _start_warm_up()

    @property
    def services(self) -> Services:
        """The services of this process."""
        return self._here().services

    @property
    def registry(self) -> Registry:
        """The models."""
        return self._here().services.registry

    @property
    def catalog(self) -> BoundCatalog:
        """Rows."""
        return self._here().catalog

    @property
    def arrays(self) -> EmbeddedArrays:
        """Pixels and tables."""
        return self._here().arrays

    def model(self, name: str) -> type[Model]:
        """Return the class of a model by name."""
        return model_class(name, self.registry)

    def store(self, row: LarvikArray, *, level: int | None = None) -> ReadOnlyStore:
        """Return the array of `row` as a read-only Zarr store."""
        from larvik.storage.connected import open_store

        return open_store(row, self.arrays.evaluator, level)

    def close(self) -> None:
        """Write what is left to write, release files; idempotent."""
        with self._lock:
            if not self.is_closed:
                self.is_closed = True
                if self._opened is not None and self._opened.pid == os.getpid():
                    self._opened.close()

    def _here(self) -> _Opened:
        opened = self._opened
        if opened is not None and opened.pid == os.getpid() and not self.is_closed:
            return opened
        with self._lock:
            if self.is_closed:
                raise PreconditionError(
                    f"The connection to {self.url} is closed. Call larvik.connect(...) again.",
                    reason="CONNECTION_CLOSED",
                )
            if self._opened is None or self._opened.pid != os.getpid():
                if self._opened is not None:
                    self._inherited.append(self._opened)  # the parent's: never used here, never closed here
                self._opened = _Opened(self._config, self.url, self._here, create=self._create)
            return self._opened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmbeddedConnection {self.url}{' (closed)' if self.is_closed else ''}>"


class _Opened:
    """What one process has open."""

    def __init__(self, config: ServiceConfig, url: str, here: Callable[[], _Opened], *, create: bool) -> None:
        self.pid = os.getpid()
        self.services = open_services(config, create=create)
        try:
            self.principal = self.services.identity.local()
        except BaseException:
            self.services.close()
            raise
        self.catalog = BoundCatalog(self.services.catalog, self.principal, self.services.edited)
        self.arrays = EmbeddedArrays(self.services, self.principal, url, here)
        # Also when nobody closes the connection before the interpreter ends.
        self._finish = weakref.finalize(self, _finish, self.services, self.pid)

    def close(self) -> None:
        self._finish()


def _finish(services: Services, pid: int) -> None:
    if os.getpid() == pid:
        services.close()


_warming: threading.Thread | None = None


def _start_warm_up() -> None:
    global _warming
    _warming = threading.Thread(target=_warm_up, name="larvik-warm-up", daemon=True)
    _warming.start()


def _before_fork() -> None:
    """Let the warm-up end: a child would wait for ever for modules that it was just loading."""
    warming = _warming
    if warming is not None and warming is not threading.current_thread():
        warming.join(_LONGEST_WARM_UP_S)


def _after_fork() -> None:
    """Renew locks: one that another thread of the parent held would never be released here."""
    for connection in tuple(_connections):
        connection._lock = threading.RLock()


_connections: weakref.WeakSet[EmbeddedConnection] = weakref.WeakSet()
os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _warm_up() -> None:
    """Load what the first array needs, while its user still looks for it."""
    import numpy as np
    import xarray as xr

    xr.Variable(("x",), np.zeros(1))  # what xarray itself loads with its first array, Dask included
    import larvik.array.rows  # noqa: F401
