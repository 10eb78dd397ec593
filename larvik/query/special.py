"""Queries of models that can do more: arrays, tables, regions of interest, tags, key-value pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from larvik.errors import InvalidArgumentError
from larvik.models.annotation import KeyValue, Tag
from larvik.models.roi import ROI
from larvik.models.table import Table
from larvik.query import fetch
from larvik.query.building import M
from larvik.query.queryset import QuerySet

if TYPE_CHECKING:
    import xarray as xr

    from larvik.biometa.rows import QueryBiometa
    from larvik.connection import Cancelled, Progress
    from larvik.models.base import Model


class ArrayQuerySet(QuerySet[M]):
    """Rows that own an array."""

    @property
    def biometa(self) -> QueryBiometa:
        """OME metadata of every row: ``query.biometa.channels`` is one table with an ``array_id`` column."""
        from larvik.biometa.rows import QueryBiometa

        return QueryBiometa(self)

    def stack(self, dim: str, *, join: str | None = None) -> xr.DataArray:
        """Return all arrays of the query as one lazy DataArray along a new first dim.

        Parameters
        ----------
        dim : str
            Name of the new dim. When it names a to-one relation of the model (``"sample"``) its
            labels are the names of those rows (their ids where names repeat), with their ids as
            ``<dim>_id``; a field's are its values; any other name is labelled by array ids. The
            coordinate ``array_id`` is always there.
        join : {"inner", "outer", "left", "right", "override"}, optional
            How arrays of unequal shape, spacing or channels are aligned by their coordinates;
            ``"override"`` takes the coordinates of the first array. Refused without.

        Returns
        -------
        DataArray
            Lazy; one statement was run, no pixel was read.

        Raises
        ------
        InvalidArgumentError
            ``AXES_MISMATCH``, when dims, dtype, shape or spacing differ; names the rows and what
            differs. ``QUERY_EMPTY``, when there is no row.
        """
        from larvik.array.stack import stack

        base = self.select_related(dim) if self.model._spec.relation(dim) is not None else self
        return stack(list(base), dim, join)

    def from_xarray(
        self,
        array: Any,
        *,
        dims: Sequence[str] | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        **values: Any,
    ) -> M:
        """Store a NumPy, Dask or xarray array, lazy or not, as a new row; return it.

        Parameters
        ----------
        array : array-like
            A DataArray keeps its dims, coordinates, channel names and the biometa of what it was
            computed from. Native dtype.
        dims : sequence of str, optional
            Names of the dims of an array that has none; by default the last of ``t c z y x``.
        progress : callable, optional
            Called with (done, total) steps.
        cancelled : callable, optional
            Asked now and then; True stops with CallCancelledError and leaves nothing.
        **values : object
            Fields and relations of the row: ``name``, ``sample``, ``parent``, ``kind``, ``type``
            (``derived`` by default for what comes from another array of Larvik's).

        Raises
        ------
        InvalidArgumentError
            ``DTYPE_UNSUPPORTED``, ``AXES_MISMATCH`` or what ``create`` raises.

        Notes
        -----
        Read and written block by block in bounded memory. Visible only when it is whole.

        After a cut the upload goes on where it was. With an ``id`` of the caller's (`larvik.ids.new_id` makes
        one) another process can too, after this one died or gave up: it repeats the call with the same id,
        fields and pixels, and only the blocks that are not stored are sent. An id stands for one array: that
        the pixels are others is not noticed.
        """
        from larvik.uploading import upload

        is_derived = values.get("parent") is not None or bool(getattr(array, "attrs", {}).get("larvik"))
        if is_derived and self.model._spec.field("type") is not None:
            values.setdefault("type", "derived")
        row = self._new({"name": str(getattr(array, "name", None) or "array"), **values})
        upload(row, array, dims=dims, kind=values.get("kind"), progress=progress, cancelled=cancelled)
        return row


class TableQuerySet(QuerySet[M]):
    """Measurement tables."""

    def from_frame(self, frame: Any, **values: Any) -> M:
        """Store a pandas DataFrame or a pyarrow Table as a new row; return it.

        Parameters
        ----------
        frame : DataFrame or pyarrow.Table
            The measurements. A named index becomes columns, an unnamed one is dropped.
        **values : object
            Fields and relations of the row: ``name``, ``description``, ``sample``, ...
        """
        import pyarrow as pa

        row: Any = self._new(values)
        if not isinstance(frame, pa.Table):
            frame = _to_arrow(frame)
        row._absorb(row._bound().arrays.write_table(fetch.columns_to_create(row), frame))
        return cast(M, row)


def _to_arrow(frame: Any) -> Any:
    import pandas as pd
    import pyarrow as pa

    if not isinstance(frame, pd.DataFrame):
        raise InvalidArgumentError(
            f"from_frame takes a pandas DataFrame or a pyarrow Table, not {type(frame).__name__}.",
            reason="FIELD_INVALID",
            field="frame",
        )
    named = [name for name in frame.index.names if name is not None]
    try:
        return pa.Table.from_pandas(frame.reset_index(named) if named else frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"The frame has a column that Arrow cannot hold: {error}.", reason="FIELD_INVALID", field="frame"
        ) from None


class ROIQuerySet(QuerySet[M]):
    """Regions of interest."""

    def create(self, **values: Any) -> M:
        """Store one new region; ``vertices`` may be array-like, shape (n, len(vertex_dims)), in pixels."""
        if "vertices" in values and not isinstance(values["vertices"], bytes | bytearray | memoryview):
            from larvik.array.vertices import encode

            dims = values.get("vertex_dims", ROI._spec.field("vertex_dims").default)  # type: ignore[union-attr]
            values["vertices"] = encode(values["vertices"], len(dims))
        return super().create(**values)


class TagQuerySet(QuerySet[Tag]):
    """Tags, of one row (``row.tags``) or of all."""

    def add(self, *names: str) -> None:
        """Attach tags to the row; those that it has already are left alone."""
        owner = _owner(self, "tags.add(...)")
        present = set(self.filter(name__in=names).values_list("name", flat=True))
        new = [name for name in dict.fromkeys(names) if name not in present]
        self.bulk_create([Tag(object_id=owner, name=name) for name in new])

    def remove(self, *names: str) -> int:
        """Take tags off; return how many there were."""
        return self.filter(name__in=names).delete()

    def names(self) -> list[str]:
        """Return the tags as text, sorted."""
        return self.order_by("name").values_list("name", flat=True)


class KeyValueQuerySet(QuerySet[KeyValue]):
    """Key-value pairs, of one row (``row.key_values``) or of all."""

    def set(self, pairs: Mapping[str, object] | None = None, /, **more: object) -> None:
        """Set the value of each key on the row, as text; other keys stay."""
        owner = _owner(self, "key_values.set(...)")
        wanted = {key: str(value) for key, value in {**(pairs or {}), **more}.items()}
        stored = {row.key: row for row in self.filter(key__in=list(wanted))}
        for key, row in stored.items():
            if row.value != wanted[key]:
                row.value = wanted[key]
                row.save()
        new = [
            KeyValue(object_id=owner, key=key, value=value)
            for key, value in wanted.items()
            if key not in stored
        ]
        self.bulk_create(new)

    def remove(self, *keys: str) -> int:
        """Remove keys with their values; return how many pairs there were."""
        return self.filter(key__in=keys).delete()

    def as_dict(self) -> dict[str, str]:
        """Return the pairs as a dict, sorted by key."""
        return dict(self.order_by("key").values_list("key", "value"))


def _owner(queryset: QuerySet[Any], call: str) -> str:
    owner = queryset._defaults.get("object_id")
    if not isinstance(owner, str):
        raise InvalidArgumentError(f"{call} needs a row: write row.{call}.", reason="QUERY_INVALID")
    return owner


def queryset_class(model: type[Model]) -> type[QuerySet[Any]]:
    """Return the class of the queries of `model`."""
    if model._spec.is_array:
        return ArrayQuerySet
    for kind, found in (
        (Table, TableQuerySet),
        (ROI, ROIQuerySet),
        (Tag, TagQuerySet),
        (KeyValue, KeyValueQuerySet),
    ):
        if issubclass(model, kind):
            return found
    return QuerySet
