"""Rows and tables handed to consumers of Arrow's PyCapsule interface."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr

from larvik import Channel, Experiment, Representation, Table


def test_rows_of_a_query_stream_to_arrow(connection) -> None:
    Experiment.objects.bulk_create([Experiment(name=f"Study {number}") for number in range(5)])
    query = Experiment.objects.filter(name__gt="Study 1").order_by("-name")
    table = pa.table(query)
    assert table.equals(query.arrow())
    assert table["name"].to_pylist() == ["Study 4", "Study 3", "Study 2"]
    assert pa.schema(query) == table.schema
    assert pa.RecordBatchReader.from_stream(query).read_all().equals(table)
    assert pa.table(query[1:2])["name"].to_pylist() == ["Study 3"]
    assert pa.table(query.filter(name="none")).num_rows == 0


@pytest.mark.skipif(
    not hasattr(pd.DataFrame, "from_arrow"), reason="pandas 3 is the first that takes streams"
)
def test_pandas_takes_them(connection) -> None:
    Experiment.objects.create(name="Study")
    assert pd.DataFrame.from_arrow(Experiment.objects.all())["name"].tolist() == ["Study"]


def test_a_schema_that_is_asked_for_is_given(connection) -> None:
    Experiment.objects.create(name="Study")
    query = Experiment.objects.all()
    wanted = pa.schema(
        [
            field.with_type(pa.large_string()) if field.name == "name" else field
            for field in query.arrow().schema
        ]
    )
    assert (
        pa.RecordBatchReader.from_stream(query, schema=wanted).read_all().schema.field("name").type
        == pa.large_string()
    )


def test_tables_of_biometa_are_taken(connection) -> None:
    array = xr.DataArray(np.zeros((2, 4, 5), "uint8"), dims=list("cyx"), coords={"c": ["DAPI", "GFP"]})
    rep = Representation.objects.from_xarray(array, name="cells")
    table = pa.table(rep.biometa.channels)
    assert table["Name"].to_pylist() == ["DAPI", "GFP"]
    assert pa.table(Representation.objects.all().biometa.channels)["array_id"].to_pylist() == [rep.id] * 2
    assert pa.table(Channel.objects.filter(object_id=rep.id))["Name"].to_pylist() == ["DAPI", "GFP"]
    for name in ("scan", "planes", "objective", "detector", "original"):
        frame = getattr(rep.biometa, name)
        assert pa.table(frame).schema.names == [*frame.columns]


@pytest.mark.parametrize(
    "frame", [pd.DataFrame({"cell": [1, 2], "area": [3.5, np.nan], "kind": ["a", None]})]
)
def test_measurement_tables_are_taken(connection, frame) -> None:
    stored = Table.objects.from_frame(frame, name="cells")
    assert pa.table(stored).equals(stored.arrow())
    assert pa.schema(stored) == stored.arrow().schema
    pd.testing.assert_frame_equal(pa.table(stored).to_pandas(), stored.frame())
