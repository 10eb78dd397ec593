"""What filter() means: names and values become predicates, or errors that name the path."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from larvik import Channel, Experiment, KeyValue, Q, Representation, Sample, Tag
from larvik.errors import InvalidArgumentError
from larvik.models import registry
from larvik.query import And, Compare, Not, Or, Predicate
from larvik.query.conditions import condition, predicate
from larvik.query.predicate import Lookup

ID = "0192f0c1-0000-7000-8000-000000000001"
OTHER = "0192f0c1-0000-7000-8000-000000000002"


def meaning(model: str = "Representation", /, *parts: Q, **conditions: object) -> Predicate:
    return predicate(registry, model, Q(*parts, **conditions))


def test_a_path_over_relations_ends_in_a_column_and_a_lookup() -> None:
    assert meaning(sample__experiment__name__startswith="Animal") == Compare(
        ("sample", "experiment", "name"), Lookup.STARTSWITH, "Animal"
    )


def test_a_relation_compares_its_column_with_the_id_of_a_row() -> None:
    sample = Sample(id=ID, name="s")
    assert meaning(sample=sample) == meaning(sample=ID) == Compare(("sample_id",), Lookup.EXACT, ID)
    assert meaning(sample__experiment=OTHER) == Compare(("sample", "experiment_id"), Lookup.EXACT, OTHER)
    assert meaning(sample__in=[sample, OTHER]) == Compare(("sample_id",), Lookup.IN, (ID, OTHER))


def test_a_reverse_relation_compares_ids_of_the_far_side() -> None:
    row = Representation(id=ID, name="r")
    assert meaning("Sample", representations=row) == Compare(("representations", "id"), Lookup.EXACT, ID)


def test_a_query_stands_for_the_ids_of_its_rows() -> None:
    samples = Sample.objects.filter(name="s")
    assert meaning(sample__in=samples) == Compare(("sample_id",), Lookup.IN, samples.query)
    assert meaning("Tag", object_id__in=samples) == Compare(("object_id",), Lookup.IN, samples.query)


def test_biometa_takes_any_spelling_of_a_name() -> None:
    wanted = Compare(("biometa__channels", "emission_wavelength"), Lookup.GT, 500.0)
    assert meaning(biometa__channels__EmissionWavelength__gt=500) == wanted
    assert meaning(biometa__channels__EmissionWaveLength__gt=500) == wanted
    assert meaning(biometa__channels__emission_wavelength__gt=np.float32(500)) == wanted


def test_tags_compare_their_names() -> None:
    assert meaning(tags="good") == Compare(("tags", "name"), Lookup.EXACT, "good")
    assert meaning(tags__in={"good"}) == Compare(("tags", "name"), Lookup.IN, ("good",))


def test_a_key_stands_for_the_column_of_a_pair() -> None:
    assert meaning(key_values__dose="5 mg") == Compare(("key_values", "dose"), Lookup.EXACT, "5 mg")
    assert meaning(key_values__dose__startswith="5") == Compare(
        ("key_values", "dose"), Lookup.STARTSWITH, "5"
    )


def test_the_value_of_a_key_is_compared_with_numbers_as_a_number() -> None:
    assert meaning(key_values__dose__gt=np.int64(4)) == Compare(("key_values", "dose"), Lookup.GT, 4.0)
    assert meaning(key_values__dose__range=(1, 2)) == Compare(
        ("key_values", "dose"), Lookup.RANGE, (1.0, 2.0)
    )
    with pytest.raises(InvalidArgumentError, match="does not hold text"):
        meaning(key_values__dose__startswith=5)


def test_a_missing_key_is_found_by_isnull() -> None:
    key = Compare(("key_values", "key"), Lookup.EXACT, "dose")
    assert meaning(key_values__dose__isnull=True) == Not(key)
    assert meaning(key_values__dose__isnull=False) == key


def test_isnull_over_a_to_many_relation_means_that_there_is_no_row() -> None:
    assert meaning(rois__isnull=True) == Not(Compare(("rois", "id"), Lookup.ISNULL, False))
    assert meaning(rois__isnull=False) == Compare(("rois", "id"), Lookup.ISNULL, False)
    assert meaning(tags__isnull=True) == Not(Compare(("tags", "name"), Lookup.ISNULL, False))
    assert meaning(rois__label__isnull=True) == Compare(("rois", "label"), Lookup.ISNULL, True)
    assert meaning(sample__isnull=True) == Compare(("sample_id",), Lookup.ISNULL, True)


def test_none_means_isnull() -> None:
    assert meaning(sample=None) == Compare(("sample_id",), Lookup.ISNULL, True)


def test_conditions_of_one_call_stand_side_by_side() -> None:
    assert meaning("Representation", Q(rois__kind="line") & Q(rois__label="x"), name="n") == And(
        (
            Compare(("rois", "kind"), Lookup.EXACT, "line"),
            Compare(("rois", "label"), Lookup.EXACT, "x"),
            Compare(("name",), Lookup.EXACT, "n"),
        )
    )


def test_or_and_not_keep_their_shape() -> None:
    a, b = Compare(("name",), Lookup.EXACT, "a"), Compare(("name",), Lookup.EXACT, "b")
    assert meaning("Representation", Q(name="a") | ~Q(name="b")) == Or((a, Not(b)))
    assert meaning("Representation", ~(Q(name="a") | Q(name="b"))) == Not(Or((a, b)))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.str_("a"), "a"),
        (pd.Series(["a"])[0], "a"),
    ],
)
def test_numpy_text_becomes_plain_text(value: object, plain: str) -> None:
    found = condition(registry, "Representation", "name", value)
    assert isinstance(found, Compare)
    assert (found.value, type(found.value)) == (plain, str)


def test_numpy_integers_and_lists_become_plain_numbers() -> None:
    found = condition(registry, "Representation", "stored_bytes__in", np.arange(3))
    assert isinstance(found, Compare)
    assert found.value == (0, 1, 2)
    assert {type(item) for item in found.value} == {int}  # type: ignore[union-attr]


def test_moments_become_plain_utc_datetimes() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    found = condition(
        registry, "Representation", "created_at__gte", pd.Timestamp(moment).tz_convert("Asia/Tokyo")
    )
    assert isinstance(found, Compare)
    assert found.value == moment
    assert type(found.value) is datetime


@pytest.mark.parametrize(
    ("model", "conditions", "reason", "words"),
    [
        ("Representation", {"smaple__name": "x"}, "FIELD_UNKNOWN", "Did you mean 'sample'"),
        ("Representation", {"sample__experiment__nam": "x"}, "FIELD_UNKNOWN", "Did you mean 'name'"),
        ("Representation", {"name__startwith": "x"}, "LOOKUP_UNKNOWN", "Did you mean 'startswith'"),
        ("Representation", {"biometa__channels__Emision": 1}, "FIELD_UNKNOWN", "EmissionWavelength"),
        ("Representation", {"created_at__gt": datetime(2026, 1, 1)}, "FIELD_INVALID", "time zone"),
        ("Representation", {"created_at__gt": np.datetime64("2026-01-01")}, "FIELD_INVALID", "date and time"),
        ("Representation", {"version__contains": "1"}, "LOOKUP_INVALID", "does not hold text"),
        ("Representation", {"attributes": {"a": 1}}, "LOOKUP_INVALID", "only isnull"),
        ("Representation", {"dims__gt": ("x",)}, "LOOKUP_INVALID", "exact, in and isnull"),
        ("Representation", {"kind": "intensty"}, "FIELD_INVALID", "Did you mean 'intensity'"),
        ("Representation", {"name": 5}, "FIELD_INVALID", "takes text"),
        ("Representation", {"name__gt": None}, "FIELD_INVALID", "isnull=True"),
        ("Representation", {"name__in": ["a", None]}, "FIELD_INVALID", "isnull=True"),
        ("Representation", {"name__in": "abc"}, "FIELD_INVALID", "a list or a query"),
        ("Representation", {"version__range": (1, 2, 3)}, "FIELD_INVALID", "two values"),
        ("Representation", {"name__isnull": "yes"}, "FIELD_INVALID", "True or False"),
        ("Representation", {"name": "a\0b"}, "FIELD_INVALID", "NUL"),
        ("Representation", {"name": "x" * 10_000_000}, "FIELD_INVALID", "at most"),
        ("Representation", {"sample": "not-an-id"}, "ID_INVALID", "not a UUID"),
        (
            "Representation",
            {"sample": Experiment(name="e")},
            "FIELD_INVALID",
            "a Sample or its id, not a Experiment",
        ),
        ("Representation", {"name": Experiment(name="e")}, "FIELD_INVALID", "not a Experiment"),
        ("Representation", {"sample__in": Experiment.objects.all()}, "FIELD_INVALID", "rows of Sample"),
        ("Representation", {"sample": Sample.objects.all()}, "FIELD_INVALID", "sample__in"),
        ("Representation", {"__".join(["parent"] * 20) + "__name": "x"}, "FIELD_INVALID", "too long"),
    ],
)
def test_what_cannot_be_right_is_refused_at_once_and_named(
    model: str, conditions: dict[str, object], reason: str, words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        meaning(model, **conditions)
    assert caught.value.reason == reason


def test_text_lookups_are_not_held_to_the_choices_of_a_field() -> None:
    assert meaning(kind__startswith="int") == Compare(("kind",), Lookup.STARTSWITH, "int")


def test_parts_are_queried_like_any_model() -> None:
    assert meaning("Channel", Name="DAPI") == Compare(("name",), Lookup.EXACT, "DAPI")
    assert meaning("Tag", object_id=Representation(id=ID, name="r")) == Compare(
        ("object_id",), Lookup.EXACT, ID
    )
    assert Channel.objects.query.model, Tag.objects.query.model == ("Channel", "Tag")
    assert KeyValue.objects.filter(key="dose").query.where == (Compare(("key",), Lookup.EXACT, "dose"),)
