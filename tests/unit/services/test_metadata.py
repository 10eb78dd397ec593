from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import pytest

from larvik.query.predicate import Compare, Lookup
from larvik.query.query import Query
from larvik.services.bundle import Services
from larvik.services.metadata import MetadataCopier
from larvik.storage.local import LocalStore
from larvik.storage.ngff import read_group

from .conftest import Maker


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def record(maker: Maker, small: np.ndarray):
    channels = [{"index": i, "name": name, "color": "#00ff00"} for i, name in enumerate(("DAPI", "GFP"))]
    array = np.stack([small, small]).reshape(2, 2, 3, 20, 30)
    begun = maker.begin(array, {"Channel": channels}, name="before", attributes={"lab": "ours"})
    maker.write(begun, array)
    return maker.services.uploads.commit(maker.principal, begun.id)


def channel_id(services: Services, me, index: int) -> str:
    query = Query("Channel", where=(Compare(("index",), Lookup.EXACT, index),))
    return str(services.catalog.page(me, query).records[0].values["id"])


def test_the_group_says_what_the_database_says(services, record) -> None:
    group = read_group(services.store, record.values["location"])
    assert (group.name, group.array_id, group.revision) == ("before", record.values["id"], 1)
    assert [(channel.name, channel.color) for channel in group.channels] == [
        ("DAPI", "00FF00"),
        ("GFP", "00FF00"),
    ]
    assert group.attributes == {"lab": "ours"}
    assert group.ome_xml is not None
    assert "DAPI" in group.ome_xml


def test_edits_of_row_and_biometa_reach_the_group(services, me, record) -> None:
    location, array_id = record.values["location"], record.values["id"]
    services.catalog.update(me, "Representation", array_id, {"name": "after"})
    services.catalog.update(
        me, "Channel", channel_id(services, me, 0), {"name": "Hoechst", "color": "#0000ff"}
    )
    assert services.copier.drain() == 1
    group = read_group(services.store, location)
    stored = services.arrays.record(me, array_id).values
    assert (group.name, group.revision) == ("after", stored["revision"]) == ("after", 3)
    assert (group.channels[0].name, group.channels[0].color) == ("Hoechst", "0000FF")
    assert group.ome_xml is not None
    assert "Hoechst" in group.ome_xml
    assert services.copier.drain() == 0


def test_attributes_of_others_survive_a_rewrite(services, me, record) -> None:
    key = f"{record.values['location']}/zarr.json"
    document = json.loads(services.store.read(key))
    document["attributes"]["someone"] = {"else": 1}
    services.store.write(key, json.dumps(document).encode())
    services.catalog.update(me, "Representation", record.values["id"], {"name": "after"})
    services.copier.drain()
    attributes = json.loads(services.store.read(key))["attributes"]
    assert (attributes["someone"], attributes["lab"]) == ({"else": 1}, "ours")


def test_the_background_thread_follows_within_seconds(services, me, record) -> None:
    services.catalog.update(me, "Representation", record.values["id"], {"name": "after"})
    services.edited()
    wait_until(lambda: read_group(services.store, record.values["location"]).name == "after")


def test_closing_writes_what_is_left(services, me, record) -> None:
    services.copier.start(None)
    wait_until(lambda: services.copier.drain() == 0)
    services.catalog.update(me, "Representation", record.values["id"], {"name": "after"})
    services.copier.close()
    assert read_group(services.store, record.values["location"]).name == "after"


def test_a_group_that_fails_keeps_its_mark_and_holds_up_nobody(services, me, maker, small, record) -> None:
    other = maker.store(small)
    for one in (record, other):
        services.catalog.update(me, "Representation", one.values["id"], {"name": "after"})
    key = f"{record.values['location']}/zarr.json"
    good = services.store.read(key)
    services.store.write(key, b"not json")
    assert services.copier.drain() == 1
    assert read_group(services.store, other.values["location"]).name == "after"
    services.store.write(key, good)
    assert services.copier.drain() == 1
    assert read_group(services.store, record.values["location"]).name == "after"


def test_the_last_revision_wins_when_two_processes_rewrite_a_group(services, me, record) -> None:
    class Slow(LocalStore):
        """Another process edits and rewrites between our look at the group and our write."""

        is_first = True

        def write(self, key: str, data: bytes) -> None:
            if self.is_first and key.endswith("zarr.json") and "OME" not in key:
                self.is_first = False
                services.catalog.update(me, "Representation", record.values["id"], {"name": "later"})
                assert services.copier.drain() == 1
            super().write(key, data)

    services.catalog.update(me, "Representation", record.values["id"], {"name": "earlier"})
    slow = Slow(services.config.data)
    MetadataCopier(services.database, slow).drain()
    assert not slow.is_first
    group = read_group(services.store, record.values["location"])
    assert (group.name, group.revision) == ("later", 3)


def test_a_fault_of_ours_in_one_group_holds_up_no_other(services, me, maker, small, record) -> None:
    class Faulty(LocalStore):
        def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            if record.values["id"] in key:
                raise ZeroDivisionError
            return super().read(key, start, length)

    other = maker.store(small)
    for one in (record, other):
        services.catalog.update(me, "Representation", one.values["id"], {"name": "after"})
    assert MetadataCopier(services.database, Faulty(services.config.data)).drain() == 1
    assert read_group(services.store, other.values["location"]).name == "after"
