"""Writing rows through queries and rows, on a real folder."""

import numpy as np
import pytest

from larvik import ROI, Experiment, Sample, Tag
from larvik.array.vertices import decode, encode
from larvik.errors import AlreadyExistsError, ConflictError, InvalidArgumentError

pytestmark = pytest.mark.usefixtures("connection")


def test_a_created_row_has_what_the_database_gave_it() -> None:
    row = Experiment.objects.create(name="e")
    assert (row.revision, row.created_at == row.updated_at, row.owner is not None) == (1, True, True)
    assert Experiment.objects.get(id=row.id).name == "e"


def test_creating_is_idempotent_by_id() -> None:
    row = Experiment.objects.create(name="e")
    assert Experiment.objects.create(id=row.id, name="e").revision == 1
    with pytest.raises(AlreadyExistsError):
        Experiment.objects.create(id=row.id, name="other")
    assert Experiment.objects.count() == 1


def test_saving_sends_what_changed_and_a_stale_row_is_refused() -> None:
    one = Experiment.objects.create(name="e")
    other = Experiment.objects.get(id=one.id)
    other.description = "changed"
    other.save()
    one.name = "mine"
    with pytest.raises(ConflictError) as caught:
        one.save()
    assert caught.value.reason == "REVISION_STALE"
    one.refresh()
    assert (one.name, one.description, one.revision) == ("e", "changed", 2)
    one.save()
    assert one.revision == 2  # nothing changed, nothing sent


def test_rows_made_of_a_related_query_belong_to_its_row() -> None:
    experiment = Experiment.objects.create(name="e")
    made = experiment.samples.create(name="a")
    experiment.samples.bulk_create([Sample(name="b")])
    assert made.experiment == experiment
    assert [row.name for row in experiment.samples.all()] == ["a", "b"]
    assert experiment.samples.get_or_create(name="c")[0].experiment == experiment


def test_get_or_create_makes_one_row_only_once() -> None:
    first, made = Sample.objects.get_or_create(name="s", defaults={"description": "d"})
    again, made_again = Sample.objects.get_or_create(name="s", defaults={"description": "other"})
    assert (made, made_again, again, again.description) == (True, False, first, "d")


def test_update_or_create_sets_values_whatever_the_revision() -> None:
    row, made = Sample.objects.update_or_create({"description": "one"}, name="s")
    again, made_again = Sample.objects.update_or_create({"description": "two"}, name="s")
    assert (made, made_again, again == row, again.description, again.revision) == (
        True,
        False,
        True,
        "two",
        2,
    )


def test_a_bulk_of_rows_is_stored_whole_or_not_at_all() -> None:
    kept = Sample.objects.create(name="kept")
    with pytest.raises(AlreadyExistsError):
        Sample.objects.bulk_create([Sample(name="a"), Sample(id=kept.id, name="other")])
    assert Sample.objects.count() == 1
    with pytest.raises(InvalidArgumentError, match="not Experiment"):
        Sample.objects.bulk_create([Experiment(name="x")])  # type: ignore[list-item]


def test_updating_and_deleting_a_query_counts_its_rows() -> None:
    Sample.objects.bulk_create([Sample(name=name) for name in "abc"])
    assert Sample.objects.filter(name__lt="c").update(description="x") == 2
    assert Sample.objects.order_by("name")[:1].update(description="y") == 1
    assert Sample.objects.values_list("description", flat=True) == ["y", "x", ""]
    assert (Sample.objects.filter(description="x").delete(), Sample.objects.count()) == (1, 2)
    assert (Sample.objects.trash().count(), Sample.objects.with_trash().count()) == (1, 3)


def test_a_trashed_row_comes_back() -> None:
    row = Sample.objects.create(name="a")
    row.delete()
    assert row.deleted_at is not None
    (found,) = Sample.objects.trash()
    found.restore()
    assert (found.deleted_at, Sample.objects.count()) == (None, 1)


def test_tags_are_a_set_of_words() -> None:
    row = Sample.objects.create(name="a")
    row.tags.add("b", "a", "b")
    row.tags.add("a", "c")
    assert row.tags.names() == ["a", "b", "c"]
    assert (row.tags.remove("a", "x"), row.tags.names()) == (1, ["b", "c"])
    assert Tag.objects.filter(name="b").count() == 1


def test_key_values_are_a_mapping_of_text() -> None:
    row = Sample.objects.create(name="a")
    row.key_values.set({"plate row": "B"}, dose=5)
    row.key_values.set(dose="6 mg")
    assert row.key_values.as_dict() == {"dose": "6 mg", "plate row": "B"}
    assert row.key_values.get(key="dose").number is None
    row.key_values.set(dose=5.5)
    assert row.key_values.get(key="dose").number == 5.5
    assert (row.key_values.remove("dose"), row.key_values.count()) == (1, 1)


@pytest.mark.parametrize("points", [[[0, 1.5], [2, 3]], np.arange(4, dtype="uint8").reshape(2, 2), [4, 5]])
def test_vertices_come_back_as_they_went_in(points: object) -> None:
    array = np.atleast_2d(np.asarray(points, float))
    np.testing.assert_array_equal(decode(encode(points, 2), 2), array)


@pytest.mark.parametrize("points", [[], [[1, 2, 3]], [[1, float("nan")]], "text", [[[1, 2]]], [["a", "b"]]])
def test_vertices_of_another_form_are_refused(points: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"ROI\.vertices"):
        ROI.objects.create(
            representation_id="0192f0c1-0000-7000-8000-000000000001", kind="polygon", vertices=points
        )
