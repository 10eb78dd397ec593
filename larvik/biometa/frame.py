"""Tables of biometa as pandas DataFrames whose columns are found without case and underscores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from larvik.biometa.tables import columns
from larvik.errors import MetadataError, suggestion
from larvik.query.paths import fold
from larvik.schema import FieldSpec, FieldType

#: What pandas makes of text: ``str`` from version 3 on, ``object`` before.
TEXT = pd.Series(["text"]).dtype


class ColumnError(MetadataError, KeyError):
    """A column that the table has not; suggests the nearest. A KeyError, as pandas raises."""

    default_reason = "COLUMN_UNKNOWN"


class BiometaFrame(pd.DataFrame):
    """A table of biometa.

    Columns have the names of the OME schema and are found without regard to case and underscores:
    ``frame["EmissionWaveLength"]`` is ``frame["EmissionWavelength"]``.

    Raises
    ------
    ColumnError
        ``COLUMN_UNKNOWN``, a MetadataError and a KeyError, for any other name.
    """

    @property
    def _constructor(self) -> type[BiometaFrame]:
        return BiometaFrame

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            key = self._column(key)
        elif isinstance(key, list) and key and all(isinstance(item, str) for item in key):
            key = [self._column(item) for item in key]
        return super().__getitem__(key)

    def _column(self, name: str) -> str:
        if name in self.columns:
            return name
        names = [str(column) for column in self.columns]
        found = {fold(column): column for column in names}.get(fold(name))
        if found is None:
            raise ColumnError(
                f"There is no column {name[:80]!r}. {suggestion(name[:80], names)}", field=name[:80]
            )
        return found


def make_frame(table: str, rows: Iterable[Mapping[str, Any]], extra: Sequence[str] = ()) -> BiometaFrame:
    """Return rows as a frame with OME column names and fixed dtypes, also without any row.

    Parameters
    ----------
    table : str
        ``scan``, ``channels``, ``planes``, ``objective``, ``detector`` or ``original``.
    rows : iterable of mapping
        By field name.
    extra : sequence of str
        Further text columns, put last: ``array_id``, ``id``.
    """
    rows = list(rows)
    data: dict[str, Any] = {
        spec.label or name: _array([row.get(name) for row in rows], _dtype(spec))
        for name, spec in columns(table).items()
    }
    for name in extra:
        data[name] = _array([row.get(name) for row in rows], TEXT)
    return BiometaFrame(data)


def _array(values: list[Any], dtype: Any) -> Any:
    return pd.array(values, dtype=dtype)


def _dtype(spec: FieldSpec) -> Any:
    """Return the pandas dtype of a column: text, float64, int64 (``Int64`` where it may lack values)."""
    if spec.type is FieldType.FLOAT64:
        return "float64"
    if spec.type is FieldType.INT64:
        return "Int64" if spec.nullable else "int64"
    return TEXT if spec.type is FieldType.STRING else object


def frame_from_arrow(table: str, found: Any, extra: Mapping[str, str] | None = None) -> BiometaFrame:
    """Return an Arrow table as a frame with OME column names and the dtypes of `make_frame`.

    Parameters
    ----------
    table : str
        ``scan``, ``channels``, ``planes``, ``objective``, ``detector`` or ``original``.
    found : pyarrow.Table
        Its columns are named by field or by label.
    extra : mapping of str to str, optional
        Further columns to keep: name in the frame, name in `found`.
    """
    data: dict[str, Any] = {}
    for name, spec in columns(table).items():
        column = found.column(spec.label if spec.label in found.column_names else name)
        data[spec.label or name] = _from_arrow(column, spec)
    for name, source in (extra or {}).items():
        data[name] = _array(found.column(source).to_pylist(), TEXT)
    return BiometaFrame(data)


def _from_arrow(column: Any, spec: FieldSpec) -> Any:
    if spec.type is FieldType.JSON:
        values = [json.loads(item) if isinstance(item, str) else item for item in column.to_pylist()]
        return pd.Series(values, dtype=object)
    dtype = _dtype(spec)
    if dtype == "Int64":
        return column.to_pandas(types_mapper=lambda _: pd.Int64Dtype()).astype("Int64")
    return column.to_pandas().astype(dtype)
