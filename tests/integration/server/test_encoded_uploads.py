"""Uploads of chunks that the client encoded: what is stored, what is refused, how they go on after a cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import google_crc32c
import numpy as np
import psutil
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import larvik
from fixtures.proxy import CuttingProxy
from larvik.array.spec import ArraySpec, Level, default_axis
from larvik.connection import Upload
from larvik.errors import InvalidArgumentError, LarvikError, NotFoundError
from larvik.ids import new_id
from larvik.models import Representation
from larvik.proto.v1 import flight_pb2
from larvik.storage.base import open_store
from larvik.storage.pyramid import mean_2x2
from larvik.storage.regions import regions
from larvik.testing.server import LarvikServer, larvik_server
from larvik.wire.encoded import encode_chunks, encoded_schema
from larvik_client.puts import encoding_for
from larvik_client.remote import RemoteConnection, connect


def plain_spec(pixels: np.ndarray) -> ArraySpec:
    level = Level("0", pixels.shape, pixels.shape, pixels.shape, (1.0,) * pixels.ndim, (0.0,) * pixels.ndim)
    return ArraySpec(tuple(default_axis(dim) for dim in "tczyx"[-pixels.ndim :]), pixels.dtype.name, (level,))


def noise(shape: tuple[int, ...], dtype: str = "uint16", seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def begin(connection: RemoteConnection, pixels: np.ndarray, **values: object) -> Upload:
    columns = {"id": new_id(), "name": "image", **values}
    return connection.arrays.begin("Representation", columns, plain_spec(pixels), {})


def blocks(upload: Upload, pixels: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    level = upload.spec.levels[0]
    for region in regions(level.shape, level.shards):
        yield tuple(part.start for part in region), pixels[region]


def files(server: LarvikServer, upload: Upload) -> dict[str, bytes]:
    """Return the chunks and metadata of the levels of an array, by key below its group."""
    store = open_store(str(server.folder))
    root = f"arrays/{upload.id[-2:]}/{upload.id}.ome.zarr"
    found = {key[len(root) + 1 :]: store.read(key) for key, _ in store.list(root)}
    return {key: data for key, data in found.items() if key[0].isdigit() or key.startswith("data/")}


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 2, 3, 1100, 700), "uint16"),
        ((40, 60), "bool"),
        ((3, 700, 900), "float32"),
        ((5, 1300, 1025), "uint8"),
    ],
)
def test_encoded_and_dense_uploads_store_the_same_bytes(server, connection, shape, dtype) -> None:
    pixels = noise(shape, dtype)
    stored = []
    for encoding in ("auto", "dense"):
        upload = begin(connection, pixels)
        assert encoding_for(upload.document, upload.spec) is not None
        told: list[int] = []
        with larvik.set_options(encoding=encoding):
            connection.arrays.put_many(upload, blocks(upload, pixels), told.append)
        count = len(list(blocks(upload, pixels)))
        assert told == sorted(set(told))
        assert told[-1] == count
        assert connection.arrays.stored(upload) == list(range(count))
        row = connection.arrays.commit(upload)
        stored.append(files(server, upload))
        read = Representation.objects.using(connection).get(id=row.values["id"]).array
        np.testing.assert_array_equal(read.values, pixels)
    assert stored[0] == stored[1]


def test_labels_have_their_codec(server, connection) -> None:
    pixels = noise((700, 900), "uint32")
    upload = begin(connection, pixels, kind="label")
    encoding = encoding_for(upload.document, upload.spec)
    assert encoding is not None
    assert encoding.codec.cname == "zstd"
    connection.arrays.put_many(upload, blocks(upload, pixels))
    row = connection.arrays.commit(upload)
    read = Representation.objects.using(connection).get(id=row.values["id"]).array
    np.testing.assert_array_equal(read.values, pixels)


def test_a_document_that_cannot_be_encoded_makes_the_upload_dense(connection) -> None:
    pixels = noise((60, 70))
    upload = begin(connection, pixels)
    unknown = upload.document.replace('"blosc"', '"of_tomorrow"')
    plain = Upload(upload.id, upload.model, upload.array_id, upload.spec, unknown)
    assert encoding_for(unknown, upload.spec) is None
    connection.arrays.put_many(plain, blocks(upload, pixels))
    row = connection.arrays.commit(upload)
    read = Representation.objects.using(connection).get(id=row.values["id"]).array
    np.testing.assert_array_equal(read.values, pixels)


def test_repeated_blocks_replace_those_before_and_their_levels(server, connection) -> None:
    pixels = noise((2, 1100, 700))
    upload = begin(connection, pixels)
    connection.arrays.put_many(upload, blocks(upload, pixels // 2))
    connection.arrays.put_many(upload, blocks(upload, pixels))
    connection.arrays.put_many(upload, blocks(upload, pixels))
    connection.arrays.commit(upload)
    other = begin(connection, pixels)
    connection.arrays.put_many(other, blocks(other, pixels))
    connection.arrays.commit(other)
    assert files(server, upload) == files(server, other)


# Bad input


@dataclass
class Stream:
    """An upload by hand: a session, and all its encoded chunks."""

    connection: RemoteConnection
    upload: Upload
    chunks: list[tuple[tuple[int, ...], bytes, int]]

    def put(self, chunks: list[tuple[tuple[int, ...], bytes, int]], schema: pa.Schema | None = None) -> None:
        """Send chunks, one to a batch."""
        command = flight_pb2.FlightCommand()
        command.upload_put.upload_id = self.upload.id
        command.upload_put.encoding = flight_pb2.ENCODING_CHUNKS
        ndim = len(self.upload.spec.shape)
        batches = [encode_chunks([chunk]) for chunk in chunks]
        self.connection.arrays._flight.put(command, schema or encoded_schema(ndim), batches)

    def stored(self) -> list[int]:
        return self.connection.arrays.stored(self.upload)


@pytest.fixture
def stream(connection) -> Stream:
    pixels = noise((4, 600, 700))
    upload = begin(connection, pixels)
    encoding = encoding_for(upload.document, upload.spec)
    found = []
    for shard in product(*map(range, encoding.grid.shard_counts)):
        for index, region in encoding.grid.chunks_of(shard):
            data = encoding.encode(pixels[region])
            found.append((index, data, google_crc32c.value(data)))
    assert len(found) == 4
    return Stream(connection, upload, found)


def with_sum(index: tuple[int, ...], data: bytes) -> tuple[tuple[int, ...], bytes, int]:
    return index, data, google_crc32c.value(data)


def header(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + value.to_bytes(4, "little") + data[at + 4 :]


CASES = {
    "checksum": (lambda i, d: (i, d, google_crc32c.value(d) ^ 1), "crc32c"),
    "flipped bit": (lambda i, d: (i, d[:-1] + bytes([d[-1] ^ 1]), google_crc32c.value(d)), "crc32c"),
    "bomb": (lambda i, d: with_sum(i, header(d, 4, 0x7FFFFFFF)), "data"),
    "empty": (lambda i, d: with_sum(i, b""), "data"),
    "cut": (lambda i, d: with_sum(i, d[:-9]), "data"),
    "too long": (lambda i, d: with_sum(i, d + bytes(2 << 20)), "data"),
    "other element size": (lambda i, d: with_sum(i, d[:3] + b"\x04" + d[4:]), "data"),
    "block of no bytes": (lambda i, d: with_sum(i, header(d, 8, 0)), "data"),
    "other compressor": (lambda i, d: with_sum(i, d[:2] + bytes([d[2] & 0x1F | 0x80]) + d[3:]), "data"),
    "noise behind the header": (lambda i, d: with_sum(i, d[:16] + bytes(len(d) - 16)), "data"),
    "outside": (lambda i, d: with_sum((0, 2, 0), d), "chunk"),
    "negative": (lambda i, d: with_sum((0, -1, 0), d), "chunk"),
    "far outside": (lambda i, d: with_sum((0, 1 << 62, 0), d), "chunk"),
    "twice": (lambda i, d: with_sum((0, 0, 0), d), "chunk"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_lying_chunk_is_refused_by_name_and_nothing_of_its_block_is_stored(stream, name) -> None:
    damage, field = CASES[name]
    *good, (index, data, _) = stream.chunks
    bad = damage(index, data)
    with pytest.raises(InvalidArgumentError) as caught:
        stream.put([*good, bad])
    assert caught.value.reason == "BLOCK_INVALID"
    assert caught.value.metadata["field"] == field
    assert caught.value.metadata["chunk"] == ",".join(map(str, bad[0]))
    assert stream.stored() == []
    stream.put(stream.chunks)  # the session goes on
    assert stream.stored() == [0]
    stream.connection.arrays.commit(stream.upload)


PIXELS = noise((4, 600, 700))

DAMAGE = st.sampled_from(sorted(CASES))
STEPS = st.lists(st.tuples(st.integers(0, 3), st.none() | DAMAGE | st.integers(0, 1 << 30)), max_size=6)


def check_stream(connection: RemoteConnection, steps: list[tuple[int, str | int | None]]) -> None:
    """Send chunks in any order, some damaged by name or in a byte: a block is stored whole, or not at all."""
    upload = begin(connection, PIXELS)
    encoding = encoding_for(upload.document, upload.spec)
    good = [with_sum(i, encoding.encode(PIXELS[r])) for i, r in encoding.grid.chunks_of((0, 0, 0))]
    sent = []
    for number, damage in steps:
        index, data, crc = good[number]
        if isinstance(damage, str):
            sent.append(CASES[damage][0](index, data))
        elif damage is not None:
            at = damage % len(data)
            sent.append(with_sum(index, data[:at] + bytes([data[at] ^ 1 + damage % 255]) + data[at + 1 :]))
        else:
            sent.append((index, data, crc))
    by_hand = Stream(connection, upload, good)
    try:
        by_hand.put(sent)
    except InvalidArgumentError as error:
        assert error.reason == "BLOCK_INVALID", error  # noqa: PT017  # either end is right
    whole = by_hand.stored()
    assert whole in ([], [0])
    by_hand.put(good)
    row = connection.arrays.commit(upload)
    read = Representation.objects.using(connection).get(id=row.values["id"]).array
    np.testing.assert_array_equal(read.values, PIXELS)


@settings(max_examples=15)
@given(STEPS)
def test_any_stream_stores_whole_blocks_or_nothing(connection, steps) -> None:
    check_stream(connection, steps)


@pytest.mark.soak
@settings(max_examples=1000)
@given(STEPS)
def test_any_stream_stores_whole_blocks_or_nothing_for_long(connection, steps) -> None:
    check_stream(connection, steps)


def test_chunks_of_a_block_come_in_any_order(server, stream) -> None:
    stream.put(stream.chunks[::-1])
    first = files(server, stream.upload)
    stream.put(stream.chunks)
    assert files(server, stream.upload) == first


def test_a_stream_that_ends_within_a_block_is_refused(stream) -> None:
    with pytest.raises(InvalidArgumentError, match="3 of its 4 chunks") as caught:
        stream.put(stream.chunks[:3])
    assert caught.value.reason == "BLOCK_INVALID"
    assert stream.stored() == []


def test_columns_that_are_no_chunks_are_refused(stream) -> None:
    schema = encoded_schema(2)
    command = flight_pb2.FlightCommand()
    command.upload_put.upload_id = stream.upload.id
    command.upload_put.encoding = flight_pb2.ENCODING_CHUNKS
    with pytest.raises(InvalidArgumentError) as caught:
        stream.connection.arrays._flight.put(command, schema, [encode_chunks([((0, 0), b"", 0)])])
    assert (caught.value.reason, caught.value.metadata["field"]) == ("BLOCK_INVALID", "schema")


def test_an_encoding_that_is_none_of_uploads_is_refused(stream) -> None:
    command = flight_pb2.FlightCommand()
    command.upload_put.upload_id = stream.upload.id
    command.upload_put.encoding = flight_pb2.ENCODING_REFS
    with pytest.raises(InvalidArgumentError) as caught:
        stream.connection.arrays._flight.put(command, encoded_schema(3), [])
    assert caught.value.reason == "ENCODING_UNSUPPORTED"


def test_a_session_that_ended_takes_nothing(stream) -> None:
    stream.connection.arrays.abort(stream.upload)
    with pytest.raises(NotFoundError) as caught:
        stream.put(stream.chunks)
    assert caught.value.reason == "UPLOAD_NOT_FOUND"
    with pytest.raises(NotFoundError):
        stream.stored()


def test_a_reader_cannot_ask_what_is_stored(server, stream) -> None:
    with connect(server.url, server.reader_token) as reader, pytest.raises(LarvikError) as caught:
        reader.arrays.stored(stream.upload)
    assert caught.value.reason == "SCOPE_MISSING"


def test_without_decoding_headers_and_checksums_are_checked_still(tmp_path) -> None:
    with (
        larvik_server(tmp_path / "data", environment={"LARVIK_DECODE_UPLOADS": "false"}) as server,
        connect(server.url, server.token) as connection,
    ):
        pixels = noise((600, 700))
        upload = begin(connection, pixels)
        encoding = encoding_for(upload.document, upload.spec)
        good = [with_sum(i, encoding.encode(pixels[r])) for i, r in encoding.grid.chunks_of((0, 0))]
        by_hand = Stream(connection, upload, good)
        index, data, _ = good[-1]
        for damaged in (header(data, 4, 1), data[:-1]):
            with pytest.raises(InvalidArgumentError):
                by_hand.put([*good[:-1], with_sum(index, damaged)])
        by_hand.put([*good[:-1], with_sum(index, data[:16] + bytes(len(data) - 16))])
        assert by_hand.stored() == [0]


def test_an_error_of_the_callers_own_ends_the_stream(connection) -> None:
    pixels = noise((2, 1100, 700))
    for encoding in ("auto", "dense"):
        upload = begin(connection, pixels)

        def failing(upload: Upload = upload) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
            yield from blocks(upload, pixels)
            raise KeyError("mine")

        with larvik.set_options(encoding=encoding), pytest.raises(KeyError, match="mine"):
            connection.arrays.put_many(upload, failing())


# Cuts


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[LarvikServer, CuttingProxy]]:
    """Give a server whose Flight port is reached through a proxy."""
    with CuttingProxy() as proxy:
        environment = {"LARVIK_PUBLIC_FLIGHT_URL": f"grpc://127.0.0.1:{proxy.port}"}
        with larvik_server(tmp_path / "data", environment=environment) as server:
            proxy.target = int(server.flight_url.rpartition(":")[2])
            yield server, proxy


SHARD_BYTES = 32 << 20


def incompressible(shards: int) -> np.ndarray:
    """Return pixels that are stored in so many shards of 32 MiB, and are as long encoded."""
    return np.random.default_rng(9).integers(0, 1 << 16, (16 * shards, 1024, 1024), dtype=np.uint16)


@pytest.mark.parametrize(("encoding", "shards"), [("auto", 17), ("dense", 5)])
def test_after_a_cut_at_half_the_rest_alone_is_sent(proxied, encoding, shards) -> None:
    server, proxy = proxied
    pixels = incompressible(shards)
    proxy.cut_at(pixels.nbytes // 2)
    told: list[tuple[int, int]] = []
    with larvik.connect(server.url, token=server.token) as connection, larvik.set_options(encoding=encoding):
        image = Representation.objects.using(connection).from_xarray(
            pixels, name="cut", progress=lambda *step: told.append(step)
        )
        sent_again = proxy.sent - pixels.nbytes // 2
        for z in range(0, len(pixels), 50):
            np.testing.assert_array_equal(image.array.isel(z=z).values, pixels[z])
    assert proxy.cuts == 1
    # What is lost is the block that was on its way, and what the sockets held.
    assert sent_again < pixels.nbytes / 2 + SHARD_BYTES + (6 << 20)
    if shards >= 17:
        assert sent_again < 0.55 * pixels.nbytes
    assert told == sorted(told)
    assert told[-1] == (pixels.nbytes, pixels.nbytes)


def test_a_killed_data_process_costs_no_more_than_what_was_on_its_way(tmp_path: Path) -> None:
    pixels = incompressible(4)
    with larvik_server(tmp_path / "data") as server:
        port = int(server.flight_url.rpartition(":")[2])
        killed: list[int] = []

        def progress(done: int, total: int) -> None:
            if done > 0 and not killed:
                (child,) = (c for c in psutil.Process(server.pid).children() if listens_at(c, port))
                killed.append(child.pid)
                child.kill()

        with larvik.connect(server.url, token=server.token) as connection:
            image = Representation.objects.using(connection).from_xarray(
                pixels, name="killed", progress=progress
            )
            assert killed
            np.testing.assert_array_equal(image.array.isel(z=63).values, pixels[63])


def listens_at(process: psutil.Process, port: int) -> bool:
    return any(each.status == "LISTEN" and each.laddr.port == port for each in process.net_connections())


UPLOAD = """
import sys
import numpy as np
import larvik
from larvik.models import Representation
url, token, id, path = sys.argv[1:]
with larvik.connect(url, token=token) as connection:
    def progress(done, total):
        print(done, flush=True)
    Representation.objects.from_xarray(np.load(path, mmap_mode="r"), name="mine", id=id, progress=progress)
"""


def test_another_process_goes_on_with_an_id_where_a_killed_one_was(proxied, tmp_path: Path) -> None:
    server, proxy = proxied
    pixels = incompressible(5)
    np.save(tmp_path / "pixels.npy", pixels)
    id = new_id()
    arguments = [sys.executable, "-c", UPLOAD, server.url, server.token, id, str(tmp_path / "pixels.npy")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if int(line) > 0:
                first.kill()
                break
    proxy.sent = 0
    again = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert int(again.stdout.split()[0]) > 0  # what was stored counts from the beginning
    assert proxy.sent < pixels.nbytes
    with connect(server.url, server.token) as connection:
        image = Representation.objects.using(connection).get(id=id)
        np.testing.assert_array_equal(image.array.isel(z=40).values, pixels[40])


def test_a_server_that_stays_away_leaves_the_session_of_a_chosen_id(proxied) -> None:
    server, proxy = proxied
    pixels = incompressible(3)
    id = new_id()
    with larvik.connect(server.url, token=server.token) as connection:
        target, proxy.target = proxy.target, 1  # nobody listens there
        for chosen, found in (({}, 0), ({"id": id}, 1)):
            with pytest.raises(LarvikError) as caught:
                Representation.objects.using(connection).from_xarray(pixels, name="away", **chosen)
            assert caught.value.reason == "SERVER_UNREACHABLE"
            assert len(os.listdir(server.folder / "locks")) == found
        proxy.target = target
        image = Representation.objects.using(connection).from_xarray(pixels, name="away", id=id)
        np.testing.assert_array_equal(image.array.isel(z=1).values, pixels[1])


def test_an_upload_into_s3_goes_on_after_a_cut(tmp_path: Path, s3_url) -> None:
    pixels = incompressible(3).reshape(12, 2048, 2048)
    with CuttingProxy() as proxy:
        environment = {
            "LARVIK_PUBLIC_FLIGHT_URL": f"grpc://127.0.0.1:{proxy.port}",
            "LARVIK_STORE_URL": s3_url.url,
            **{f"LARVIK_STORE__{name.upper()}": str(value) for name, value in s3_url.options.items()},
        }
        with larvik_server(tmp_path / "data", environment=environment) as server:
            proxy.target = int(server.flight_url.rpartition(":")[2])
            proxy.cut_at(SHARD_BYTES + (SHARD_BYTES >> 1))
            with larvik.connect(server.url, token=server.token) as connection:
                image = Representation.objects.using(connection).from_xarray(pixels, name="far")
                for z in (0, 5, 11):
                    np.testing.assert_array_equal(image.array.isel(z=z).values, pixels[z])
                coarse = image.levels[1].isel(z=7).values
        assert proxy.cuts == 1
    assert proxy.sent < pixels.nbytes + SHARD_BYTES + (6 << 20)
    np.testing.assert_array_equal(coarse, mean_2x2(pixels[7]))
