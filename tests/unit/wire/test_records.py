"""Rows and descriptors of models come back as they were."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from larvik.errors import InvalidArgumentError
from larvik.models import registry
from larvik.proto.v1 import catalog_pb2
from larvik.query.query import Record
from larvik.wire.records import decode_model, decode_record, decode_registry, encode_model, encode_record


def test_every_model_comes_back_but_for_what_only_a_database_needs():
    for spec in registry:
        message = catalog_pb2.ModelDescriptor.FromString(encode_model(spec).SerializeToString())
        assert decode_model(message) == replace(spec, indexes=(), unique=())


def test_a_registry_of_descriptors_knows_the_ways_back():
    found = decode_registry(map(encode_model, registry))
    for spec in registry:
        assert found.reverses(spec.name) == registry.reverses(spec.name)


def test_a_row_comes_back_with_its_related_rows():
    experiment = Record("Experiment", {"id": "e", "name": "Animal"})
    row = Record(
        "Sample",
        {"id": "s", "created_at": datetime(2026, 1, 1, tzinfo=UTC), "dims": (), "note": None},
        {"experiment": experiment, "group": None},
    )
    assert decode_record(encode_record(row)) == row


def test_rows_that_are_nested_without_end_are_refused():
    message = catalog_pb2.Record(model="Sample")
    for _ in range(20):
        outer = catalog_pb2.Record(model="Sample")
        outer.related["parent"].record.CopyFrom(message)
        message = outer
    with pytest.raises(InvalidArgumentError):
        decode_record(message)


@pytest.mark.parametrize("field", ["type", "on_delete"])
def test_a_descriptor_of_a_newer_server_says_that_the_client_is_old(field):
    message = encode_model(registry.get("Sample"))
    if field == "type":
        message.fields[0].type = 99
    else:
        message.relations[0].on_delete = 99
    with pytest.raises(InvalidArgumentError, match="upgrade"):
        decode_model(message)
