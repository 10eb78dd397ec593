"""Rows as plain objects: constructing, assigning, comparing, pickling."""

import pickle
from datetime import UTC, datetime

import pytest

from larvik import ROI, Experiment, Representation, Sample, Scan
from larvik.errors import InvalidArgumentError
from larvik.ids import new_id
from larvik.query import Record
from larvik.query.fetch import is_new, new_values


def test_a_row_has_its_id_and_its_defaults_before_it_is_stored() -> None:
    row = Sample(name="s")
    assert row.id[14] == "7"
    assert (row.name, row.description, row.experiment, row.created_at) == ("s", "", None, None)
    assert is_new(row)


@pytest.mark.parametrize(
    ("values", "reason", "words"),
    [
        ({}, "FIELD_MISSING", "Sample.name is required"),
        ({"nmae": "x"}, "FIELD_UNKNOWN", "Did you mean 'name'"),
        ({"name": 3}, "FIELD_INVALID", "takes text"),
        ({"name": "x", "revision": 3}, "FIELD_READ_ONLY", "set by Larvik"),
        ({"name": "x", "experiment": Sample(name="y")}, "FIELD_INVALID", "takes a Experiment"),
        ({"name": "x", "experiment_id": "x"}, "ID_INVALID", "not a UUID"),
    ],
)
def test_a_row_refuses_what_its_model_does_not_know(
    values: dict[str, object], reason: str, words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        Sample(**values)
    assert caught.value.reason == reason


def test_a_required_relation_is_asked_for_by_name() -> None:
    with pytest.raises(InvalidArgumentError, match=r"ROI\.representation is required"):
        ROI(kind="point", vertices=b"")


def test_assigning_checks_the_value_and_keeps_the_old_one_on_refusal() -> None:
    row = Sample(name="s")
    with pytest.raises(InvalidArgumentError, match="NUL"):
        row.name = "a\0"
    with pytest.raises(AttributeError, match="Did you mean 'name'"):
        row.nmae = "x"  # type: ignore[attr-defined]
    assert row.name == "s"


def test_a_relation_that_was_assigned_is_not_fetched() -> None:
    experiment = Experiment(name="e")
    row = Sample(name="s", experiment=experiment)
    assert row.experiment is experiment
    assert row._values["experiment_id"] == experiment.id
    row.experiment = None
    assert row.experiment is None


def test_rows_are_equal_by_model_and_id() -> None:
    one, other = Sample(id=(key := new_id()), name="a"), Sample(id=key, name="b")
    assert one == other
    assert len({one, other, Experiment(id=key, name="a")}) == 2


def test_a_stored_row_survives_pickling_without_its_connection() -> None:
    row = stored(Sample, name="s", created_at=datetime(2026, 1, 1, tzinfo=UTC), revision=4)
    row.name = "changed"
    again = pickle.loads(pickle.dumps(row))
    assert (again, again.name, again.revision, again._changed) == (row, "changed", 4, {"name"})
    assert not is_new(again)


def test_errors_of_a_model_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(Sample.DoesNotExist("gone", model="Sample")))
    assert (type(error), str(error), error.reason) == (Sample.DoesNotExist, "gone", "OBJECT_NOT_FOUND")
    assert issubclass(Representation.MultipleObjectsReturned, InvalidArgumentError)
    assert not issubclass(Sample.DoesNotExist, Experiment.DoesNotExist)


def test_only_what_a_caller_may_set_is_sent_for_a_new_row() -> None:
    values = new_values(Sample(name="s"))
    assert {"id", "name", "description", "experiment_id", "team_id"} <= set(values)
    assert not {"created_at", "updated_at", "revision", "owner_id", "created_by_id", "deleted_at"} & set(
        values
    )


def test_parts_have_no_tags_of_their_own() -> None:
    scan = Scan(object_id=new_id())
    with pytest.raises(AttributeError, match="no attribute 'tags'"):
        scan.tags  # noqa: B018  # reading it is the point


def stored(model: type[Sample], **values: object) -> Sample:
    row = model(name="x")
    row._absorb(Record(model._spec.name, {**row._values, **values}))
    return row
