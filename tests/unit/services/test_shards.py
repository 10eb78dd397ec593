"""Filling sessions: encoded chunks, one writer per shard, coarser levels in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import google_crc32c
import numpy as np
import pytest

from larvik.array.spec import ArraySpec
from larvik.errors import InvalidArgumentError, LarvikError, NotFoundError, PermissionDeniedError
from larvik.ids import new_id
from larvik.services.bundle import Services, open_services
from larvik.services.locks import SessionLocks
from larvik.services.principal import READ, WRITE, Principal
from larvik.services.shards import EncodedChunk
from larvik.services.uploads import Begun
from larvik.storage.regions import regions
from larvik.storage.writer import ArrayWriter

from .conftest import Maker


def encoded(services: Services, maker: Maker, begun: Begun, pixels: np.ndarray) -> list[list[EncodedChunk]]:
    """Return all chunks of a session's array, shard by shard."""
    encoding = services.uploads.encoding(maker.principal, begun.id)
    shards = []
    for number in range(int(np.prod(encoding.grid.shard_counts))):
        chunks = []
        for index, region in encoding.grid.chunks_of(encoding.grid.shard_at(number)):
            data = encoding.encode(pixels[region])
            chunks.append(EncodedChunk(index, data, google_crc32c.value(data)))
        shards.append(chunks)
    return shards


def stored_levels(services: Services, begun: Begun) -> dict[str, bytes]:
    location = f"arrays/{begun.id[-2:]}/{begun.id}.ome.zarr"
    return {
        key[len(location) :]: services.store.read(key)
        for key, _ in services.store.list(location)
        if "/c/" in key and not key.endswith(".partial")  # one that is being written
    }


def test_chunks_store_what_pixels_store(services: Services, maker: Maker, pixels: np.ndarray) -> None:
    first, second = maker.begin(pixels), maker.begin(pixels)
    maker.write(first, pixels)
    told: list[int] = []
    shards = encoded(services, maker, second, pixels)
    services.uploads.write_many_chunks(maker.principal, second.id, reversed(shards), told.append)
    assert told == list(range(1, len(shards) + 1))
    for begun in (first, second):
        services.uploads.commit(maker.principal, begun.id)
    assert stored_levels(services, first) == stored_levels(services, second)


def test_what_are_not_all_chunks_of_one_shard_is_refused(services, maker, pixels) -> None:
    begun = maker.begin(pixels)
    one, other, *_ = encoded(services, maker, begun, pixels)
    outside = EncodedChunk((9, 9, 9, 9, 9), one[0].data, one[0].crc32c)
    for chunks in (one[1:], [*one[1:], one[1]], [*one[1:], other[0]], [*one[1:], outside], []):
        with pytest.raises(InvalidArgumentError) as caught:
            services.uploads.write_chunks(maker.principal, begun.id, chunks)
        assert caught.value.reason == "BLOCK_INVALID"
    assert services.uploads.stored_blocks(maker.principal, begun.id) == []


def test_a_wrong_checksum_names_its_chunk(services, maker, pixels) -> None:
    begun = maker.begin(pixels)
    one = encoded(services, maker, begun, pixels)[0]
    index = one[-1].index
    wrong = [*one[:-1], EncodedChunk(index, one[-1].data, one[-1].crc32c ^ 1)]
    with pytest.raises(InvalidArgumentError, match="checksum") as caught:
        services.uploads.write_chunks(maker.principal, begun.id, wrong)
    assert caught.value.metadata["chunk"] == ",".join(map(str, index))
    assert services.uploads.stored_blocks(maker.principal, begun.id) == []


def test_others_are_not_told_what_is_stored(services, maker, small) -> None:
    begun = maker.begin(small)
    stranger = Principal(new_id(), "stranger", "person", frozenset({READ, WRITE}))
    with pytest.raises(PermissionDeniedError):
        services.uploads.stored_blocks(stranger, begun.id)
    with pytest.raises(NotFoundError):
        services.uploads.stored_blocks(maker.principal, new_id())
    assert services.uploads.stored_blocks(maker.principal, begun.id) == []
    maker.write(begun, small, leave_out=1)
    assert services.uploads.stored_blocks(maker.principal, begun.id) == [0]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def coarse(services: Services, begun: Begun) -> set[str]:
    return {key for key in stored_levels(services, begun) if not key.startswith("/0/")}


def all_coarse(begun: Begun) -> int:
    return sum(len(list(regions(level.shape, level.shards))) for level in begun.spec.levels[1:])


def test_levels_are_built_while_shards_arrive(services, maker, pixels) -> None:
    begun = maker.begin(pixels)
    maker.write(begun, pixels)
    eventually(lambda: len(coarse(services, begun)) == all_coarse(begun) > 0)
    before = stored_levels(services, begun)
    services.uploads.commit(maker.principal, begun.id)
    assert stored_levels(services, begun) == before
    plain = maker.begin(pixels)
    spec: ArraySpec = plain.spec
    location = f"arrays/{plain.id[-2:]}/{plain.id}.ome.zarr"
    writer = ArrayWriter(services.store, location, spec)
    for region in writer.regions():
        writer.write(tuple(part.start for part in region), pixels[region])
    services.uploads.commit(maker.principal, plain.id)
    assert stored_levels(services, plain) == before


def test_another_process_builds_what_one_left(services, maker, pixels) -> None:
    begun = maker.begin(pixels)
    maker.write(begun, pixels, leave_out=1)
    services.uploads.close()
    with open_services(services.config) as other:
        again = Maker(other, other.identity.local())
        *_, last = regions(begun.spec.levels[0].shape, begun.spec.levels[0].shards)
        other.uploads.write(again.principal, begun.id, tuple(part.start for part in last), pixels[last])
        eventually(lambda: len(coarse(other, begun)) == all_coarse(begun))
        other.uploads.commit(again.principal, begun.id)


def test_many_writers_of_the_same_shards_end_in_one_array(services, maker, pixels) -> None:
    reference = maker.begin(pixels)
    maker.write(reference, pixels)
    services.uploads.commit(maker.principal, reference.id)
    begun = maker.begin(pixels)
    with open_services(services.config) as other:
        writers = [
            threading.Thread(target=Maker(one, maker.principal).write, args=(begun, pixels))
            for one in (services, other, services)
        ]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        other.uploads.commit(maker.principal, begun.id)
    assert stored_levels(services, begun) == stored_levels(services, reference)


@pytest.mark.parametrize("end", ["abort", "expire"])
def test_nothing_is_built_for_a_session_that_ended(services, maker, pixels, end) -> None:
    for _ in range(3):
        begun = maker.begin(pixels)
        stop = threading.Event()

        def write(begun: Begun = begun, stop: threading.Event = stop) -> None:
            with suppress(LarvikError):
                while not stop.is_set():
                    maker.write(begun, pixels)

        writing = threading.Thread(target=write)
        writing.start()
        eventually(lambda begun=begun: bool(stored_levels(services, begun)))
        if end == "abort":
            services.uploads.abort(maker.principal, begun.id)
            stop.set()
        else:
            stop.set()
            writing.join()
            services.uploads._own.clear()
            dropped = services.uploads.expire(datetime.now(UTC) + timedelta(minutes=1))
            assert [one.id for one in dropped] == [begun.id]
        writing.join()
        services.uploads._builder.wait(begun.id, 10)
        assert stored_levels(services, begun) == {}
        assert services.locks.sessions() == []


def test_a_shard_has_one_holder_and_a_session_alone_goes_first(tmp_path) -> None:
    locks, order = SessionLocks(tmp_path), []
    inside = threading.Event()

    def hold(name: str) -> None:
        with locks.shared("s") as shards, shards.shard(0, 7):
            order.append(f"{name} in")
            inside.set()
            time.sleep(0.05)
            order.append(f"{name} out")

    threads = [threading.Thread(target=hold, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [item.split()[1] for item in order] == ["in", "out", "in", "out"]

    stop, alone = threading.Event(), threading.Event()

    def share() -> None:
        while not stop.is_set():
            with locks.shared("s"):
                time.sleep(0.02)

    sharing = [threading.Thread(target=share) for _ in range(4)]
    for thread in sharing:
        thread.start()

    def take() -> None:
        with locks.exclusive("s"):
            alone.set()

    taking = threading.Thread(target=take)
    taking.start()
    assert alone.wait(5)
    stop.set()
    for thread in [*sharing, taking]:
        thread.join()
