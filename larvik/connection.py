"""Connections: the one seam between what people write and where it runs.

`connect` opens a folder in this process or a server over the network; both give a `Connection`
whose calls return the same values and raise the same errors.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

from larvik import profiles
from larvik.errors import InvalidArgumentError, PreconditionError, UnsupportedError
from larvik.query.query import Page, Query, Record
from larvik.schema import Registry

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from larvik.array.evaluator import Evaluator
    from larvik.array.spec import ArraySpec
    from larvik.models.array import LarvikArray
    from larvik.models.base import Model
    from larvik.storage.zarr_store import ReadOnlyStore

#: Called with (done, total) steps of long work.
Progress = Callable[[int, int], None]
#: Called now and then during long work; True asks it to stop with CallCancelledError.
Cancelled = Callable[[], bool]


class Catalog(Protocol):
    """Rows: queries and writes. Values are those of `larvik.schema.FieldType`."""

    def page(self, query: Query, *, size: int = 100, token: str | None = None) -> Page:
        """Return one page of rows, in order, and the token of the next; one SELECT.

        Stable under inserts: a token holds the last row's keys, never an offset.
        """

    def count(self, query: Query) -> int:
        """Return the number of rows."""

    def table(self, query: Query) -> pa.RecordBatchReader:
        """Return all rows of `query` columnar, streamed; columns named by field, parts with labels."""

    def create(self, model: str, rows: Sequence[Mapping[str, object]]) -> list[Record]:
        """Store rows in one transaction; a row with a stored id and the same content is returned as it is."""

    def update(self, model: str, id: str, changes: Mapping[str, object], revision: int | None) -> Record:
        """Change one row; with `revision`, only if it is still the stored one (else ConflictError)."""

    def update_many(self, query: Query, changes: Mapping[str, object]) -> int:
        """Change every row of `query` in one transaction; return how many."""

    def delete(self, model: str, id: str) -> Record:
        """Move a row to the trash (a part is removed for good)."""

    def delete_many(self, query: Query) -> int:
        """Move every row of `query` to the trash; return how many."""

    def restore(self, model: str, id: str) -> Record:
        """Bring a row back from the trash."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload session: where the blocks of an array that does not exist yet are put.

    ``spec`` has the grid that was chosen: blocks are the shard regions of level 0. ``document`` is the
    metadata of that level as JSON, which tells how chunks are encoded; empty when it is not known.
    """

    id: str
    model: str
    array_id: str
    spec: ArraySpec
    document: str = ""


class Arrays(Protocol):
    """Pixels: reading expressions, and writing new arrays through upload sessions."""

    @property
    def evaluator(self) -> Evaluator:
        """What lazy arrays of this connection evaluate through."""

    def begin(
        self,
        model: str,
        values: Mapping[str, object],
        spec: ArraySpec,
        biometa: Mapping[str, Sequence[Mapping[str, object]]],
    ) -> Upload:
        """Open a session for one new array of `model`.

        ``values`` are the columns of the row (id included, so that a repeat finds its session);
        ``spec`` needs axes, dtype, one level and coordinates: the grid is chosen by the service.
        ``biometa`` maps model names (``Channel``, ...) to rows without ``object_id``.
        """

    def put(self, upload: Upload, start: tuple[int, ...], block: np.ndarray) -> None:
        """Store the block of level 0 whose first element is at `start`; repeating it is harmless."""

    def put_many(
        self,
        upload: Upload,
        blocks: Iterator[tuple[tuple[int, ...], np.ndarray]],
        stored: Callable[[int], object] | None = None,
    ) -> None:
        """Store many blocks over one stream; `stored` is told how many are, now and then and in the end."""

    def stored(self, upload: Upload) -> Sequence[int]:
        """Return the numbers, in C order of their grid, of the blocks that are stored, ascending."""

    def commit(
        self, upload: Upload, *, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> Record:
        """Build the levels, then make the array visible in one transaction; return its row."""

    def abort(self, upload: Upload) -> None:
        """Drop the session and its bytes."""

    def write_table(self, values: Mapping[str, object], rows: pa.Table) -> Record:
        """Store a measurement table; return its row of model ``Table``."""

    def read_table(self, id: str) -> pa.Table:
        """Return the rows of a measurement table."""

    def import_path(
        self, path: str, options: Mapping[str, object], *, progress: Progress | None = None
    ) -> list[Record]:
        """Import or register a path that the server sees, below one of its configured roots."""


class Connection(Protocol):
    """One way to a Larvik: a folder opened in this process, or a server."""

    @property
    def url(self) -> str:
        """Where it goes; without any token."""

    @property
    def registry(self) -> Registry:
        """The models that it knows."""

    @property
    def catalog(self) -> Catalog:
        """Rows."""

    @property
    def arrays(self) -> Arrays:
        """Pixels and tables."""

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""

    def close(self) -> None:
        """Release files and sockets; idempotent."""

    def model(self, name: str) -> type[Model]:
        """Return the class of a model by name; a generic read-only one when its package is not here."""
        from larvik.models.generic import model_class

        return model_class(name, self.registry)

    def store(self, row: LarvikArray, *, level: int | None = None) -> ReadOnlyStore:
        """Return the array of `row` as a read-only Zarr store, for zarr, xarray, Dask and others.

        An OME-Zarr image with the arrays ``"0"``, ``"1"``, ...; or, with `level`, that level alone as the
        variable ``image`` with its coordinates. Chunks are stored bytes, not decoded on the way.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(eq=False)
class _Opening:
    """A connection that this process opened, and how to open it again."""

    connection: Connection
    where: str
    token: str | None = field(repr=False)
    options: dict[str, Any] = field(repr=False)  # those of a store may hold a secret
    pid: int = field(default_factory=os.getpid)
    inherited: list[Connection] = field(default_factory=list)  # of parent processes; never used, never closed

    def here(self) -> Connection:
        """Return the connection, opened anew when this process is a fork of the one that opened it."""
        if self.pid != os.getpid():
            self.inherited.append(self.connection)
            self.connection = _open(self.where, self.token, self.options)
            self.pid = os.getpid()
        return self.connection


_lock = threading.RLock()
_openings: list[_Opening] = []
_defaults: list[_Opening] = []


def connect(
    url_or_folder: str | os.PathLike[str] | None = None, token: str | None = None, **options: Any
) -> Connection:
    """Open a folder or a server, and make it the default for everything that names no connection.

    Parameters
    ----------
    url_or_folder : str or path, optional
        ``larvik://host:port`` (TLS except on loopback), ``larvik+insecure://host:port``, a folder
        or ``file:///folder``. Without it: ``LARVIK_URL``, else ``LARVIK_DATA``, else the current
        profile of ``profiles.toml``.
    token : str, optional
        For servers. Without it: ``LARVIK_TOKEN``, else the token of the profile with this URL.
    **options : object
        Passed on to the kind of connection: ``timeout_s=``, ``store=``, ...

    Returns
    -------
    Connection
        A context manager; when it closes, the default is what it was before.

    Raises
    ------
    InvalidArgumentError
        ``URL_INVALID``, when nothing says where to connect, or the scheme is not known.
    UnsupportedError
        ``EXTRA_MISSING``, for a server without the client installed; names the extra.
    PreconditionError
        ``FOLDER_SERVED``, for a folder that a server holds; names the server's URL.
    """
    where, found = profiles.destination(url_or_folder)
    given = token if token is not None else found
    opening = _Opening(_open(where, given, options), where, given, options)
    with _lock:
        _forget_closed()
        _openings.append(opening)
        _defaults.append(opening)
    return opening.connection


def current() -> Connection:
    """Return the default connection.

    Raises
    ------
    PreconditionError
        ``NOT_CONNECTED``, when nothing is connected.
    """
    connection = current_or_none()
    if connection is None:
        raise PreconditionError(
            "Nothing is connected: call larvik.connect(...) with a folder or larvik://host:port first.",
            reason="NOT_CONNECTED",
        )
    return connection


def current_or_none() -> Connection | None:
    """Return the default connection, or None when nothing is connected."""
    with _lock:
        _forget_closed()
        return _defaults[-1].here() if _defaults else None


def alive(connection: Connection) -> Connection:
    """Return `connection`, or what replaced it in this process after a fork."""
    with _lock:
        for opening in _openings:
            if opening.connection is connection or any(one is connection for one in opening.inherited):
                return opening.here()
    return connection


def connection_for(url: str, token: str | None = None, **options: Any) -> Connection:
    """Return an open connection to `url`; opens one, with the token found here, when there is none.

    What unpickled rows and arrays use: a pickle holds the URL, never a token. The default stays. With a
    token, connections of other tokens are passed over; `options` are those of a connection opened here.
    """
    with _lock:
        _forget_closed()
        for opening in reversed(_openings):
            if url in (opening.connection.url, opening.where) and token in (None, opening.token):
                return opening.here()
        where, found = profiles.destination(url)
        given = token if token is not None else found
        opening = _Opening(_open(where, given, options), where, given, options)
        _openings.append(opening)
        return opening.connection


def evaluator_for(url: str) -> Evaluator:
    """Return what evaluates lazy arrays of `url`; see `connection_for`."""
    return connection_for(url).arrays.evaluator


class LazyConnection:
    """Stands for the connection to a URL, and opens it when something is asked of it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(connection_for(self.url), name)

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyConnection, (self.url,)

    def __repr__(self) -> str:
        return f"<connection to {self.url}>"


def lazy_connection(url: str) -> Connection:
    """Return a connection that is opened on first use, see `LazyConnection`."""
    return cast(Connection, LazyConnection(url))


def _forget_closed() -> None:
    _openings[:] = [opening for opening in _openings if not opening.connection.is_closed]
    _defaults[:] = [opening for opening in _defaults if not opening.connection.is_closed]


def _open(where: str, token: str | None, options: Mapping[str, Any]) -> Connection:
    scheme = profiles.scheme(where)
    if scheme in profiles.REMOTE:
        return _remote(where, token, options)
    if scheme not in ("", "file"):
        raise InvalidArgumentError(
            f"Larvik cannot connect to {scheme}://: give larvik://host:port, larvik+insecure://host:port,"
            " a folder or file:///folder.",
            reason="URL_INVALID",
            scheme=scheme,
        )
    if token is not None:
        raise InvalidArgumentError(
            "A folder takes no token; only servers do.", reason="ARGUMENT_INVALID", field="token"
        )
    if re.fullmatch(r"[\w.-]+:\d{1,5}", where) and not os.path.exists(where):
        raise InvalidArgumentError(
            f"{where!r} looks like a server: write larvik://{where}. (A new folder of that name: ./{where}.)",
            reason="URL_INVALID",
        )
    folder = _folder(where)
    from larvik.embedded import EmbeddedConnection

    return EmbeddedConnection(folder, **options)


def _folder(where: str) -> str:
    if not profiles.scheme(where):
        return os.path.abspath(os.path.expanduser(where))
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(where)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InvalidArgumentError(
            f"{where!r} names no folder of this machine: write file:///folder.", reason="URL_INVALID"
        )
    return unquote(parts.path)


def _remote(url: str, token: str | None, options: Mapping[str, Any]) -> Connection:
    from importlib.metadata import entry_points

    try:
        (found,) = entry_points(group="larvik.connections", name="larvik")
        opener = found.load()
    except (ValueError, ImportError) as error:
        raise UnsupportedError(
            "Connecting to a server needs the client: pip install 'larvik[client]'.",
            reason="EXTRA_MISSING",
            extra="client",
        ) from error
    return cast(Connection, opener(url, token=token, **options))


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
