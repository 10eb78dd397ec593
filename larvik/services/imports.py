"""Imports of paths that the service itself sees: below configured roots, copied or registered in place."""

from __future__ import annotations

from contextlib import suppress

from larvik.db.engine import Database
from larvik.db.unit_of_work import transact
from larvik.errors import LarvikError, UnsupportedError
from larvik.formats.base import SeriesInfo, file_name, inspect_file, open_series
from larvik.query.query import Record
from larvik.services.bound import BoundCatalog, BoundUploads
from larvik.services.catalog import CatalogService
from larvik.services.import_flow import Along, FileImport, choose, describe, identify
from larvik.services.import_options import Cancelled, ImportOptions, Progress
from larvik.services.import_parents import find_original, find_parents
from larvik.services.principal import WRITE, Principal
from larvik.services.roots import Roots
from larvik.services.storing import store_array
from larvik.services.uploads import UploadService
from larvik.storage.ngff import fingerprint, read_spec


class ImportService:
    """Imports and registers files that this process sees. Thread-safe.

    Parameters
    ----------
    database, catalog, uploads : Database, CatalogService, UploadService
        Where rows and pixels go.
    roots : Roots
        What may be read.
    """

    def __init__(
        self, database: Database, catalog: CatalogService, uploads: UploadService, roots: Roots
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._uploads = uploads
        self._roots = roots

    def import_path(
        self,
        principal: Principal,
        path: str,
        options: ImportOptions,
        *,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        anywhere: bool = False,
    ) -> list[Record]:
        """Import or register the series of one path; return their rows, made or found.

        Parameters
        ----------
        principal : Principal
            Who imports.
        path : str
            A path or URL below an import root; a relative one is looked for below each root.
        options : ImportOptions
            With ``in_place``, OME-Zarr is registered where it is.
        progress, cancelled : callable, optional
            As of `larvik.services.import_flow.FileImport`.
        anywhere : bool
            Whether the path may be anywhere, as for the user of an embedded folder.

        Raises
        ------
        InvalidArgumentError
            ``PATH_OUTSIDE_ROOTS``, or what is wrong with the file.
        UnsupportedError
            ``FORMAT_UNSUPPORTED``, for a series that cannot be registered in place.
        """
        principal.require(WRITE)
        root, key = self._roots.adopt(path) if anywhere and options.in_place else (None, path)
        if not anywhere:
            root, key = self._roots.find(path)
        where = self._roots.local_path(root, key) if root is not None else path
        if options.in_place:
            records = _Registration(self, principal, where, options, anywhere).run()
            with suppress(LarvikError):  # statistics that are late are no reason to fail
                self._catalog.analyze()
        else:
            rows, uploads = (
                BoundCatalog(self._catalog, principal),
                BoundUploads(lambda: self._uploads, principal),
            )
            records = FileImport(rows, uploads, where, options, progress, cancelled).run()
        return records

    def register(
        self, principal: Principal, info: SeriesInfo, values: dict[str, object], along: Along, anywhere: bool
    ) -> Record:
        """Store the row of an array that stays where it is, with what belongs to it, in one transaction."""
        path = f"{str(info.store_url).rstrip('/')}/{info.location}"
        root, key = self._roots.adopt(path) if anywhere else self._roots.find(path)
        store = self._roots.store(root)
        spec = read_spec(store, key)
        computed = {
            "dims": spec.dims, "shape": spec.shape, "dtype": spec.dtype, "spec": spec.to_dict(),
            "location": self._roots.location(root, key), "is_registered": True,
            "fingerprint": fingerprint(store, key),
        }  # fmt: skip

        registry = self._database.registry
        return transact(
            self._database,
            principal.subject_id,
            lambda work: store_array(work, registry, "Representation", values, computed, along),
        )


class _Registration:
    """The registration of the series of one path."""

    def __init__(
        self, service: ImportService, principal: Principal, path: str, options: ImportOptions, anywhere: bool
    ) -> None:
        self._service = service
        self._principal = principal
        self._path = path
        self._options = options
        self._anywhere = anywhere

    def run(self) -> list[Record]:
        """Register the chosen series, images before their labels; return their rows."""
        rows = BoundCatalog(self._service._catalog, self._principal)
        chosen = choose(self._path, inspect_file(self._path), self._options.series)
        for info in chosen:
            if info.store_url is None or info.location is None:
                raise UnsupportedError(
                    f"Series {info.index} ({info.format}) cannot be registered in place, only OME-Zarr can."
                    " Import a copy.",
                    reason="FORMAT_UNSUPPORTED",
                    series=info.index,
                )
        original = find_original(rows, identify(self._path, chosen[0], in_place=True))
        parents = find_parents(rows, self._options, file_name(self._path).partition(".")[0])
        made: dict[int, str] = {}
        records = []
        for info in chosen:
            record = None if self._options.again else original.images.get(info.index)
            if record is None:
                with open_series(self._path, info.index) as source:
                    values, along = describe(source, original, parents, made)
                record = self._service.register(self._principal, info, values, along, self._anywhere)
                parents.new.clear()
                original.is_new = False
            made[info.index] = str(record.values["id"])
            records.append(record)
        return records
