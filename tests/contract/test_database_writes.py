"""The unit of work, on both databases: what is stored, refused, counted and kept in step."""

from __future__ import annotations

import struct
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from larvik.db.dirty import DirtyArrays
from larvik.db.engine import Database
from larvik.db.unit_of_work import UnitOfWork, transact
from larvik.errors import (
    AlreadyExistsError,
    ConflictError,
    InternalError,
    InvalidArgumentError,
    LarvikError,
    NotFoundError,
    PreconditionError,
)
from larvik.ids import new_id
from larvik.models import registry
from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Query, Record, Trash
from larvik.services.catalog import CatalogService
from larvik.services.principal import Principal

SPEC = {"axes": [], "levels": []}


@pytest.fixture
def catalog(database: Database) -> CatalogService:
    return CatalogService(database, registry)


def array(work: UnitOfWork, model: str = "Representation", *, shape=(4, 5), **values: object) -> Record:
    computed = {"dims": ("y", "x"), "shape": shape, "dtype": "uint8", "spec": SPEC, "location": "arrays/x"}
    return work.create(model, [{"name": "image", **values}], computed=[computed])[0]


def stored(catalog: CatalogService, principal: Principal, model: str, id: object) -> Record:
    query = Query(model, (Compare(("id",), Lookup.EXACT, id),), trash=Trash.INCLUDE)
    return catalog.page(principal, query).records[0]


def test_a_created_row_reads_back_as_it_was_returned(catalog, principal):
    rows = [
        {"name": "Animal 1"},
        {"name": "é\U0001f600%_\\", "description": "x" * 1000, "linked_paper": None},
    ]
    created = catalog.create(principal, "Experiment", rows)
    assert [record.values["name"] for record in created] == ["Animal 1", "é\U0001f600%_\\"]
    for record in created:
        assert stored(catalog, principal, "Experiment", record.values["id"]) == record
        assert record.values["revision"] == 1
        assert record.values["created_by_id"] == record.values["owner_id"] == principal.subject_id
        assert record.values["created_at"] == record.values["updated_at"]
        assert record.values["created_at"].tzinfo is UTC


def test_every_field_type_reads_back_exactly(database, catalog, principal):
    moment = datetime(2026, 3, 1, 12, 30, 15, 123457, tzinfo=timezone(timedelta(hours=-7)))
    attributes = {"b": [1, 2.5, 1e300, 1e16, -0.0, None, True, 'é"\\'], "a": {"nested": {}}}
    with UnitOfWork(database, principal.subject_id) as work:
        record = array(work, acquired_at=moment, attributes=attributes, shape=(2**40, 3))
        vertices = struct.pack("<4d", 1, 2, 3, 4.5)
        roi = work.create(
            "ROI", [{"representation_id": record.values["id"], "kind": "line", "vertices": vertices}]
        )[0]
        channel = work.create("Channel", [{"object_id": record.values["id"], "index": 0, "gain": 0.1 + 0.2}])[
            0
        ]
    read = stored(catalog, principal, "Representation", record.values["id"])
    assert read == record
    assert read.values["acquired_at"] == moment
    assert [type(item) for item in read.values["attributes"]["b"]] == [type(item) for item in attributes["b"]]
    assert read.values["shape"] == (2**40, 3)
    assert stored(catalog, principal, "ROI", roi.values["id"]).values["vertices"] == vertices
    assert stored(catalog, principal, "Channel", channel.values["id"]).values["gain"] == 0.1 + 0.2


def test_the_same_create_twice_stores_one_row(catalog, principal):
    row = {"id": new_id(), "name": "once"}
    first, second = (catalog.create(principal, "Experiment", [row])[0] for _ in range(2))
    assert first == second
    assert catalog.count(principal, Query("Experiment")) == 1


def test_an_id_with_other_content_is_refused_and_named(catalog, principal):
    row = catalog.create(principal, "Experiment", [{"name": "once"}])[0]
    with pytest.raises(AlreadyExistsError, match="another name") as caught:
        catalog.create(principal, "Experiment", [{"id": row.values["id"], "name": "twice"}])
    assert caught.value.reason == "OBJECT_EXISTS"
    assert caught.value.metadata["id"] == row.values["id"]


def test_threads_that_create_the_same_row_all_get_it(catalog, principal):
    row, results = {"id": new_id(), "name": "together"}, []
    barrier = threading.Barrier(4)

    def create() -> None:
        barrier.wait()
        results.append(catalog.create(principal, "Experiment", [row])[0])

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(result == results[0] for result in results)
    assert catalog.count(principal, Query("Experiment")) == 1


def test_a_unit_that_fails_stores_nothing(database, catalog, principal):
    def fail(work: UnitOfWork) -> None:
        work.create("Experiment", [{"name": "gone"}])
        work.create("Sample", [{"name": "s", "experiment_id": new_id()}])

    with pytest.raises(NotFoundError):
        transact(database, principal.subject_id, fail)
    assert catalog.count(principal, Query("Experiment")) == 0


@pytest.mark.parametrize(
    ("model", "row", "reason", "field"),
    [
        ("Experiment", {}, "FIELD_MISSING", "Experiment.name"),
        ("Experiment", {"name": None}, "FIELD_INVALID", "Experiment.name"),
        ("Experiment", {"name": "a\0b"}, "FIELD_INVALID", "Experiment.name"),
        ("Experiment", {"name": "x" * 401}, "FIELD_INVALID", "Experiment.name"),
        ("Experiment", {"name": "x", "colour": 1}, "FIELD_UNKNOWN", "colour"),
        ("Experiment", {"name": "x", "revision": 7}, "FIELD_READ_ONLY", "Experiment.revision"),
        (
            "Experiment",
            {"name": "x", "created_by_id": new_id()},
            "FIELD_READ_ONLY",
            "Experiment.created_by_id",
        ),
        ("Animal", {"name": "x", "sex": "males"}, "FIELD_INVALID", "Animal.sex"),
        ("Animal", {"name": "x", "age_days": float("nan")}, "FIELD_INVALID", "Animal.age_days"),
        ("Sample", {"name": "x", "experiment_id": "no id"}, "ID_INVALID", "Sample.experiment_id"),
        ("ExperimentalGroup", {"name": "x"}, "FIELD_MISSING", "ExperimentalGroup.experiment_id"),
        ("Representation", {"name": "x"}, "ARRAY_REQUIRED", "Representation.spec"),
        ("Table", {"name": "x"}, "ARRAY_REQUIRED", "Table.columns"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_field(catalog, principal, model, row, reason, field):
    with pytest.raises(InvalidArgumentError) as caught:
        catalog.create(principal, model, [row])
    assert (caught.value.reason, caught.value.metadata["field"]) == (reason, field)


def test_references_must_exist_and_be_live(catalog, principal):
    trashed = catalog.create(principal, "Experiment", [{"name": "old"}])[0].values["id"]
    catalog.delete(principal, "Experiment", trashed)
    for target in (new_id(), trashed):
        with pytest.raises(NotFoundError, match="does not exist or is in the trash") as caught:
            catalog.create(principal, "Sample", [{"name": "s", "experiment_id": target}])
        assert caught.value.metadata["field"] == "Sample.experiment"


def test_a_part_belongs_to_a_live_object_and_biometa_to_an_array(catalog, principal):
    sample = catalog.create(principal, "Sample", [{"name": "s"}])[0].values["id"]
    catalog.create(principal, "Tag", [{"object_id": sample, "name": "good"}])
    for model, row in (
        ("Tag", {"object_id": new_id(), "name": "x"}),
        ("Channel", {"object_id": sample, "index": 0}),
    ):
        with pytest.raises(NotFoundError) as caught:
            catalog.create(principal, model, [row])
        assert caught.value.metadata["field"] == f"{model}.object_id"


def test_rows_may_refer_to_rows_before_them(database):
    first, second = new_id(), new_id()
    with UnitOfWork(database) as work:
        computed = {"dims": ("y", "x"), "shape": (2, 2), "dtype": "uint8", "spec": SPEC}
        rows = [{"id": first, "name": "a"}, {"id": second, "name": "b", "parent_id": first}]
        created = work.create("Representation", rows, computed=[computed, computed])
    assert created[1].values["parent_id"] == first


def test_an_update_counts_the_revision_and_a_stale_one_conflicts(catalog, principal):
    row = catalog.create(principal, "Experiment", [{"name": "a"}])[0]
    changed = catalog.update(principal, "Experiment", row.values["id"], {"name": "b"}, 1)
    assert changed.values["revision"] == 2
    assert changed == stored(catalog, principal, "Experiment", row.values["id"])
    with pytest.raises(ConflictError) as caught:
        catalog.update(principal, "Experiment", row.values["id"], {"name": "c"}, 1)
    assert (caught.value.reason, caught.value.metadata["revision"]) == ("REVISION_STALE", "2")


def test_a_repeated_update_changes_nothing_and_succeeds(catalog, principal):
    row = catalog.create(principal, "Experiment", [{"name": "a"}])[0]
    first, second = (
        catalog.update(principal, "Experiment", row.values["id"], {"name": "b"}, 1) for _ in range(2)
    )
    assert first == second


def test_two_updates_at_once_leave_one_winner(catalog, principal):
    row = catalog.create(principal, "Experiment", [{"name": "a"}])[0]
    outcomes: list[object] = []
    barrier = threading.Barrier(4)

    def update(name: str) -> None:
        barrier.wait()
        try:
            outcomes.append(catalog.update(principal, "Experiment", row.values["id"], {"name": name}, 1))
        except ConflictError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=update, args=(f"name {index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, Record) for outcome in outcomes) == 1
    assert stored(catalog, principal, "Experiment", row.values["id"]).values["revision"] == 2


def test_what_is_fixed_or_set_by_larvik_cannot_change(catalog, principal):
    sample = catalog.create(principal, "Sample", [{"name": "s"}])[0].values["id"]
    tag = catalog.create(principal, "Tag", [{"object_id": sample, "name": "x"}])[0].values
    for model, id, changes in (
        ("Sample", sample, {"id": new_id()}),
        ("Sample", sample, {"revision": 9}),
        ("Tag", tag["id"], {"object_id": new_id()}),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            catalog.update(principal, model, id, changes)
        assert caught.value.reason == "FIELD_READ_ONLY"


def test_update_many_changes_every_row_of_the_query(catalog, principal):
    catalog.create(
        principal, "Experiment", [{"name": f"Animal {index}"} for index in range(5)] + [{"name": "other"}]
    )
    query = Query("Experiment", (Compare(("name",), Lookup.STARTSWITH, "Animal"),))
    assert catalog.update_many(principal, query, {"name": "Animal X"}) == 5
    assert catalog.update_many(principal, query, {"name": "Animal X"}) == 5
    rows = catalog.page(principal, query).records
    assert {(row.values["name"], row.values["revision"]) for row in rows} == {("Animal X", 2)}


def test_the_trash_hides_rows_until_they_are_restored(catalog, principal):
    row = catalog.create(principal, "Experiment", [{"name": "a"}])[0].values["id"]
    trashed = catalog.delete(principal, "Experiment", row)
    assert trashed.values["deleted_at"] is not None
    assert catalog.delete(principal, "Experiment", row) == trashed
    assert catalog.count(principal, Query("Experiment")) == 0
    assert catalog.count(principal, Query("Experiment", trash=Trash.ONLY)) == 1
    with pytest.raises(PreconditionError, match="trash") as caught:
        catalog.update(principal, "Experiment", row, {"name": "b"})
    assert caught.value.reason == "OBJECT_TRASHED"
    restored = catalog.restore(principal, "Experiment", row)
    assert (restored.values["deleted_at"], restored.values["revision"]) == (None, 3)
    assert catalog.restore(principal, "Experiment", row) == restored


def test_a_part_is_removed_for_good(catalog, principal):
    sample = catalog.create(principal, "Sample", [{"name": "s"}])[0].values["id"]
    tag = catalog.create(principal, "Tag", [{"object_id": sample, "name": "x"}])[0].values["id"]
    assert catalog.delete(principal, "Tag", tag).values["name"] == "x"
    with pytest.raises(NotFoundError):
        catalog.restore(principal, "Tag", tag)


def test_a_missing_row_is_not_found_by_every_write(catalog, principal):
    for write in (catalog.delete, catalog.restore):
        with pytest.raises(NotFoundError):
            write(principal, "Sample", new_id())
    with pytest.raises(NotFoundError):
        catalog.update(principal, "Sample", new_id(), {"name": "x"})


def test_purging_takes_parts_and_dependents_along(database, catalog, principal):
    with UnitOfWork(database, principal.subject_id) as work:
        image = array(work).values["id"]
        work.create("Tag", [{"object_id": image, "name": "x"}])
        roi = work.create("ROI", [{"representation_id": image, "kind": "point", "vertices": bytes(16)}])[
            0
        ].values["id"]
        work.create("KeyValue", [{"object_id": roi, "key": "k", "value": "v"}])
    with UnitOfWork(database, principal.subject_id) as work:
        gone = work.purge("Representation", [image])
    assert {(record.model, record.values["id"]) for record in gone} == {
        ("Representation", image),
        ("ROI", roi),
    }
    for model in ("Representation", "ROI", "Tag", "KeyValue"):
        assert catalog.count(principal, Query(model, trash=Trash.INCLUDE)) == 0


def test_a_representation_keeps_x_and_y_of_its_parent_and_a_transformation_need_not(database):
    with UnitOfWork(database) as work:
        parent = array(work, shape=(4, 5)).values["id"]
        array(work, shape=(4, 5), parent_id=parent)
        array(work, "Transformation", shape=(2, 2), representation_id=parent)
        with pytest.raises(InvalidArgumentError, match="y has 3 elements, the parent's 4") as caught:
            array(work, shape=(3, 5), parent_id=parent)
    assert (caught.value.reason, caught.value.metadata["field"]) == (
        "SHAPE_MISMATCH",
        "Representation.parent",
    )


def test_a_representation_cannot_become_its_own_ancestor(database, catalog, principal):
    with UnitOfWork(database) as work:
        first = array(work).values["id"]
        second = array(work, parent_id=first).values["id"]
    for parent in (first, second):
        with pytest.raises(InvalidArgumentError, match="own ancestor"):
            catalog.update(principal, "Representation", first, {"parent_id": parent})


@pytest.mark.parametrize(
    ("text_", "number"),
    [
        ("5", 5.0),
        ("-1.5e3", -1500.0),
        (".5", 0.5),
        ("1e999", None),
        ("nan", None),
        ("1_0", None),
        ("٣", None),
        ("", None),
    ],
)
def test_a_value_that_is_a_number_is_kept_as_one(catalog, principal, text_, number):
    sample = catalog.create(principal, "Sample", [{"name": "s"}])[0].values["id"]
    row = catalog.create(principal, "KeyValue", [{"object_id": sample, "key": "k", "value": text_}])[0]
    assert row.values["number"] == number
    changed = catalog.update(principal, "KeyValue", row.values["id"], {"value": "7.25"})
    assert changed.values["number"] == 7.25
    assert stored(catalog, principal, "KeyValue", row.values["id"]) == changed


@pytest.mark.parametrize(
    "vertices", [b"", b"1234567", struct.pack("<3d", 1, 2, 3), struct.pack("<2d", 1, float("nan"))]
)
def test_vertices_that_are_no_points_are_refused(database, vertices):
    with UnitOfWork(database) as work:
        image = array(work).values["id"]
        with pytest.raises(InvalidArgumentError) as caught:
            work.create("ROI", [{"representation_id": image, "kind": "line", "vertices": vertices}])
    assert caught.value.metadata["field"] == "ROI.vertices"


# Scopes


def scope(catalog: CatalogService, principal: Principal, model: str, id: object) -> object:
    return stored(catalog, principal, model, id).values["scope_id"]


def test_moving_a_sample_moves_the_scope_of_everything_made_of_it(database, catalog, principal):
    first, second = (
        row.values["id"] for row in catalog.create(principal, "Experiment", [{"name": "1"}, {"name": "2"}])
    )
    sample = catalog.create(principal, "Sample", [{"name": "s", "experiment_id": first}])[0].values["id"]
    with UnitOfWork(database, principal.subject_id) as work:
        image = array(work, sample_id=sample)
        assert image.values["scope_id"] == first
        derived = array(work, parent_id=image.values["id"]).values["id"]
        crop = array(work, "Transformation", representation_id=derived)
        assert crop.values["scope_id"] == first
        roi = work.create("ROI", [{"representation_id": derived, "kind": "point", "vertices": bytes(16)}])[
            0
        ].values["id"]
        of_roi = array(work, "Transformation", roi_id=roi).values["id"]
        alone = array(work)
        assert alone.values["scope_id"] is None
    arrays = [("Representation", image.values["id"]), ("Representation", derived)]
    arrays += [("Transformation", crop.values["id"]), ("Transformation", of_roi)]
    catalog.update(principal, "Sample", sample, {"experiment_id": second})
    assert [scope(catalog, principal, *one) for one in arrays] == [second] * 4
    assert stored(catalog, principal, "Representation", image.values["id"]).values["revision"] == 1
    changed = catalog.update(principal, "Representation", image.values["id"], {"sample_id": None})
    assert changed.values["scope_id"] is None
    assert [scope(catalog, principal, *one) for one in arrays] == [None] * 4


def test_a_sample_without_an_experiment_is_in_that_of_its_group(database, catalog, principal):
    first, second = (
        row.values["id"] for row in catalog.create(principal, "Experiment", [{"name": "1"}, {"name": "2"}])
    )
    group = catalog.create(principal, "ExperimentalGroup", [{"name": "g", "experiment_id": first}])[0]
    sample = catalog.create(principal, "Sample", [{"name": "s", "group_id": group.values["id"]}])[0]
    late = catalog.create(principal, "Sample", [{"name": "late"}])[0].values["id"]
    with UnitOfWork(database, principal.subject_id) as work:
        image = array(work, sample_id=sample.values["id"])
        assert image.values["scope_id"] == first
        derived = array(work, parent_id=image.values["id"])
        assert derived.values["scope_id"] == first
        other = array(work, sample_id=late)
        assert other.values["scope_id"] is None
    catalog.update(principal, "Sample", late, {"group_id": group.values["id"]})
    arrays = [("Representation", made.values["id"]) for made in (image, derived, other)]
    assert [scope(catalog, principal, *one) for one in arrays] == [first] * 3
    catalog.update(principal, "ExperimentalGroup", group.values["id"], {"experiment_id": second})
    assert [scope(catalog, principal, *one) for one in arrays] == [second] * 3
    catalog.update(principal, "Sample", sample.values["id"], {"experiment_id": first})
    assert [scope(catalog, principal, *one) for one in arrays] == [first, first, second]
    catalog.update(principal, "Sample", late, {"group_id": None})
    assert scope(catalog, principal, *arrays[2]) is None


# Group copies of the metadata


def test_edits_of_an_array_and_of_its_parts_mark_it_dirty_and_count_its_revision(
    database, catalog, principal
):
    marks = DirtyArrays(database)
    with UnitOfWork(database, principal.subject_id) as work:
        image = array(work).values["id"]
        work.create("Channel", [{"object_id": image, "index": index} for index in range(3)])
    assert marks.pending() == []
    assert stored(catalog, principal, "Representation", image).values["revision"] == 1
    catalog.create(principal, "Tag", [{"object_id": image, "name": name} for name in "ab"])
    (mark,) = marks.pending()
    assert (mark.id, mark.model, mark.revision) == (image, "Representation", 2)
    catalog.update(principal, "Representation", image, {"name": "new"})
    marks.done(mark)
    (mark,) = marks.pending()
    assert mark.revision == stored(catalog, principal, "Representation", image).values["revision"] == 3
    marks.done(mark)
    assert marks.pending() == []
    query = Query("Tag", (Compare(("object_id",), Lookup.EXACT, image),))
    assert catalog.delete_many(principal, query) == 2
    assert [mark.revision for mark in marks.pending()] == [4]


def test_a_registered_array_is_never_marked(database, catalog, principal):
    with UnitOfWork(database, principal.subject_id) as work:
        computed = {"dims": ("x",), "shape": (3,), "dtype": "uint8", "spec": SPEC, "is_registered": True}
        image = work.create("Representation", [{"name": "there"}], computed=[computed])[0].values["id"]
    catalog.update(principal, "Representation", image, {"name": "new"})
    assert DirtyArrays(database).pending() == []


# The guard


def test_no_row_of_a_model_is_written_outside_a_unit_of_work(database):
    table = database.tables.of("Experiment")
    statements = [
        table.delete(),
        table.update().values(name="x"),
        table.insert().values(id=new_id(), name="x"),
        text("DELETE FROM experiment"),
        text("  update experiment set name = 'x'"),
        text("WITH x AS (SELECT 1) DELETE FROM experiment"),
    ]
    for opened in (database.read, database.write):
        for statement in statements:
            with pytest.raises(InternalError, match="unit of work"), opened() as connection:
                connection.execute(statement)
        with pytest.raises(InternalError), opened() as connection:
            connection.exec_driver_sql("DELETE FROM experiment")
    with database.read() as connection:
        connection.execute(text("WITH x AS (SELECT 1) SELECT * FROM x"))


def test_tables_of_larvik_alone_are_written_without_one(database):
    with database.write() as connection:
        connection.execute(database.tables.larvik_store.insert(), {"key": "k", "value": "v"})
    with pytest.raises(LarvikError), database.read() as connection:
        connection.execute(database.tables.larvik_store.delete())


@pytest.mark.parametrize("mover_is_first", [True, False])
@pytest.mark.parametrize("source", ["sample", "parent", "roi", "group"])
def test_an_array_made_while_its_sample_moves_gets_the_new_scope(
    database, catalog, principal, mover_is_first, source
):
    first, second, sample, parent, roi, made, group, grouped = (new_id() for _ in range(8))
    with UnitOfWork(database, principal.subject_id) as work:
        work.create("Experiment", [{"id": first, "name": "first"}, {"id": second, "name": "second"}])
        work.create("ExperimentalGroup", [{"id": group, "name": "group", "experiment_id": first}])
        work.create(
            "Sample",
            [
                {"id": sample, "name": "sample", "experiment_id": first},
                {"id": grouped, "name": "grouped", "group_id": group},
            ],
        )
        array(work, id=parent, sample_id=sample)
        work.create("ROI", [{"id": roi, "representation_id": parent, "kind": "point", "vertices": bytes(16)}])
    model = "Transformation" if source == "roi" else "Representation"
    values = {
        "sample": {"sample_id": sample},
        "parent": {"parent_id": parent},
        "roi": {"roi_id": roi},
        "group": {"sample_id": grouped},
    }[source]

    def move(work: UnitOfWork) -> None:
        work.update("Sample", sample, {"experiment_id": second})
        work.update("ExperimentalGroup", group, {"experiment_id": second})

    def make(work: UnitOfWork) -> None:
        array(work, model, id=made, **values)

    earlier, later = (move, make) if mover_is_first else (make, move)
    started = threading.Event()

    def follow() -> None:
        started.set()
        transact(database, principal.subject_id, later)

    thread = threading.Thread(target=follow)
    with UnitOfWork(database, principal.subject_id) as work:
        earlier(work)
        thread.start()
        started.wait()
        thread.join(0.5)  # it waits for us, or is through with what it saw
    thread.join()
    assert scope(catalog, principal, model, made) == second
