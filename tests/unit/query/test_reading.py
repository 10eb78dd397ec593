"""Reading rows from queries, on a real folder."""

from collections.abc import Callable
from typing import Any

import pytest

from larvik import Experiment, Q, Sample, Tag
from larvik.connection import Connection
from larvik.errors import InvalidArgumentError, NotFoundError, SelectionError
from larvik.testing.statements import count_statements


@pytest.fixture
def samples(connection: Connection) -> list[Sample]:
    experiment = Experiment.objects.create(name="Animal")
    rows = [Sample(name=name, experiment=experiment) for name in ("a", "b", "c", "d", "e")]
    rows[4].experiment = None
    return Sample.objects.bulk_create(rows)


def names(rows: object) -> list[str]:
    return [row.name for row in rows]  # type: ignore[attr-defined]


def test_rows_come_in_the_order_of_their_making(samples: list[Sample]) -> None:
    assert list(Sample.objects.all()) == samples


def test_many_pages_give_every_row_once(samples: list[Sample]) -> None:
    assert names(Sample.objects.order_by("-name").iterator(page_size=2)) == ["e", "d", "c", "b", "a"]
    assert names(Sample.objects.order_by("-name")[1:4].iterator(page_size=2)) == ["d", "c", "b"]


def test_rows_are_kept_until_a_new_query_is_asked(samples: list[Sample]) -> None:
    found = Sample.objects.filter(name__in=["a", "b"])
    first = list(found)
    Sample.objects.filter(name="a").update(name="z")
    assert [one is other for one, other in zip(found, first, strict=True)] == [True, True]
    assert names(found.all()) == ["b"]


def test_two_readers_of_one_query_share_its_pages(samples: list[Sample]) -> None:
    found = Sample.objects.all()
    assert [(one.name, other.name) for one, other in zip(found, found, strict=True)] == [
        (n, n) for n in "abcde"
    ]


def test_slices_and_indexes_are_those_of_the_list(samples: list[Sample]) -> None:
    found = Sample.objects.order_by("name")
    for start, stop in [(0, 2), (1, 4), (3, 9), (9, 12), (2, 2), (0, None), (4, None)]:
        assert list(found[start:stop]) == samples[start:stop]
        kept = found.all()
        list(kept)
        assert list(kept[start:stop]) == samples[start:stop]
    assert (found[0], found[4]) == (samples[0], samples[4])
    with pytest.raises(SelectionError, match="no row 5"):
        found[5]
    with pytest.raises(IndexError):
        found[1:3][2]


def test_conditions_on_a_slice_see_its_rows_alone(samples: list[Sample]) -> None:
    last_three = Sample.objects.order_by("-name")[:3]
    assert names(last_three.filter(name__lte="d")) == ["d", "c"]
    assert names(last_three.order_by("name")) == ["c", "d", "e"]
    assert (last_three.count(), last_three.filter(name="a").exists()) == (3, False)


def test_first_last_and_the_rest_of_the_single_ones(samples: list[Sample]) -> None:
    found = Sample.objects.order_by("name")
    assert (found.first(), found.last(), found[1:3].last()) == (samples[0], samples[4], samples[2])
    assert (Sample.objects.last(), found.filter(name="x").first(), found.filter(name="x").last()) == (
        samples[4],
        None,
        None,
    )
    assert found.in_bulk([samples[1].id]) == {samples[1].id: samples[1]}
    assert samples[0] in found
    assert samples[0] not in found.filter(name="b")
    assert Experiment.objects.first() not in found


def test_the_last_row_of_an_order_with_gaps_has_none(samples: list[Sample]) -> None:
    found = Sample.objects.order_by("experiment__name", "name")
    assert found.last() == list(found)[-1] == samples[4]


def test_a_query_is_true_when_it_has_a_row(samples: list[Sample]) -> None:
    assert Sample.objects.filter(name="a")
    assert not Sample.objects.filter(name="x")
    assert (len(Sample.objects.all()), Sample.objects.count(), Sample.objects.filter(name="x").exists()) == (
        5,
        5,
        False,
    )


def test_get_wants_exactly_one(samples: list[Sample]) -> None:
    assert Sample.objects.get(name="b") == samples[1]
    with pytest.raises(Sample.DoesNotExist, match=r"No Sample matches \(name='x'\)"):
        Sample.objects.get(name="x")
    with pytest.raises(Sample.MultipleObjectsReturned, match="More than one"):
        Sample.objects.get(experiment__name="Animal")


def test_values_follow_relations_and_keep_gaps(samples: list[Sample]) -> None:
    found = Sample.objects.order_by("-name")[:2]
    assert found.values("name", "experiment__name") == [
        {"name": "e", "experiment__name": None},
        {"name": "d", "experiment__name": "Animal"},
    ]
    assert found.values_list("name", flat=True) == ["e", "d"]
    assert found.values_list("experiment", "name")[0] == (None, "e")
    assert set(found.values()[0]) == {column.name for column in Sample._spec.columns()}
    with pytest.raises(InvalidArgumentError, match="many rows"):
        found.values("representations__name")


def test_tables_have_the_columns_that_were_asked_for(samples: list[Sample]) -> None:
    found = Sample.objects.order_by("name")
    assert found.arrow("name", "experiment").schema.names == ["name", "experiment_id"]
    assert found.frame("name")["name"].tolist() == ["a", "b", "c", "d", "e"]
    assert found[1:3].frame("name")["name"].tolist() == ["b", "c"]
    with pytest.raises(InvalidArgumentError, match="values"):
        found.frame("experiment__name")


def test_related_rows_are_the_same_object_for_a_page(samples: list[Sample]) -> None:
    rows = list(Sample.objects.order_by("name"))
    assert rows[0].experiment is rows[1].experiment
    assert rows[4].experiment is None
    selected = list(Sample.objects.order_by("name").select_related("experiment"))
    assert [row._related.get("experiment") for row in selected[3:]] == [rows[0].experiment, None]


def test_prefetched_rows_answer_without_asking_again(samples: list[Sample]) -> None:
    samples[0].tags.add("x", "y")
    (experiment,) = Experiment.objects.prefetch_related("samples__tags")
    Tag.objects.all().delete()
    Sample.objects.all().delete()
    assert names(experiment.samples) == ["a", "b", "c", "d"]
    assert (experiment.samples.count(), experiment.samples.first(), len(experiment.samples[1:3])) == (
        4,
        samples[0],
        2,
    )
    assert names(experiment.samples[0].tags) == ["x", "y"]
    assert experiment.samples[1].tags.first() is None
    assert experiment.samples.all().count() == 0


def test_a_relation_to_what_is_in_the_trash_is_still_shown(samples: list[Sample]) -> None:
    Experiment.objects.all().delete()
    sample = Sample.objects.get(name="a")
    assert sample.experiment is not None
    assert sample.experiment.deleted_at is not None


def test_a_row_that_is_gone_says_so(samples: list[Sample]) -> None:
    tag = samples[0].tags
    tag.add("x")
    (row,) = tag
    tag.remove("x")
    with pytest.raises(NotFoundError, match="gone"):
        row.refresh()


def test_two_keys_in_one_filter_speak_of_two_pairs(samples: list[Sample]) -> None:
    samples[0].key_values.set(dose=5, drug="A")
    samples[1].key_values.set(dose=7, drug="B")
    found = Sample.objects.filter
    assert names(found(key_values__dose__gte=5, key_values__drug="A")) == ["a"]
    assert names(found(key_values__dose__gt=5, key_values__drug="A")) == []
    assert names(found(Q(key_values__dose__gt=5) | Q(key_values__drug="A"))) == ["a", "b"]
    experiments = Experiment.objects.filter
    assert (
        experiments(samples__key_values__dose=5, samples__key_values__drug="A", samples__name="a").count()
        == 1
    )
    assert experiments(samples__key_values__dose=5, samples__name="b").count() == 0


def test_repr_shows_the_first_rows(samples: list[Sample]) -> None:
    assert repr(Sample.objects.filter(name="a")) == f"<QuerySet[Sample] [<Sample 'a' {samples[0].id}>]>"
    Sample.objects.bulk_create([Sample(name="more") for _ in range(10)])
    assert repr(Sample.objects.all()).endswith(", ...]>")


@pytest.mark.parametrize(
    ("read", "statements"),
    [
        (lambda: Sample.objects.filter(experiment__name__startswith="A").first(), 1),
        (lambda: list(Sample.objects.all()), 1),
        (lambda: list(Sample.objects.iterator(page_size=2)), 3),
        (lambda: [row.experiment for row in Sample.objects.all()], 2),
        (lambda: [row.experiment for row in Sample.objects.select_related("experiment")], 1),
        (lambda: [list(row.tags) for row in Sample.objects.prefetch_related("tags")], 2),
        (lambda: [list(row.samples) for row in Experiment.objects.prefetch_related("samples__tags")], 3),
        (lambda: Sample.objects.count(), 1),
        (lambda: Sample.objects.exists(), 1),
        (lambda: bool(Sample.objects.all()), 1),
        (lambda: Sample.objects.get(name="a"), 1),
        (lambda: Sample.objects.order_by("name")[2], 1),
        (lambda: Sample.objects.values("name", "experiment__name"), 1),
        (lambda: Sample.objects.filter(experiment__in=Experiment.objects.filter(name="Animal")).count(), 1),
        (lambda: Sample.objects.filter(name="x").order_by("name"), 0),
        (lambda: Sample.objects.none().first(), 0),
        (lambda: Sample.objects.arrow("name"), 1),
    ],
)
def test_reading_costs_no_more_statements_than_it_must(
    connection: Any, samples: list[Sample], read: Callable[[], object], statements: int
) -> None:
    with count_statements(connection.services.database) as run:
        read()
    assert len(run) == statements, run


def test_the_relation_of_a_page_is_one_statement_however_many_rows(connection: Any) -> None:
    experiments = Experiment.objects.bulk_create([Experiment(name=str(number)) for number in range(20)])
    Sample.objects.bulk_create([Sample(name=str(n), experiment=experiments[n % 20]) for n in range(60)])
    with count_statements(connection.services.database) as run:
        assert {row.experiment.name for row in Sample.objects.all()} == {str(number) for number in range(20)}
    assert len(run) == 2
