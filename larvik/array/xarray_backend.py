"""xarray's engine ``larvik``: ``xr.open_dataset("larvik://host:7410/arrays/ID", engine="larvik")``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

from larvik import profiles
from larvik.errors import InvalidArgumentError, NotFoundError
from larvik.ids import parse_id

if TYPE_CHECKING:
    from larvik.connection import Connection
    from larvik.models.array import LarvikArray

#: Name of the variable that holds the pixels, as in ``row.tree``.
VARIABLE = "image"

_ARRAY = re.compile(r"(?P<where>.*?)/arrays/(?P<id>[0-9A-Fa-f-]{32,36})/?")
_BARE_ID = re.compile(r"(?:.*/)?(?P<id>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})/?")
# xarray knows no scheme with a plus sign, takes the URL for a path and makes it absolute.
_MANGLED = re.compile(r"(?:.*/)?larvik\+insecure:/+(?P<rest>.+)")


class LarvikBackend(BackendEntrypoint):
    """Entry point ``larvik`` of the group ``xarray.backends``.

    Notes
    -----
    Datasets hold the lazy arrays of `row.array` themselves, so selections and reductions are recorded and
    evaluated where that is cheapest; with ``chunks=`` they become Dask arrays, ``chunks={}`` with chunks
    equal to the stored ones. Opening reads one row and no pixel. A connection that is open already is
    used; one that is opened here stays open, and does not become the default.
    """

    description: ClassVar[str] = "Open arrays of a Larvik server or data folder"
    supports_groups: ClassVar[bool] = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether it is a ``larvik://`` URL; folders are opened by ``engine="larvik"`` alone."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        return profiles.scheme(_unmangled(os.fspath(filename_or_obj))) in profiles.REMOTE

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        id: str | None = None,
        token: str | None = None,
        level: int = 0,
        connection: Connection | None = None,
    ) -> xr.Dataset:
        """Return one level of an array as a Dataset, lazy.

        Parameters
        ----------
        filename_or_obj : str or path
            ``larvik://host:port/arrays/ID``, or the server or data folder where the array `id` is.
        drop_variables : str or iterable of str, optional
            Coordinates to leave out.
        id : str, optional
            Id of the array, where the URL does not name it.
        token : str, optional
            For servers; without it that of an open connection, of ``LARVIK_TOKEN`` or a profile.
        level : int
            Index of the level, 0 for the finest.
        connection : Connection, optional
            Reads through it, whatever the URL says of the place.

        Returns
        -------
        xarray.Dataset
            The variable ``image`` with dims, coordinates and attributes of ``row.array``.

        Raises
        ------
        NotFoundError
            ``ARRAY_NOT_FOUND``, ``FOLDER_NOT_FOUND``.
        UnauthenticatedError
            ``TOKEN_MISSING`` or ``TOKEN_INVALID``.
        InvalidArgumentError
            ``URL_INVALID``, when no array is named.
        SelectionError
            ``SELECTION_OUT_OF_BOUNDS``, for a level that is not there.
        """
        from larvik.array.rows import open_array

        row = find_row(filename_or_obj, id, token, connection)
        return _dataset(open_array(row, level), row.name, drop_variables)

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        id: str | None = None,
        token: str | None = None,
        connection: Connection | None = None,
    ) -> xr.DataTree:
        """Return every level as a DataTree: nodes ``"0"``, ``"1"``, ...; see `open_dataset`."""
        groups = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, id=id, token=token, connection=connection
        )
        return xr.DataTree.from_dict(groups)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        id: str | None = None,
        token: str | None = None,
        connection: Connection | None = None,
    ) -> dict[str, xr.Dataset]:
        """Return every level as a Dataset, by the name of its group; see `open_dataset`."""
        row = find_row(filename_or_obj, id, token, connection)
        levels = enumerate(row.levels)
        found = {f"/{number}": _dataset(array, row.name, drop_variables) for number, array in levels}
        return {"/": xr.Dataset(attrs={"title": row.name}), **found}


class BareVariable(xr.Variable):
    """A variable whose array stays bare.

    xarray wraps what engines return, so that assigning to it leaves the file alone and reading keeps the
    values. A lazy array can neither be assigned to nor keep values, and behind the wrapper xarray would
    not see that it is one: nothing could be pushed down, and ``load()`` would load nothing. Coordinates are
    in memory already; wrapped, ``chunks=`` would make Dask arrays of them too.
    """

    __slots__ = ()

    @property
    def data(self) -> Any:
        """The array."""
        return xr.Variable.data.fget(self)  # type: ignore[attr-defined]  # a property, which mypy takes for its value

    @data.setter
    def data(self, data: Any) -> None:
        if not _wraps(data, self._data):
            xr.Variable.data.fset(self, data)  # type: ignore[attr-defined]  # as above


def find_row(
    given: Any, id: str | None = None, token: str | None = None, connection: Connection | None = None
) -> LarvikArray:
    """Return the row of the array that a URL, or a place and an id, names; see `LarvikBackend`."""
    where, named = _parted(given, is_place=connection is None)
    if id is None and named is None:
        raise InvalidArgumentError(
            "The URL names no array: write larvik://host:port/arrays/ID, or give id=.",
            reason="URL_INVALID",
            field="id",
        )
    if id is not None and named is not None and parse_id(id, field="id") != parse_id(named, field="id"):
        raise InvalidArgumentError(
            f"The URL names array {named} and id= names {id}: give one of them.",
            reason="URL_INVALID",
            field="id",
        )
    array_id = parse_id(id if id is not None else named, field="id")
    return row_by_id(_connection(where, token) if connection is None else connection, array_id)


def row_by_id(connection: Connection, array_id: str) -> LarvikArray:
    """Return the row of an array, whatever its model; one statement for each model that is asked.

    Raises
    ------
    NotFoundError
        ``ARRAY_NOT_FOUND``, also when its reader may not see it.
    """
    names = [spec.name for spec in connection.registry if spec.is_array]
    for name in sorted(names, key=lambda name: name != "Representation"):
        model: Any = connection.model(name)
        row: LarvikArray | None = model.objects.using(connection).filter(id=array_id).first()
        if row is not None:
            return row
    raise NotFoundError(
        f"There is no array {array_id}, or you may not read it.", reason="ARRAY_NOT_FOUND", array_id=array_id
    )


def _dataset(array: xr.DataArray, title: str, drop: str | Iterable[str] | None) -> xr.Dataset:
    bare = BareVariable(array.dims, array.data, array.attrs)
    # What ``chunks={}`` gives: Dask chunks equal to the stored ones.
    chunks = (max(sizes, default=1) for sizes in array.data.chunks)
    bare.encoding["preferred_chunks"] = dict(zip(array.dims, chunks, strict=True))
    dataset = array.to_dataset(name=VARIABLE).assign_attrs(title=title)
    variables = {
        name: variable if name in dataset.xindexes else BareVariable(*_parts(variable))
        for name, variable in dataset.variables.items()
    }
    # By the constructor all would become plain variables.
    dataset = dataset._replace({**variables, VARIABLE: bare})
    names = [drop] if isinstance(drop, str) else list(drop or ())
    return dataset.drop_vars(names, errors="ignore") if names else dataset


def _parts(variable: xr.Variable) -> tuple[Any, Any, Any]:
    return variable.dims, variable.data, variable.attrs


def _wraps(wrapper: Any, data: Any) -> bool:
    """Whether `wrapper` is xarray's protection, of one layer or several, around `data`."""
    while wrapper is not data and type(wrapper).__module__.startswith("xarray."):
        wrapper = getattr(wrapper, "array", None)
    return wrapper is data


def _parted(given: Any, *, is_place: bool) -> tuple[str, str | None]:
    """Return the place and the array that a URL names; a path of an id alone where the place is known."""
    if not isinstance(given, str | os.PathLike):
        raise InvalidArgumentError(
            f"Larvik opens URLs and folders, not {type(given).__name__}: write larvik://host:port/arrays/ID.",
            reason="URL_INVALID",
            field="filename_or_obj",
        )
    text = _unmangled(os.fspath(given))
    found = _ARRAY.fullmatch(text) or (None if is_place else _BARE_ID.fullmatch(text))
    if found is None:
        return text, None
    return found.groupdict().get("where") or "", found["id"]


def _unmangled(text: str) -> str:
    found = _MANGLED.fullmatch(text)
    return f"larvik+insecure://{found['rest']}" if found else text


def _connection(where: str, token: str | None) -> Connection:
    from larvik.connection import connection_for

    if not profiles.scheme(where):
        where = Path(os.path.abspath(os.path.expanduser(where))).as_uri()
    options = {} if profiles.scheme(where) in profiles.REMOTE else {"create": False}
    return connection_for(where, token, **options)
