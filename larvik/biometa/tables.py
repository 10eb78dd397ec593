"""`Biometa`: the metadata of one image as tables of plain rows, named as in ``larvik.models.biometa``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeAlias

from larvik.models.base import classes
from larvik.models.biometa import Channel, Detector, Objective, OriginalMetadata, Plane, Scan
from larvik.schema import FieldSpec, FieldType

#: One row: field names of its model, plain Python values, None where nothing is known.
Row: TypeAlias = dict[str, Any]

#: The model behind each table.
MODELS = {
    "scan": Scan.__name__,
    "channels": Channel.__name__,
    "planes": Plane.__name__,
    "objective": Objective.__name__,
    "detector": Detector.__name__,
    "original": OriginalMetadata.__name__,
}
INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Biometa:
    """OME metadata of one image.

    Attributes
    ----------
    scan : tuple of Row
        One row: sizes, physical sizes, time increment.
    channels : tuple of Row
        One row for each position along ``c``, in order of ``index``.
    planes : tuple of Row
        One row for each acquired plane that the file says something about.
    objective : tuple of Row
        The objective, if it is known.
    detector : tuple of Row
        The detectors of the instrument, in order of ``index``.
    original : tuple of Row
        The metadata as the file had it, whole and with its own units.

    Notes
    -----
    Lengths are in micrometer, wavelengths in nanometer, times in second.
    """

    scan: tuple[Row, ...] = ()
    channels: tuple[Row, ...] = ()
    planes: tuple[Row, ...] = ()
    objective: tuple[Row, ...] = ()
    detector: tuple[Row, ...] = ()
    original: tuple[Row, ...] = ()

    def rows(self) -> dict[str, list[Row]]:
        """Return copies of the rows by model name (``Channel``, ...), tables without rows left out."""
        tables = {MODELS[item.name]: [dict(one) for one in getattr(self, item.name)] for item in fields(self)}
        return {model: rows for model, rows in tables.items() if rows}

    @classmethod
    def from_rows(cls, tables: Mapping[str, Iterable[Mapping[str, Any]]]) -> Biometa:
        """Return the value whose `rows` are `tables`; columns that are not biometa are left out."""
        return cls(
            **{
                name: tuple(
                    make_row(name, **{key: row.get(key) for key in columns(name)})
                    for row in tables.get(model, ())
                )
                for name, model in MODELS.items()
            }
        )


@cache
def columns(table: str) -> dict[str, FieldSpec]:
    """Return the fields of `table` (``scan``, ``channels``, ...) that hold metadata, by name."""
    spec = classes[MODELS[table]]._spec
    return {item.name: item for item in spec.fields if item.label}


def make_row(table: str, **values: Any) -> Row:
    """Return a row of `table` with every field, as the database takes it.

    Files hold anything: text is cut to what fits, NUL and lone surrogates are taken out, numbers
    that are not finite or too large become None.
    """
    return {name: _fit(spec, values.get(name)) for name, spec in columns(table).items()}


def acquisition_time(text: str | None) -> tuple[datetime | None, str | None]:
    """Return when an image was acquired: in UTC, or as local time of an unknown zone.

    Parameters
    ----------
    text : str or None
        ISO 8601, as ``AcquisitionDate`` of OME-XML.

    Returns
    -------
    (datetime or None, str or None)
        Aware and in UTC where the text tells its zone; else the local time as ISO 8601 text.
        ``(None, None)`` when it is no time. Never guessed.
    """
    try:
        # xsd:dateTime allows any number of digits in a second; datetime takes at most six.
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", (text or "").strip()))
        if moment.tzinfo is None:
            return None, moment.isoformat()
        return moment.astimezone(UTC), None
    except (ValueError, OverflowError):
        return None, None


def clean_text(value: str, limit: int | None) -> str:
    """Return `value` without what databases refuse (NUL, lone surrogates), cut to `limit` characters."""
    text = value.replace("\0", "")
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text if limit is None else text[:limit]


def _fit(spec: FieldSpec, value: Any) -> Any:
    if value is None or spec.type is FieldType.JSON:
        return value
    if spec.type is FieldType.STRING:
        return clean_text(str(value), spec.max_length)
    try:
        number = float(value) if spec.type is FieldType.FLOAT64 else int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if spec.type is FieldType.FLOAT64:
        return number if math.isfinite(number) else None
    return number if abs(number) <= INT64_MAX else None
