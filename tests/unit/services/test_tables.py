from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from larvik.errors import (
    AlreadyExistsError,
    DataLossError,
    InvalidArgumentError,
    LarvikError,
    NotFoundError,
    UnavailableError,
)
from larvik.ids import new_id
from larvik.services.principal import READ, Principal
from larvik.services.tables import TableService
from larvik.storage.base import open_store


@pytest.fixture
def rows() -> pa.Table:
    return pa.table(
        {
            "area": pa.array([1.5, None, 3.0]),
            "label": pa.array([1, 2, 3], pa.uint32()),
            "when": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
            "outline": pa.array([[1, 2], [], None], pa.list_(pa.int16())),
        }
    )


def test_a_table_reads_back_equal(services, me, rows) -> None:
    record = services.tables.write(me, {"name": "cells"}, rows)
    assert services.tables.read(me, record.values["id"]).equals(rows)
    assert record.values["num_rows"] == 3
    assert record.values["columns"]["label"] == "uint32"
    assert record.values["stored_bytes"] == services.store.size(record.values["location"])


def test_a_table_without_rows_or_columns_is_kept(services, me) -> None:
    for empty in (pa.table({"a": pa.array([], pa.int8())}), pa.table({})):
        record = services.tables.write(me, {"name": "empty"}, empty)
        assert services.tables.read(me, record.values["id"]).schema.equals(empty.schema)


def test_the_schema_of_a_table_needs_no_rows(services, me, rows) -> None:
    many = pa.table({f"column {number}": [b"x" * 100] for number in range(2000)})  # and much metadata
    for table in (rows, many, pa.table({})):
        record = services.tables.write(me, {"name": "cells"}, table)
        assert services.tables.schema(me, record.values["id"]).equals(
            services.tables.read(me, record.values["id"]).schema, check_metadata=True
        )
        location = record.values["location"]
        stored = services.store.read(location)
        end = 8 + int.from_bytes(stored[-8:-4], "little")
        services.store.write(location, bytes(len(stored) - end) + stored[-end:])
        assert services.tables.schema(me, record.values["id"]).equals(table.schema)


def test_a_repeated_write_returns_the_row(services, me, rows) -> None:
    values = {"id": new_id(), "name": "cells"}
    assert services.tables.write(me, values, rows) == services.tables.write(me, values, rows)


def test_another_table_cannot_take_the_id(services, me, rows) -> None:
    values = {"id": new_id(), "name": "cells"}
    services.tables.write(me, values, rows)
    with pytest.raises(AlreadyExistsError):
        services.tables.write(me, {**values, "name": "other"}, rows.slice(0, 1))
    assert services.tables.read(me, values["id"]).equals(rows)


@pytest.mark.parametrize(
    "wrong",
    [
        pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
        pa.table({"a\0b": [1]}),
        pa.table({"a": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}),
    ],
)
def test_tables_that_parquet_cannot_hold_are_refused(services, me, wrong) -> None:
    with pytest.raises(LarvikError) as caught:
        services.tables.write(me, {"name": "x"}, wrong)
    assert caught.value.reason == "TABLE_INVALID"
    assert list(services.store.list("tables")) == []


def test_wrong_columns_of_the_row_store_nothing_visible(services, me, rows) -> None:
    with pytest.raises(InvalidArgumentError):
        services.tables.write(me, {"name": 5}, rows)


def test_missing_and_damaged_files_are_named(services, me, rows) -> None:
    record = services.tables.write(me, {"name": "cells"}, rows)
    services.store.write(record.values["location"], b"PAR1 but not really")
    for read in (services.tables.read, services.tables.schema):
        with pytest.raises(DataLossError) as caught:
            read(me, record.values["id"])
        assert caught.value.reason == "TABLE_CORRUPT"
    services.store.delete(record.values["location"])
    for read in (services.tables.read, services.tables.schema):
        with pytest.raises(DataLossError):
            read(me, record.values["id"])


def test_unknown_tables_and_missing_scopes_are_refused(services, me, rows) -> None:
    with pytest.raises(NotFoundError):
        services.tables.read(me, new_id())
    reader = Principal(me.subject_id, "r", "user", frozenset({READ}))
    with pytest.raises(LarvikError) as caught:
        services.tables.write(reader, {"name": "x"}, rows)
    assert caught.value.reason == "SCOPE_MISSING"


def test_other_rows_cannot_take_the_id(services, me, rows) -> None:
    values = {"id": new_id(), "name": "cells"}
    services.tables.write(me, values, rows)
    with pytest.raises(AlreadyExistsError):
        services.tables.write(me, values, rows.slice(0, 1))
    assert services.tables.read(me, values["id"]).equals(rows)


def test_a_store_that_does_not_answer_is_no_damage(services, me, rows) -> None:
    record = services.tables.write(me, {"name": "cells"}, rows)
    gone = open_store("s3://bucket", endpoint_url="http://127.0.0.1:1", key="k", secret="s", timeout_s=0.2)
    tables = TableService(services.database, services.catalog, gone)
    for read in (tables.read, tables.schema):
        with pytest.raises(UnavailableError):
            read(me, record.values["id"])
