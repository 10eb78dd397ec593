"""Backup and restore of everything: rows and arrays of one moment, portable between databases and stores.

A backup holds ``manifest.json``, one Parquet file for each table and the stored objects as they are:
any Zarr reader opens the arrays inside it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import larvik
from larvik.db.dump import check_empty, dump_tables, load_tables, raise_revision, snapshot
from larvik.db.engine import Database, open_database
from larvik.db.schema_state import HEAD, packages
from larvik.db.whole_rows import stored_columns
from larvik.errors import InvalidArgumentError, LarvikError, PreconditionError
from larvik.services.archive import ArchiveWriter, read_archive
from larvik.services.principal import ADMIN, Principal
from larvik.services.tables import TABLES
from larvik.storage.base import Store
from larvik.storage.inventory import ARRAYS
from larvik.storage.local import PARTIAL
from larvik.storage.ngff import read_group

if TYPE_CHECKING:
    from larvik.services.bundle import ServiceConfig, Services

FORMAT = 1
_MANIFEST, _ROWS, _STORE = "manifest.json", "rows/", "store/"

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup or a restore carried over.

    Attributes
    ----------
    rows, arrays, size_bytes : int
        Rows of all tables; arrays and measurement tables; bytes of their objects.
    missing : tuple of str
        Locations of rows whose bytes were not there.
    """

    rows: int
    arrays: int
    size_bytes: int
    missing: tuple[str, ...] = ()


class BackupService:
    """Makes backups of the Larvik that `services` are open over, while it is in use."""

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._store = services.store

    def create(self, principal: Principal, target: Path, *, progress: Progress | None = None) -> BackupReport:
        """Write a backup to `target`, a folder or a ``.tar`` file that does not exist yet.

        The rows are those of one moment. Arrays are immutable and rows come after bytes, so the bytes of
        every row are there; upload sessions are left out, sources that were registered in place too.

        Raises
        ------
        AlreadyExistsError
            ``BACKUP_EXISTS``.
        ResourceExhaustedError
            ``STORE_FULL``; nothing stays of the backup.
        """
        principal.require(ADMIN)
        with ArchiveWriter(target) as archive, tempfile.TemporaryDirectory(prefix="larvik-backup-") as folder:
            with snapshot(self._database) as connection:
                counts = dump_tables(self._database, connection, Path(folder))
                locations = sorted(_locations(self._database, connection))
            size, missing = self._add_objects(archive, locations, progress)
            for file in sorted(Path(folder).iterdir()):
                archive.add_file(_ROWS + file.name, file)
            manifest = {
                "format": FORMAT,
                "schema": HEAD,
                "packages": list(packages(self._database.tables)),
                "larvik": larvik.__version__,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "rows": counts,
            }
            archive.add(_MANIFEST, json.dumps(manifest, indent=2).encode())
        return BackupReport(sum(counts.values()), len(locations) - len(missing), size, tuple(missing))

    def _add_objects(
        self, archive: ArchiveWriter, locations: list[str], progress: Progress | None
    ) -> tuple[int, list[str]]:
        total, missing = 0, []
        for number, location in enumerate(locations, start=1):
            keys = (
                [location]
                if location.endswith(".parquet")
                else [key for key, _ in self._store.list(location)]
            )
            found = 0
            for key in sorted(keys):
                if not key.endswith(PARTIAL) and self._store.size(key) is not None:
                    data = self._store.read(key)
                    archive.add(_STORE + key, data)
                    found += 1
                    total += len(data)
            if not found:
                missing.append(location)
            if progress is not None:
                progress(number, len(locations))
        return total, missing


def restore_backup(config: ServiceConfig, source: Path, *, progress: Progress | None = None) -> BackupReport:
    """Restore a backup into the empty database and store of `config`.

    Parameters
    ----------
    config : ServiceConfig
        Where to; nobody else may have it open.
    source : Path
        Folder or ``.tar`` file of a backup, from any kind of database and store.
    progress : callable, optional
        Called with objects so far, twice: the total is not known before the end.

    Raises
    ------
    PreconditionError
        ``DATABASE_NOT_EMPTY``; ``SCHEMA_OUTDATED``, for a backup of another schema.
    InvalidArgumentError
        ``BACKUP_INVALID``.

    Notes
    -----
    Bytes first, then the rows in one transaction: what a crash leaves has no rows, and can be restored
    again over itself.
    """
    from larvik.models import registry
    from larvik.services.bundle import load_models, lock_folder, open_config_store

    held = lock_folder(config, "a restore", lock=True)
    load_models(config.models)
    database = open_database(config.resolved_database_url, registry)
    try:
        check_empty(database)
        store = open_config_store(config)
        with tempfile.TemporaryDirectory(prefix="larvik-restore-") as folder:
            manifest, objects, size = _unpack(source, store, Path(folder), progress)
            _check_manifest(manifest, database)
            counts = load_tables(database, Path(folder), manifest.get("rows"))
        _catch_up(database, store)
        database.analyze()
        return BackupReport(sum(counts.values()), objects, size)
    finally:
        database.close()
        if held is not None:
            held.release()


def _unpack(
    source: Path, store: Store, folder: Path, progress: Progress | None
) -> tuple[dict[str, Any], int, int]:
    """Put objects into the store, and tables into `folder`; return the manifest, arrays and bytes."""
    manifest: dict[str, Any] = {}
    arrays: set[str] = set()
    size = number = 0
    for number, (name, data) in enumerate(read_archive(source), start=1):
        if name == _MANIFEST:
            manifest = _manifest(data)
        elif name.startswith(_ROWS):
            (folder / Path(name).name).write_bytes(data)
        elif name.startswith(_STORE):
            key = name.removeprefix(_STORE)
            if key.partition("/")[0] not in (ARRAYS, TABLES):  # beside these are the database, its locks, ...
                raise _invalid(f"it holds {key[:80]!r}, which is no array and no table")
            store.write(key, data)
            arrays.add("/".join(key.split("/")[:3]))
            size += len(data)
        if progress is not None:
            progress(number, number)
    return manifest, len(arrays), size


def _manifest(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _invalid("its manifest is damaged")
    return found


def _check_manifest(manifest: dict[str, Any], database: Database) -> None:
    if manifest.get("format") != FORMAT:
        raise _invalid("it has no manifest, or one of a later Larvik")
    if manifest.get("schema") != HEAD:
        raise PreconditionError(
            f"The backup has schema {manifest.get('schema')}, this Larvik {HEAD}. Restore it with Larvik"
            f" {manifest.get('larvik')}, then run `larvik migrate`.",
            reason="SCHEMA_OUTDATED",
        )
    lacking = set(manifest.get("packages") or ()) - set(packages(database.tables))
    if lacking:
        raise PreconditionError(
            f"The backup holds models of {', '.join(sorted(lacking))}. Name them in `models`.",
            reason="MODELS_MISSING",
        )


def _catch_up(database: Database, store: Store) -> None:
    """Count up the rows of arrays that were edited while the backup was made: their groups are ahead."""
    for spec in database.registry:
        if spec.is_array:
            for row in stored_columns(database, spec.name, ("location", "revision", "is_registered")):
                try:
                    there = 0 if row["is_registered"] else read_group(store, row["location"]).revision
                except LarvikError:
                    continue  # `doctor` reports rows without bytes
                if there > row["revision"]:
                    raise_revision(database, spec.name, row["id"], there + 1)


def _locations(database: Database, connection: Any) -> Iterator[str]:
    for spec in database.registry:
        if spec.is_array or spec.name == "Table":
            table = database.tables.of(spec.name)
            columns = [table.c.location, *([table.c.is_registered] if spec.is_array else [])]
            for location, *registered in connection.execute(table.select().with_only_columns(*columns)):
                if not any(registered):
                    yield location


def _invalid(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The backup cannot be restored: {problem}.", reason="BACKUP_INVALID")
