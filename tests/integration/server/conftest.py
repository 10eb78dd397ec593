"""One real server for the tests of this folder, with an image, its channels and a measurement table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from larvik.array.spec import ArraySpec, Level, default_axis
from larvik.ids import new_id
from larvik.testing.server import LarvikServer, larvik_server
from larvik_client.remote import RemoteConnection, connect


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LarvikServer]:
    with larvik_server(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="session")
def connection(server: LarvikServer) -> Iterator[RemoteConnection]:
    with connect(server.url, server.token) as opened:
        yield opened


@dataclass(frozen=True)
class Stored:
    """What the tests read."""

    array_id: str
    pixels: np.ndarray
    spec: ArraySpec
    table_id: str
    table: pa.Table


@pytest.fixture(scope="session")
def stored(connection: RemoteConnection) -> Stored:
    pixels = np.random.default_rng(7).integers(0, 60_000, (1, 2, 5, 130, 170), dtype="uint16")
    array_id, spec = upload(connection, pixels, "cells")
    table = pa.table({"label": pa.array([1, 2, 3], pa.int64()), "area": [1.5, None, 3.5]})
    row = connection.arrays.write_table({"id": new_id(), "name": "areas"}, table)
    return Stored(array_id, pixels, spec, str(row.values["id"]), table)


def upload(connection: RemoteConnection, pixels: np.ndarray, name: str) -> tuple[str, ArraySpec]:
    """Store an image with the last of the dims t, c, z, y, x; return its id and spec."""
    dims = "tczyx"[-pixels.ndim :]
    ones, zeros = (1.0,) * pixels.ndim, (0.0,) * pixels.ndim
    spec = ArraySpec(
        tuple(default_axis(dim) for dim in dims),
        pixels.dtype.name,
        (Level("0", pixels.shape, pixels.shape, pixels.shape, ones, zeros),),
    )
    channels = [
        {"index": 0, "name": "DAPI", "emission_wavelength": 461.0},
        {"index": 1, "name": "GFP", "emission_wavelength": 509.5},
    ]
    parts = {"Channel": channels} if "c" in dims else {}
    session = connection.arrays.begin("Representation", {"id": new_id(), "name": name}, spec, parts)
    shards = session.spec.levels[0].shards

    def blocks() -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        for start in product(
            *(range(0, size, step) for size, step in zip(pixels.shape, shards, strict=True))
        ):
            yield start, pixels[tuple(slice(a, a + n) for a, n in zip(start, shards, strict=True))]

    connection.arrays.put_many(session, blocks())
    row = connection.arrays.commit(session)
    return str(row.values["id"]), ArraySpec.from_dict(row.values["spec"])


@pytest.fixture(scope="session")
def put(connection: RemoteConnection):
    """Give a function that stores pixels and returns the array's id and spec."""
    return lambda pixels, name="image": upload(connection, pixels, name)


@pytest.fixture(scope="session")
def put_into():
    """Give a function that stores pixels through a connection and returns the array's id and spec."""
    return lambda connection, pixels, name="image": upload(connection, pixels, name)
