"""A Flight client with a token and no Larvik library lists, reads pixels as tensors and reads tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest


@pytest.fixture
def client(server):
    with flight.FlightClient(server.flight_url) as opened:
        yield opened


@pytest.fixture
def options(server):
    return flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {server.reader_token}".encode())])


def read(client, options, descriptor):
    info = client.get_flight_info(descriptor, options)
    return client.do_get(info.endpoints[0].ticket, options).read_all()


def assembled(table: pa.Table) -> np.ndarray:
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    shape = tuple(map(int, about["larvik.shape"].split(",")))
    result = np.zeros(shape, about["larvik.dtype"])
    tensors = table.column("data").combine_chunks()
    tensors = tensors.chunk(0) if isinstance(tensors, pa.ChunkedArray) else tensors
    for tensor, start in zip(tensors.to_numpy_ndarray(), table.column("start").to_pylist(), strict=True):
        result[tuple(slice(a, a + n) for a, n in zip(start, tensor.shape, strict=True))] = tensor
    return result


def test_arrays_are_listed_with_schema_and_path(client, options, stored):
    listed = {info.descriptor.path[1].decode(): info for info in client.list_flights(b"arrays", options)}
    info = listed[stored.array_id]
    assert info.descriptor.path[0] == b"arrays"
    assert info.schema.metadata[b"larvik.dims"] == b"t,c,z,y,x"
    assert info.schema.metadata[b"larvik.shape"] == b"1,2,5,130,170"
    assert info.total_bytes == stored.pixels.nbytes


def test_a_listing_without_criteria_has_arrays_tables_and_models(client, options, stored):
    paths = {
        tuple(part.decode() for part in info.descriptor.path) for info in client.list_flights(options=options)
    }
    assert {("arrays", stored.array_id), ("tables", stored.table_id), ("models", "Representation")} <= paths


def test_an_array_is_read_as_tensors(client, options, stored):
    table = read(client, options, flight.FlightDescriptor.for_path("arrays", stored.array_id))
    assert (assembled(table) == stored.pixels).all()


def test_the_schema_is_the_one_of_the_stream(client, options, stored):
    for path in (("arrays", stored.array_id), ("tables", stored.table_id), ("models", "Channel")):
        descriptor = flight.FlightDescriptor.for_path(*path)
        schema = client.get_schema(descriptor, options).schema
        assert schema.equals(client.get_flight_info(descriptor, options).schema, check_metadata=True)
        assert schema.equals(read(client, options, descriptor).schema, check_metadata=True)


def test_metadata_are_read_as_a_table(client, options, stored):
    table = read(client, options, flight.FlightDescriptor.for_path("models", "Channel"))
    rows = [row for row in table.to_pylist() if row["object_id"] == stored.array_id]
    assert [(row["Name"], row["EmissionWavelength"]) for row in rows] == [("DAPI", 461.0), ("GFP", 509.5)]


def test_measurements_are_read_as_they_were_stored(client, options, stored):
    assert read(client, options, flight.FlightDescriptor.for_path("tables", stored.table_id)).equals(
        stored.table
    )


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float32", "float64"])
def test_every_dtype_is_read_as_tensors(client, options, put, dtype):
    pixels = np.random.default_rng(1).integers(0, 2, (37, 53)).astype(dtype)
    array_id, _ = put(pixels, dtype)
    assert (
        assembled(read(client, options, flight.FlightDescriptor.for_path("arrays", array_id))) == pixels
    ).all()


def test_the_one_action_answers(client, options):
    assert [action.type for action in client.list_actions(options)] == ["larvik.v1.health"]
    (answer,) = client.do_action("larvik.v1.health", options)
    assert answer.body.to_pybytes() == b"SERVING"
