from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from larvik.array.expression import Source
from larvik.array.spec import ArraySpec, Level, default_axis
from larvik.errors import (
    AlreadyExistsError,
    CallCancelledError,
    InvalidArgumentError,
    LarvikError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    SelectionError,
)
from larvik.ids import new_id
from larvik.query.query import Query, Record
from larvik.services.bundle import ServiceConfig, Services, open_services
from larvik.services.locks import SessionLocks
from larvik.services.principal import READ, SCOPES, WRITE, Principal
from larvik.services.uploads import Begun, UploadService

from .conftest import Maker, plain_spec


def count(services: Services, model: str = "Representation") -> int:
    return services.catalog.count(services.identity.local(), Query(model))


def bytes_below(services: Services, prefix: str = "arrays") -> int:
    return sum(size for _, size in services.store.list(prefix))


def test_a_committed_array_reads_back_equal(services: Services, maker: Maker, pixels: np.ndarray) -> None:
    record = maker.store(pixels, name="stack")
    values = record.values
    assert (values["name"], values["dims"], values["shape"]) == ("stack", tuple("tczyx"), pixels.shape)
    assert values["stored_bytes"] == bytes_below(services)
    stored = services.arrays.stored(record)
    assert len(stored.spec.levels) == 2
    reader = services.arrays.reader(stored, 0)
    np.testing.assert_array_equal(reader.read(tuple(slice(0, size) for size in pixels.shape)), pixels)


def test_nothing_is_visible_before_the_commit(services: Services, maker: Maker, small: np.ndarray) -> None:
    begun = maker.begin(small, {"Channel": [{"index": 0, "name": "DAPI"}]})
    maker.write(begun, small)
    assert count(services) == count(services, "Channel") == 0
    services.uploads.commit(maker.principal, begun.id)
    assert count(services) == count(services, "Channel") == 1


def test_everything_that_comes_along_is_stored_in_one_transaction(
    services: Services, maker: Maker, small: np.ndarray
) -> None:
    experiment, sample = new_id(), new_id()
    rows = {
        "Sample": [{"id": sample, "name": "Slide", "experiment_id": experiment}],
        "Experiment": [{"id": experiment, "name": "Study"}],
        "Tag": [{"name": "fresh"}],
    }
    begun = maker.begin(small, rows, sample_id=sample)
    assert count(services, "Sample") == 0
    maker.write(begun, small)
    record = services.uploads.commit(maker.principal, begun.id)
    assert record.values["scope_id"] == experiment
    assert count(services, "Tag") == count(services, "Sample") == 1


def test_beginning_twice_finds_the_session(services: Services, maker: Maker, small: np.ndarray) -> None:
    array_id = new_id()
    first = maker.begin(small, id=array_id)
    maker.write(first, small)
    assert maker.begin(small, id=array_id) == first
    assert services.uploads.commit(maker.principal, first.id).values["id"] == array_id


def test_a_session_of_other_content_is_refused(maker: Maker, small: np.ndarray) -> None:
    array_id = new_id()
    maker.begin(small, id=array_id, name="one")
    with pytest.raises(AlreadyExistsError):
        maker.begin(small, id=array_id, name="other")


def test_an_id_that_an_array_has_is_refused(maker: Maker, small: np.ndarray) -> None:
    record = maker.store(small)
    with pytest.raises(AlreadyExistsError):
        maker.begin(small, id=record.values["id"])


def test_another_process_goes_on_with_a_session(services: Services, maker: Maker, pixels: np.ndarray) -> None:
    begun = maker.begin(pixels)
    maker.write(begun, pixels, leave_out=1)
    with open_services(services.config) as other:
        again = Maker(other, other.identity.local())
        with pytest.raises(PreconditionError) as caught:
            other.uploads.commit(again.principal, begun.id)
        assert caught.value.reason == "ARRAY_INCOMPLETE"
        again.write(begun, pixels)
        other.uploads.commit(again.principal, begun.id)
    assert count(services) == 1


def test_a_repeated_commit_returns_the_row(services: Services, maker: Maker, small: np.ndarray) -> None:
    begun = maker.begin(small)
    maker.write(begun, small)
    first = services.uploads.commit(maker.principal, begun.id)
    assert services.uploads.commit(maker.principal, begun.id).values == first.values


def test_writing_to_a_committed_array_is_refused(services: Services, maker: Maker, small: np.ndarray) -> None:
    begun = maker.begin(small)
    maker.write(begun, small)
    services.uploads.commit(maker.principal, begun.id)
    with pytest.raises(NotFoundError) as caught:
        maker.write(begun, small + 1)
    assert caught.value.reason == "UPLOAD_NOT_FOUND"


def test_an_aborted_session_leaves_no_bytes(services: Services, maker: Maker, pixels: np.ndarray) -> None:
    begun = maker.begin(pixels)
    maker.write(begun, pixels)
    assert bytes_below(services) > 0
    services.uploads.abort(maker.principal, begun.id)
    services.uploads.abort(maker.principal, begun.id)
    assert bytes_below(services) == 0
    assert services.locks.sessions() == []
    with pytest.raises(NotFoundError):
        services.uploads.commit(maker.principal, begun.id)


def test_bytes_of_an_earlier_session_do_not_count_as_written(
    services: Services, maker: Maker, small: np.ndarray
) -> None:
    array_id = new_id()
    begun = maker.begin(small, id=array_id)
    maker.write(begun, small)
    kept = [(key, services.store.read(key)) for key, _ in services.store.list("arrays")]
    services.uploads.abort(maker.principal, begun.id)
    for key, data in kept:  # as if the abort had been killed halfway
        services.store.write(key, data)
    begun = maker.begin(small, id=array_id)
    with pytest.raises(PreconditionError):
        services.uploads.commit(maker.principal, begun.id)


@pytest.mark.parametrize(
    ("start", "change", "error"),
    [
        ((0, 0, 0, 1), lambda a: a, SelectionError),
        ((0, 0, 0, 0), lambda a: a[..., 1:], SelectionError),
        ((0, 0, 0), lambda a: a, SelectionError),
        ((9, 0, 0, 0), lambda a: a, SelectionError),
        ((0, 0, 0, 0), lambda a: a.astype("int16"), InvalidArgumentError),
    ],
)
def test_blocks_that_are_no_shard_are_refused(services, maker, small, start, change, error) -> None:
    begun = maker.begin(small)
    level = begun.spec.levels[0]
    block = small[
        tuple(slice(0, min(size, shard)) for size, shard in zip(small.shape, level.shards, strict=True))
    ]
    with pytest.raises(error):
        services.uploads.write(maker.principal, begun.id, start, change(block))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"name": 5}, "FIELD_INVALID"),
        ({"name": "x" * 401}, "FIELD_INVALID"),
        ({"colour": "red"}, "FIELD_UNKNOWN"),
        ({"dims": ("a",)}, "FIELD_READ_ONLY"),
        ({"kind": "picture"}, "FIELD_INVALID"),
        ({"sample_id": new_id()}, "OBJECT_NOT_FOUND"),
        ({"id": "not an id"}, "ID_INVALID"),
    ],
)
def test_wrong_rows_are_refused_before_any_byte(services, maker, small, values, reason) -> None:
    with pytest.raises(LarvikError) as caught:
        maker.begin(small, **values)
    assert caught.value.reason == reason
    assert bytes_below(services) == 0
    assert services.uploads.idle(datetime.now(UTC)) == []


def test_a_parent_of_another_plane_is_refused_at_once(maker: Maker, small: np.ndarray) -> None:
    parent = maker.store(small)
    with pytest.raises(InvalidArgumentError) as caught:
        maker.begin(small[..., :-1].copy(), parent_id=parent.values["id"])
    assert caught.value.reason == "SHAPE_MISMATCH"


@pytest.mark.parametrize("model", ["Sample", "Nonsense"])
def test_models_without_arrays_are_refused(services, me, small, model) -> None:
    with pytest.raises(LarvikError) as caught:
        services.uploads.begin(me, model, {"name": "x"}, plain_spec(small), {})
    assert caught.value.reason in ("MODEL_INVALID", "MODEL_UNKNOWN")


@pytest.mark.parametrize("model", ["Subject", "Team", "Representation"])
def test_rows_that_may_not_come_along_are_refused(maker: Maker, small: np.ndarray, model: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        maker.begin(small, {model: [{"name": "x"}]})
    assert caught.value.reason == "MODEL_INVALID"


def test_a_reader_may_not_upload(services: Services, me: Principal, small: np.ndarray) -> None:
    reader = Principal(me.subject_id, "reader", "user", frozenset({READ}))
    for call in (
        lambda: services.uploads.begin(reader, "Representation", {"name": "x"}, plain_spec(small), {}),
        lambda: services.uploads.write(reader, new_id(), (0,), small),
        lambda: services.uploads.commit(reader, new_id()),
        lambda: services.uploads.abort(reader, new_id()),
    ):
        with pytest.raises((PermissionDeniedError, NotFoundError)):
            call()


def test_a_session_belongs_to_who_began_it(services: Services, maker: Maker, small: np.ndarray) -> None:
    begun = maker.begin(small)
    other = Principal(services.identity.subject("other", "user"), "other", "user", frozenset({READ, WRITE}))
    for call in (
        lambda: maker.__class__(services, other).write(begun, small),
        lambda: services.uploads.commit(other, begun.id),
        lambda: services.uploads.abort(other, begun.id),
    ):
        with pytest.raises(PermissionDeniedError) as caught:
            call()
        assert caught.value.reason == "UPLOAD_FOREIGN"
    services.uploads.abort(Principal(other.subject_id, "other", "user", SCOPES), begun.id)


def test_a_cancelled_commit_leaves_the_session(services: Services, maker: Maker, pixels: np.ndarray) -> None:
    begun = maker.begin(pixels)
    maker.write(begun, pixels)
    with pytest.raises(CallCancelledError):
        services.uploads.commit(maker.principal, begun.id, cancelled=lambda: True)
    assert count(services) == 0
    services.uploads.commit(maker.principal, begun.id)
    assert count(services) == 1


def test_progress_counts_to_its_total(services: Services, maker: Maker, pixels: np.ndarray) -> None:
    begun = maker.begin(pixels)
    maker.write(begun, pixels)
    steps: list[tuple[int, int]] = []
    services.uploads.commit(
        maker.principal, begun.id, progress=lambda done, total: steps.append((done, total))
    )
    assert steps[-1][0] == steps[-1][1]
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))


def test_idle_sessions_expire_with_their_bytes(services: Services, maker: Maker, small: np.ndarray) -> None:
    idle, busy = maker.begin(small), maker.begin(small)
    for begun in (idle, busy):
        maker.write(begun, small)
    assert services.uploads.expire() == []
    with services.locks.shared(busy.id):
        dropped = services.uploads.expire(datetime.now(UTC) + timedelta(seconds=1))
    assert [session.id for session in dropped] == [idle.id]
    services.uploads.commit(maker.principal, busy.id)
    assert (
        bytes_below(services)
        == services.catalog.page(maker.principal, Query("Representation")).records[0].values["stored_bytes"]
    )


def test_threads_write_the_shards_of_one_array(services: Services, maker: Maker, pixels: np.ndarray) -> None:
    begun = maker.begin(pixels)
    level = begun.spec.levels[0]
    from larvik.storage.regions import regions

    shards = list(regions(level.shape, level.shards))
    threads = [
        threading.Thread(
            target=services.uploads.write,
            args=(maker.principal, begun.id, tuple(part.start for part in region), pixels[region]),
        )
        for region in shards + shards
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = services.uploads.commit(maker.principal, begun.id)
    level0 = begun.spec.levels[0]
    source = Source(str(record.values["id"]), 1, 0, level0.shape, "uint16", level0.chunks)
    reader = services.arrays.source_reader(maker.principal, source)
    np.testing.assert_array_equal(reader.read(tuple(slice(0, size) for size in pixels.shape)), pixels)


def test_the_same_data_folder_opens_again(services: Services, maker: Maker, small: np.ndarray) -> None:
    record = maker.store(small)
    with open_services(ServiceConfig(services.config.data)) as other:
        assert other.arrays.record(maker.principal, str(record.values["id"])).values == record.values


@pytest.fixture
def elsewhere(services: Services, tmp_path: Path) -> UploadService:
    """Give the uploads of another host: the same database and store, locks that this host does not see."""
    (tmp_path / "elsewhere").mkdir()
    return UploadService(services.database, services.store, SessionLocks(tmp_path / "elsewhere"))


def test_an_upload_that_another_host_aborts_is_never_committed(services, maker, elsewhere, pixels) -> None:
    begun = maker.begin(pixels)
    maker.write(begun, pixels)

    def abort_at_the_end(done: int, total: int) -> None:
        if done == total:
            elsewhere.abort(maker.principal, begun.id)

    with pytest.raises(NotFoundError):
        services.uploads.commit(maker.principal, begun.id, progress=abort_at_the_end)
    assert count(services) == 0


def test_an_upload_that_another_host_commits_keeps_its_bytes(services, maker, elsewhere, small) -> None:
    begun = maker.begin(small)
    maker.write(begun, small)
    session = elsewhere.idle(datetime.now(UTC) + timedelta(seconds=1))[0]
    record = services.uploads.commit(maker.principal, begun.id)
    elsewhere._drop(session)  # as an abort that looked before the commit
    assert bytes_below(services) == record.values["stored_bytes"]


def test_two_hosts_that_commit_at_once_both_get_the_row(services, maker, elsewhere, pixels) -> None:
    begun = maker.begin(pixels)
    maker.write(begun, pixels)
    records: list[Record] = []

    def commit_elsewhere() -> bool:
        if not records:
            records.append(elsewhere.commit(maker.principal, begun.id))
        return False

    record = services.uploads.commit(maker.principal, begun.id, cancelled=commit_elsewhere)
    assert records[0].values == record.values
    assert count(services) == 1


def test_two_hosts_that_begin_at_once_share_the_session(services, maker, elsewhere, small) -> None:
    array_id = new_id()
    values = {"id": array_id, "name": "image"}
    barrier = threading.Barrier(4)
    begun: list[Begun] = []

    def begin(uploads: UploadService) -> None:
        barrier.wait()
        begun.append(uploads.begin(maker.principal, "Representation", values, plain_spec(small), {}))

    threads = [threading.Thread(target=begin, args=(one,)) for one in (services.uploads, elsewhere) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 4
    assert all(one == begun[0] for one in begun)


def test_an_id_that_was_aborted_elsewhere_and_begun_anew_has_its_new_shape(
    services, maker, elsewhere, small, pixels
) -> None:
    array_id = new_id()
    maker.write(maker.begin(small, id=array_id), small)  # this process now knows the session
    elsewhere.abort(maker.principal, array_id)
    values = {"id": array_id, "name": "image"}
    begun = elsewhere.begin(maker.principal, "Representation", values, plain_spec(pixels), {})
    maker.write(begun, pixels)
    record = services.uploads.commit(maker.principal, array_id)
    assert record.values["shape"] == pixels.shape
    stored = services.arrays.stored(record)
    reader = services.arrays.reader(stored, 0)
    np.testing.assert_array_equal(reader.read(tuple(slice(0, size) for size in pixels.shape)), pixels)


def test_a_session_that_is_gone_on_with_does_not_expire(services, maker, elsewhere, small) -> None:
    late, begun = maker.begin(small), maker.begin(small)

    class Resumed(SessionLocks):
        """Somebody goes on with the second session while the first is dropped."""

        def remove(self, session: str) -> None:
            if session == late.id:
                elsewhere.begin(maker.principal, "Representation", {"id": begun.id, "name": "image"},
                                plain_spec(small), {})  # fmt: skip
            super().remove(session)

    uploads = UploadService(services.database, services.store, Resumed(services.config.data))
    assert [one.id for one in uploads.expire(datetime.now(UTC) + timedelta(seconds=1))] == [late.id]
    assert services.uploads.spec(maker.principal, begun.id) == begun.spec


@pytest.mark.parametrize("shape", [(1 << 40, 4, 4), (4, 1 << 29, 1 << 29)])
def test_an_absurd_shape_is_refused_at_once(services, me, shape) -> None:
    level = Level("0", shape, shape, shape, (1.0,) * 3, (0.0,) * 3)
    spec = ArraySpec(tuple(default_axis(dim) for dim in "cyx"), "uint8", (level,))
    with pytest.raises(InvalidArgumentError) as caught:
        services.uploads.begin(me, "Representation", {"name": "huge"}, spec, {})
    assert caught.value.reason == "SHAPE_INVALID"


def test_a_spec_without_levels_is_refused_by_name(services: Services) -> None:
    me = services.identity.local()
    spec = ArraySpec((default_axis("y"), default_axis("x")), "uint8", ())
    with pytest.raises(InvalidArgumentError, match="no level"):
        services.uploads.begin(me, "Representation", {"name": "nothing"}, spec, {})
    assert services.locks.sessions() == []
