"""What each step of building a query gives: a new Query value, and nothing else."""

import pickle

import pytest

from larvik import Experiment, KeyValue, LarvikArray, Q, Representation, Sample, Table, Tag
from larvik.errors import InvalidArgumentError, PreconditionError, SelectionError
from larvik.query import Compare, Not, Order, Query
from larvik.query.predicate import Lookup
from larvik.query.query import Trash

READY = Representation.objects.filter(type="initial")


def test_a_fresh_query_asks_for_everything_that_is_live() -> None:
    assert Representation.objects.query == Query("Representation")


def test_a_step_leaves_the_query_it_starts_from_alone() -> None:
    before = READY.query
    READY.filter(name="x").order_by("name").exclude(kind="label")
    assert READY.query is before


def test_each_filter_is_one_condition_of_its_own() -> None:
    found = Sample.objects.filter(representations__name="a").filter(representations__type="b").query
    assert [type(part) for part in found.where] == [Compare, Compare]
    assert len(Sample.objects.filter(representations__name="a", representations__type="b").query.where) == 1


def test_exclude_negates_all_its_conditions_together() -> None:
    (part,) = Representation.objects.exclude(type="a", kind="label").query.where
    assert isinstance(part, Not)
    assert Representation.objects.filter(~(Q(type="a") & Q(kind="label"))).query.where == (part,)


def test_empty_conditions_add_nothing() -> None:
    assert READY.filter().query == READY.exclude().query == READY.filter(Q()).query == READY.query


def test_order_follows_to_one_relations_and_minus_turns_it() -> None:
    assert READY.order_by("-sample__name", "version").query.order_by == (
        Order(("sample", "name"), descending=True),
        Order(("version",)),
    )
    assert READY.order_by("name").order_by().query.order_by == ()


def test_reversing_turns_every_key_and_the_id() -> None:
    assert READY.order_by("-name").reverse().query.order_by == (
        Order(("name",)),
        Order(("id",), descending=True),
    )
    assert READY.reverse().reverse().query.order_by == (Order(("id",)),)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rois__label", "many rows"),
        ("attributes", "no order"),
        ("nam", "Did you mean 'name'"),
        ("key_values__x", "many"),
    ],
)
def test_orders_that_make_no_sense_are_refused(name: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        READY.order_by(name)


def test_slices_of_slices_count_from_the_first() -> None:
    assert (READY[10:20][2:5].query.offset, READY[10:20][2:5].query.limit) == (12, 3)
    assert (READY[10:20][5:].query.offset, READY[10:20][5:].query.limit) == (15, 5)
    assert (READY[10:20][5:99].query.offset, READY[10:20][5:99].query.limit) == (15, 5)
    assert (READY[5:].query.offset, READY[5:].query.limit) == (5, None)
    assert READY[7:3].query.limit == 0


@pytest.mark.parametrize("item", [-1, slice(-3, None), slice(0, -1), slice(0, 9, 2), "first", 1.5])
def test_slices_that_a_query_cannot_take_are_refused(item: object) -> None:
    with pytest.raises(SelectionError):
        READY[item]  # type: ignore[call-overload]


def test_conditions_on_a_slice_speak_of_its_rows_alone() -> None:
    ten = READY.order_by("-name")[:10]
    query = ten.filter(kind="label").query
    assert query.where == (Compare(("id",), Lookup.IN, ten.query), Compare(("kind",), Lookup.EXACT, "label"))
    assert (query.limit, query.order_by) == (None, ten.query.order_by)


def test_relations_to_fetch_are_checked_and_kept_once() -> None:
    query = READY.select_related("sample__experiment", "sample").select_related("sample").query
    assert query.select_related == (("sample", "experiment"), ("sample",))
    with pytest.raises(InvalidArgumentError, match="prefetch_related"):
        READY.select_related("rois")
    with pytest.raises(InvalidArgumentError, match="Did you mean 'rois'"):
        READY.prefetch_related("rios")
    with pytest.raises(InvalidArgumentError, match="cannot follow"):
        READY.prefetch_related("name")


def test_trash_is_asked_for_by_name() -> None:
    assert READY.trash().query.trash is Trash.ONLY
    assert READY.with_trash().query.trash is Trash.INCLUDE
    assert READY.query.trash is Trash.EXCLUDE


def test_no_rows_can_be_read_without_any_connection() -> None:
    nothing = READY.none()
    assert list(nothing) == []
    assert (len(nothing), nothing.count(), nothing.exists(), nothing.first()) == (0, 0, False, None)
    assert (nothing.values("name"), nothing.update(name="x"), nothing.delete()) == ([], 0, 0)
    assert list(READY.filter(id__in=[])) == list(READY[3:3]) == []


def test_reading_without_a_connection_says_how_to_get_one() -> None:
    with pytest.raises(PreconditionError, match=r"larvik\.connect"):
        READY.first()
    assert repr(READY) == "<ArrayQuerySet[Representation], not connected>"


def test_a_query_survives_pickling() -> None:
    query = (
        READY.filter(sample__experiment__name__startswith="A").order_by("name").prefetch_related("rois")[:5]
    )
    again = pickle.loads(pickle.dumps(query))
    assert (again.model, again.query, type(again)) == (Representation, query.query, type(query))


def test_related_rows_are_a_query_of_their_own() -> None:
    experiment = Experiment(name="e")
    query = experiment.samples.filter(name="s").query
    assert query.model == "Sample"
    assert query.where[0] == Compare(("experiment_id",), Lookup.EXACT, experiment.id)
    with pytest.raises(InvalidArgumentError, match="Did you mean 'samples'"):
        experiment.related("smaples")


def test_parts_of_a_row_are_a_query_of_their_own() -> None:
    row = Representation(name="r")
    assert row.related("biometa__channels").query.where == (Compare(("object_id",), Lookup.EXACT, row.id),)
    assert row.tags.query.model == "Tag"


def test_a_base_of_models_has_no_rows() -> None:
    with pytest.raises(InvalidArgumentError, match="base of models"):
        LarvikArray.objects  # noqa: B018  # reading it is the point


@pytest.mark.parametrize(
    ("values", "reason", "words"),
    [
        ({"nam": "x"}, "FIELD_UNKNOWN", "Did you mean 'name'"),
        ({"created_at": None}, "FIELD_READ_ONLY", "set by Larvik"),
        ({"id": "x"}, "FIELD_READ_ONLY", "fixed at creation"),
        ({"sample__name": "x"}, "FIELD_INVALID", "not a column of the row"),
        ({"sample": Experiment(name="e")}, "FIELD_INVALID", "a Sample or its id"),
        ({"kind": "x"}, "FIELD_INVALID", "intensity"),
    ],
)
def test_changes_of_a_query_are_checked_before_they_are_sent(
    values: dict[str, object], reason: str, words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        READY.update(**values)
    assert caught.value.reason == reason


def test_arrays_and_tables_are_not_created_without_their_content() -> None:
    with pytest.raises(InvalidArgumentError, match="from_xarray"):
        Representation.objects.create(name="x")
    with pytest.raises(InvalidArgumentError, match="from_frame"):
        Table.objects.create(name="x")


def test_tags_need_a_row_to_be_added_to() -> None:
    with pytest.raises(InvalidArgumentError, match=r"row\.tags\.add"):
        Tag.objects.add("x")  # type: ignore[attr-defined]
    with pytest.raises(InvalidArgumentError, match=r"row\.key_values\.set"):
        KeyValue.objects.set(x="y")  # type: ignore[attr-defined]
