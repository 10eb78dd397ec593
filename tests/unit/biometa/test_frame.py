from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from larvik.biometa.frame import TEXT, BiometaFrame, ColumnError, frame_from_arrow, make_frame
from larvik.biometa.tables import MODELS, Biometa, columns, make_row
from larvik.errors import MetadataError

ROWS = [
    make_row("channels", index=0, name="DAPI", emission_wavelength=461.0, detector_index=1),
    make_row("channels", index=1),
]


@pytest.mark.parametrize(
    "name", ["EmissionWavelength", "EmissionWaveLength", "emission_wavelength", "EMISSIONWAVELENGTH"]
)
def test_columns_are_found_without_case_and_underscores(name: str) -> None:
    assert make_frame("channels", ROWS)[name].to_list()[0] == 461.0


def test_a_wrong_column_suggests_the_nearest_and_is_a_key_error() -> None:
    frame = make_frame("channels", ROWS)
    with pytest.raises(KeyError, match="'EmissionWavelength'"):
        frame["EmisionWavelenth"]
    with pytest.raises(MetadataError) as caught:
        frame[["Name", "Colour"]]
    assert isinstance(caught.value, ColumnError)
    assert caught.value.reason == "COLUMN_UNKNOWN"


def test_several_columns_and_rows_stay_a_table_of_biometa() -> None:
    frame = make_frame("channels", ROWS)
    assert list(frame[["name", "emissionwavelength"]].columns) == ["Name", "EmissionWavelength"]
    for other in (
        frame[["name"]],
        frame[frame["index"] == 0],
        frame.head(1),
        pickle.loads(pickle.dumps(frame)),
    ):
        assert isinstance(other, BiometaFrame)


@pytest.mark.parametrize("table", MODELS)
def test_empty_tables_have_the_columns_and_dtypes_of_full_ones(table: str) -> None:
    full = {
        name: {"int64": 1, "float64": 1.0, "json": {}}.get(spec.type, "a")
        for name, spec in columns(table).items()
    }
    empty, filled = make_frame(table, []), make_frame(table, [full])
    assert len(empty) == 0
    assert list(empty.dtypes) == list(filled.dtypes)
    assert list(empty.columns) == [spec.label for spec in columns(table).values()]


def test_missing_values_are_missing_in_every_dtype() -> None:
    frame = make_frame("channels", ROWS)
    assert frame.isna().iloc[1].drop("Index").all()
    assert str(frame["Index"].dtype) == "int64"
    assert str(frame["DetectorIndex"].dtype) == "Int64"
    assert frame["Name"].dtype == TEXT


def test_arrow_tables_give_the_same_frame() -> None:
    labels = {spec.label: [row[name] for row in ROWS] for name, spec in columns("channels").items()}
    types = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
    schema = pa.schema([(str(spec.label), types[spec.type]) for spec in columns("channels").values()])
    table = pa.table(labels, schema=schema)
    frame = frame_from_arrow("channels", table)
    wanted = make_frame("channels", ROWS)
    assert frame.equals(wanted)
    assert list(frame.dtypes) == list(wanted.dtypes)


def test_rows_are_cut_to_what_the_database_takes() -> None:
    row = make_row(
        "channels", index=2, name="a\0" * 2000 + "\ud800", gain=float("nan"), samples_per_pixel=2**70
    )
    assert row["name"] == "a" * 1000
    assert row["gain"] is None
    assert row["samples_per_pixel"] is None


def test_rows_by_model_make_the_same_value_again() -> None:
    biometa = Biometa(scan=(make_row("scan", name="x"),), channels=tuple(ROWS))
    assert set(biometa.rows()) == {"Scan", "Channel"}
    assert Biometa.from_rows(biometa.rows()) == biometa
    extra = {"Channel": [{**ROWS[0], "id": "1", "object_id": "2"}]}
    assert Biometa.from_rows(extra).channels == (ROWS[0],)
