"""The services over one data folder or database, opened together: what embedded use and servers share."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from larvik.db.engine import Database, open_database
from larvik.db.schema_state import check_schema, prepare_schema
from larvik.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError, UnavailableError
from larvik.models import registry as model_registry
from larvik.schema import Registry
from larvik.services.catalog import CatalogService
from larvik.services.filesystems import refuse_network
from larvik.services.identity import IdentityService
from larvik.services.locks import FolderLock, SessionLocks
from larvik.services.principal import Principal
from larvik.services.roots import Roots
from larvik.storage.base import Store, open_store

if TYPE_CHECKING:
    from larvik.services.arrays import ArrayService
    from larvik.services.backup import BackupService
    from larvik.services.doctor import Doctor
    from larvik.services.imports import ImportService
    from larvik.services.metadata import MetadataCopier
    from larvik.services.tables import TableService
    from larvik.services.uploads import UploadService
    from larvik.services.usage import Usage

T = TypeVar("T")

#: The SQLite database of a data folder.
DATABASE_FILE = "larvik.db"


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What the services of one Larvik are opened over.

    Attributes
    ----------
    data : Path
        The data folder: locks, and by default the database and the arrays. Made when missing.
    database_url : str or None
        ``postgresql+psycopg://...`` or ``sqlite:////path``; None for ``larvik.db`` in `data`.
    store_url : str or None
        Folder or ``s3://bucket/prefix`` of arrays and tables; None for `data`.
    store_options : mapping
        For S3: ``key``, ``secret``, ``endpoint_url``, ... See `larvik.storage.base.open_store`.
    import_roots : tuple of str
        Folders and bucket prefixes that `import_path` may read.
    models : tuple of str
        Import packages with models of one's own.
    decode_uploads : bool
        Whether chunks that clients encoded are decoded before they are stored.
    disk_cache_bytes : int
        Stored bytes of a remote store that are kept on the local disk for reading; 0 keeps none.
    disk_cache : str or None
        Folder for them, which processes share; None for ``cache`` in `data`.
    dask : str
        Address of a Dask scheduler whose workers reach the store; empty without one.
    """

    data: Path
    database_url: str | None = None
    store_url: str | None = None
    store_options: Mapping[str, Any] = field(default_factory=dict)
    import_roots: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    decode_uploads: bool = True
    disk_cache_bytes: int = 0
    disk_cache: str | None = None
    dask: str = ""

    @property
    def uses_sqlite(self) -> bool:
        """Whether the database is a file of this host."""
        return self.database_url is None or self.database_url.startswith("sqlite")

    @property
    def resolved_database_url(self) -> str:
        """The database's URL, that of the data folder when none was given."""
        return self.database_url or f"sqlite:///{self.data.resolve() / DATABASE_FILE}"


class Services:
    """Every service over one configuration. A context manager; `close` releases files and threads.

    What touches pixels is made, and its libraries loaded, when it is first asked for: rows alone need
    neither NumPy nor Arrow.

    Attributes
    ----------
    config : ServiceConfig
        What they were opened over.
    registry : Registry
        The models.
    database, store : Database, Store
        Where rows and bytes are.
    identity : IdentityService
        Who calls.
    catalog : CatalogService
        Rows.
    locks : SessionLocks
        Of upload sessions.
    roots : Roots
        What may be imported and registered.
    """

    def __init__(
        self, config: ServiceConfig, database: Database, store: Store, lock: FolderLock | None
    ) -> None:
        self.config = config
        self.registry: Registry = database.registry
        self.database = database
        self.store = store
        self.roots = Roots(config.data, config.import_roots, dict(config.store_options))
        self.locks = SessionLocks(config.data)
        self.identity = IdentityService(database)
        self.catalog = CatalogService(database, self.registry)
        self._folder_lock = lock
        self._making = threading.RLock()
        self._made: dict[str, Any] = {}

    @property
    def arrays(self) -> ArrayService:
        """Reading pixels."""
        from larvik.services.arrays import ArrayService
        from larvik.services.cluster import Cluster

        url = self.config.store_url or str(self.config.data)
        store = cached_store(self.store, self.config)
        cluster = Cluster(self.config.dask, url, self.config.store_options)
        return self._once(
            "arrays",
            lambda: ArrayService(self.catalog, self.registry, store, self.roots, cluster=cluster),
        )

    @property
    def uploads(self) -> UploadService:
        """New arrays."""
        from larvik.services.uploads import UploadService

        decode = self.config.decode_uploads
        make = lambda: UploadService(self.database, self.store, self.locks, decode_uploads=decode)  # noqa: E731
        return self._once("uploads", make)

    @property
    def tables(self) -> TableService:
        """Measurement tables."""
        from larvik.services.tables import TableService

        return self._once("tables", lambda: TableService(self.database, self.catalog, self.store))

    @property
    def imports(self) -> ImportService:
        """Files that this process sees."""
        from larvik.services.imports import ImportService

        make = lambda: ImportService(self.database, self.catalog, self.uploads, self.roots)  # noqa: E731
        return self._once("imports", make)

    @property
    def copier(self) -> MetadataCopier:
        """Rewrites the groups' copies of the metadata."""
        from larvik.services.metadata import MetadataCopier

        return self._once("copier", lambda: MetadataCopier(self.database, self.store))

    def usage(self, principal: Principal) -> list[Usage]:
        """Return what takes how many bytes."""
        from larvik.services.usage import usage

        return usage(principal, self.database)

    @property
    def doctor(self) -> Doctor:
        """Finds and frees what crashes left."""
        from larvik.services.doctor import Doctor

        return Doctor(self)

    @property
    def backups(self) -> BackupService:
        """Backup, restore and usage."""
        from larvik.services.backup import BackupService

        return BackupService(self)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Tell whether no other process works on this data, and keep it so for the block.

        Never told of a PostgreSQL database, which other hosts may use.
        """
        if self._folder_lock is None:
            yield False
            return
        with self._folder_lock.alone() as is_alone:
            yield is_alone

    def edited(self) -> None:
        """Tell that rows were written here: copies of the metadata follow in the background."""
        self.copier.wake()

    def close(self) -> None:
        """Stop what works in the background, close the database, give the folder free; idempotent."""
        if "uploads" in self._made:
            self.uploads.close()
        if "copier" in self._made:
            self.copier.close()
        self.catalog.close()
        self.database.close()
        if self._folder_lock is not None:
            self._folder_lock.release()

    def _once(self, name: str, make: Callable[[], T]) -> T:
        with self._making:
            if name not in self._made:
                self._made[name] = make()
            found: T = self._made[name]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_services(
    config: ServiceConfig, *, serve_url: str | None = None, lock: bool = True, create: bool = True
) -> Services:
    """Open the services.

    Parameters
    ----------
    config : ServiceConfig
        Over what.
    serve_url : str or None
        Address of the server that takes the data folder for itself; None shares it with others.
    lock : bool
        Whether to lock the data folder; the data processes of a server do not, their parent did.
    create : bool
        Whether to make an empty folder's database and tables.

    Raises
    ------
    NotFoundError
        ``FOLDER_NOT_FOUND``, when nothing may be made and no database is there.
    PreconditionError
        ``FOLDER_SERVED``, ``FOLDER_IN_USE``, ``DATA_ON_NETWORK``, ``SCHEMA_OUTDATED`` or ``SCHEMA_UNKNOWN``.
    InvalidArgumentError
        ``MODELS_MISSING``, when a package of `models` cannot be imported.
    """
    if not create and config.database_url is None and not (config.data / DATABASE_FILE).exists():
        # A mistyped folder must not become an empty one.
        raise NotFoundError(
            f"{str(config.data)!r} is no data folder of Larvik: it has no {DATABASE_FILE}. Correct the path;"
            " `larvik import` and `larvik serve` make a new folder.",
            reason="FOLDER_NOT_FOUND",
        )
    held = lock_folder(config, serve_url, lock)
    try:
        load_models(config.models)
        database = open_database(config.resolved_database_url, model_registry)
        try:
            if create:
                prepare_schema(database, config.models)
            else:
                check_schema(database, config.models)
            store = open_config_store(config)
            return Services(config, database, store, held)
        except BaseException:
            database.close()
            raise
    except BaseException:
        if held is not None:
            held.release()
        raise


def open_config_store(config: ServiceConfig) -> Store:
    """Return the store of arrays and tables."""
    url = config.store_url or str(config.data)
    is_local = "://" not in url or url.startswith("file://")
    return open_store(url, create=True) if is_local else open_store(url, **config.store_options)


def cached_store(store: Store, config: ServiceConfig) -> Store:
    """Return what pixels are read from: a remote store with its cache on the disk, if it is to have one.

    Committed arrays alone are read from it: their bytes never change.
    """
    if not config.disk_cache_bytes or not store.url.startswith("s3://"):
        return store
    from larvik.storage.disk_cache import CachedStore

    return CachedStore(store, config.disk_cache or config.data / "cache", config.disk_cache_bytes)


def load_models(packages: tuple[str, ...]) -> None:
    """Import the packages that define models of their own.

    Raises
    ------
    InvalidArgumentError
        ``MODELS_MISSING``; names the package.
    """
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InvalidArgumentError(
                f"The models package {name!r} cannot be imported: {error}. Install it, or name another.",
                reason="MODELS_MISSING",
                field="models",
            ) from error


def lock_folder(config: ServiceConfig, serve_url: str | None, lock: bool) -> FolderLock | None:
    """Make the data folder, and lock it: for `serve_url` alone, or shared without one."""
    try:
        config.data.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InvalidArgumentError(
            f"{config.data.name!r} is a file; a data folder is needed.",
            reason="FOLDER_UNUSABLE",
            field="data",
        ) from error
    except PermissionError as error:
        raise PermissionDeniedError(
            f"The data folder {config.data.name!r} cannot be made here. Correct the mode of its parent.",
            reason="STORE_DENIED",
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"The data folder {config.data.name!r} cannot be made: {error.strerror}.",
            reason="STORE_UNREACHABLE",
        ) from error
    if not config.uses_sqlite:
        return None
    refuse_network(config.data)
    return FolderLock(config.data, url=serve_url) if lock else None
