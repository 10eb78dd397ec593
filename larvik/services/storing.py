"""A new array's row and what is stored along with it, in one transaction; kept as JSON until then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from larvik.array.spec import ArraySpec
from larvik.db.engine import Database
from larvik.db.unit_of_work import UnitOfWork
from larvik.db.upload_sessions import UploadSession
from larvik.errors import InvalidArgumentError
from larvik.ids import new_id
from larvik.query.query import Record
from larvik.schema import ModelSpec, Registry
from larvik.services.rows import Rows, in_order, row_from_json, row_to_json

#: Models whose rows never come along with an array.
FORBIDDEN = frozenset({"Subject", "Team"})


def store_array(
    work: UnitOfWork,
    registry: Registry,
    model: str,
    values: Mapping[str, object],
    computed: Mapping[str, object],
    rows: Rows,
) -> Record:
    """Store whole rows that the array refers to, its own row, then its parts; return its row.

    Parameters
    ----------
    work : UnitOfWork
        The transaction.
    registry : Registry
        The models.
    model : str
        Model of the array.
    values, computed : mapping
        Columns of its row, id included: those that people set, those that Larvik sets.
    rows : mapping
        Rows by model, parts without ``object_id``.
    """
    models = [registry.get(name) for name in in_order(registry, rows)]
    for spec in models:
        if not spec.is_part:
            work.create(spec.name, rows[spec.name])
    (record,) = work.create(model, [values], computed=[computed])
    for spec in models:
        if spec.is_part:
            work.create(spec.name, [{**row, "object_id": record.values["id"]} for row in rows[spec.name]])
    return record


def session_content(
    registry: Registry, array: ModelSpec, values: Mapping[str, object], planned: ArraySpec, rows: Rows
) -> dict[str, Any]:
    """Return what an upload session keeps until its commit, as the database gives it back.

    Raises
    ------
    InvalidArgumentError
        ``MODEL_INVALID``, for models whose rows cannot come along; ``FIELD_UNKNOWN`` or
        ``FIELD_INVALID``; names the field.
    """
    for model in rows:
        if registry.get(model).is_array or model in FORBIDDEN:
            raise InvalidArgumentError(
                f"Rows of {model} cannot be stored along with an array.", reason="MODEL_INVALID", model=model
            )
    content = {
        "values": row_to_json(array, values),
        "spec": planned.to_dict(),
        "rows": {
            model: [_with_id(row_to_json(registry.get(model), row)) for row in some]
            for model, some in rows.items()
        },
    }
    return cast("dict[str, Any]", json.loads(json.dumps(content)))


def store_session(work: UnitOfWork, registry: Registry, session: UploadSession, stored_bytes: int) -> Record:
    """Store the rows of an upload session; see `store_array`."""
    spec = ArraySpec.from_dict(session.content["spec"])
    computed = {
        "dims": spec.dims, "shape": spec.shape, "dtype": spec.dtype, "spec": session.content["spec"],
        "location": session.location, "stored_bytes": stored_bytes,
    }  # fmt: skip
    rows = {
        model: [row_from_json(registry.get(model), row) for row in some]
        for model, some in session.content["rows"].items()
    }
    values = row_from_json(registry.get(session.model), session.content["values"])
    return store_array(work, registry, session.model, values, computed, rows)


def try_storing(database: Database, session: UploadSession) -> None:
    """Raise now what `store_session` would raise at the commit; nothing is stored."""
    try:
        with UnitOfWork(database, session.subject_id) as work:
            store_session(work, database.registry, session, 0)
            raise _RollbackError
    except _RollbackError:
        pass


class _RollbackError(Exception):
    """Ends a unit of work that was only tried."""


def _with_id(row: dict[str, Any]) -> dict[str, Any]:
    """Return `row` with an id: trying and storing it must make the same row."""
    return row if row.get("id") else {**row, "id": new_id()}
