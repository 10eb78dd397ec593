"""Every way in which stored pixels travel gives the same pixels, and nothing to those without a ticket."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.flight as flight
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr import codecs as v3
from zarr.codecs import numcodecs as zarr3

import larvik
from larvik import Representation
from larvik.array.expression import Source
from larvik.array.record import record
from larvik.array.spec import DTYPES, ArraySpec
from larvik.errors import (
    DataLossError,
    InvalidArgumentError,
    LarvikError,
    PermissionDeniedError,
    SelectionError,
    UnauthenticatedError,
)
from larvik.importing import import_file
from larvik.proto.v1 import flight_pb2
from larvik.testing.arrays import random_array
from larvik.testing.images import write_group, write_ome_zarr
from larvik.testing.server import LarvikServer, larvik_server
from larvik.wire.objects import receive, send
from larvik.wire.status import decode_details, decode_flight
from larvik_client.commands import command_of
from larvik_client.reader import NAMED
from larvik_client.remote import RemoteConnection, connect

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3:UserWarning")

LOCAL = ("auto", "chunks", "dense", "store")
BUCKET = ("auto", "chunks", "dense", "refs")
#: Chains of Zarr v3: what our own decoder knows, and what zarr-python has to decode.
CHAINS: dict[str, Callable[[], list[Any]]] = {
    "none": lambda: [v3.BytesCodec()],
    "blosc": lambda: [v3.BytesCodec(), v3.BloscCodec(cname="lz4", shuffle="bitshuffle")],
    "zstd": lambda: [v3.BytesCodec(), v3.ZstdCodec()],
    "gzip": lambda: [v3.BytesCodec(), v3.GzipCodec()],
    "big endian": lambda: [v3.BytesCodec(endian="big"), v3.ZstdCodec()],
    "checksum": lambda: [v3.BytesCodec(), v3.ZstdCodec(), v3.Crc32cCodec()],
    "transposed": lambda: [v3.TransposeCodec(order=(2, 0, 1)), v3.BytesCodec(), v3.GzipCodec()],
    "lzma": lambda: [v3.BytesCodec(), zarr3.LZMA()],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[LarvikServer]:
    data = tmp_path_factory.mktemp("near")
    with larvik_server(data, arguments=("--import-root", str(folder))) as running:
        yield running


@pytest.fixture(scope="module")
def client(near: LarvikServer) -> Iterator[RemoteConnection]:
    with connect(near.url, near.token) as opened:
        yield opened


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, module_s3) -> Iterator[RemoteConnection]:
    with (
        larvik_server(
            tmp_path_factory.mktemp("far"),
            store_url=module_s3.url,
            store_options=module_s3.options,
            environment={"LARVIK_HANDOUT__ADDRESSES": "true"},
        ) as running,
        connect(running.url, running.token) as opened,
    ):
        yield opened


def sources(row: Representation) -> list[Source]:
    spec = ArraySpec.from_dict(row.spec)
    return [
        Source(row.id, row.version, number, level.shape, spec.dtype, level.chunks)
        for number, level in enumerate(spec.levels)
    ]


def read(connection: RemoteConnection, source: Source, box: tuple[slice, ...], encoding: str) -> np.ndarray:
    with larvik.set_options(encoding=encoding):
        return connection.arrays.evaluator.reader(source).read(box)


def check(
    connection: RemoteConnection,
    source: Source,
    pixels: np.ndarray,
    box: tuple[slice, ...],
    encodings: tuple[str, ...],
) -> None:
    """Check a box of a level in every encoding; those that take no steps refuse them."""
    for encoding in encodings:
        if any(part.step not in (None, 1) for part in box) and encoding in ("chunks", "refs"):
            continue
        found = read(connection, source, box, encoding)
        assert found.dtype == pixels.dtype
        np.testing.assert_array_equal(found, pixels[box], err_msg=encoding)


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[slice, ...]:
    parts = []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        stop = draw(st.integers(start + 1, size))
        parts.append(slice(start, stop, draw(st.sampled_from([1, 1, 1, 2, 3]))))
    return tuple(parts)


def write_image(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """Write an OME-Zarr 0.5 image with one level, chunked and encoded as told; some chunks are not stored."""
    dims = "zyx"
    axes = [{"name": dim, "type": "space", "unit": "micrometer"} for dim in dims]
    scale = {"type": "scale", "scale": [1.0] * 3}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    write_group(path, {"multiscales": [{"name": "cells", "axes": axes, "datasets": datasets}]}, "0.5")
    array = zarr.create_array(
        str(path / "0"), shape=pixels.shape, dtype=pixels.dtype, zarr_format=3, dimension_names=[*dims],
        fill_value=1, config={"write_empty_chunks": False}, **options,
    )  # fmt: skip
    array[...] = pixels
    return path


@settings(max_examples=15)
@given(st.data())
def test_a_registered_zarr_gives_the_same_pixels_by_every_encoding(client, folder, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)))
    chunks = tuple(data.draw(st.integers(1, 14)) for _ in shape)
    chain = data.draw(st.sampled_from([*CHAINS]))
    factor = tuple(data.draw(st.integers(1, 3)) for _ in shape)
    is_sharded = data.draw(st.booleans())
    pixels = random_array(shape, dtype, seed=data.draw(st.integers(0, 9)))
    pixels[:, : data.draw(st.integers(0, shape[1]))] = 1  # the fill value: such chunks are not stored
    serializer = CHAINS[chain]()
    if is_sharded:
        shards = tuple(chunk * times for chunk, times in zip(chunks, factor, strict=True))
        options = {
            "chunks": shards,
            "serializer": v3.ShardingCodec(chunk_shape=chunks, codecs=serializer),
            "compressors": None,
        }
    else:
        at = next(number for number, codec in enumerate(serializer) if isinstance(codec, v3.BytesCodec))
        options = {
            "chunks": chunks,
            "filters": serializer[:at] or None,
            "serializer": serializer[at],
            "compressors": serializer[at + 1 :] or None,
        }
    path = write_image(folder / f"{larvik.ids.new_id()}.ome.zarr", pixels, **options)
    row = import_file(path, in_place=True, connection=client)[0]
    (source,) = sources(row)
    for _ in range(3):
        check(client, source, pixels, data.draw(boxes(shape)), LOCAL)
    check(client, source, pixels, tuple(slice(0, size) for size in shape), LOCAL)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_level_of_a_registered_image_is_the_same_by_every_encoding(client, folder, version):
    pixels = random_array((2, 3, 90, 70), "uint16")
    path = write_ome_zarr(folder / f"image-{version}.ome.zarr", pixels, "czyx", version=version)
    row = import_file(path, in_place=True, connection=client)[0]
    for number, source in enumerate(sources(row)):
        level = pixels[:, :, :: 2**number, :: 2**number]
        box = (slice(1, 2), slice(0, 3), slice(7, 41), slice(3, 30))
        check(client, source, level, box, LOCAL)
        check(client, source, level, tuple(slice(0, size) for size in level.shape), LOCAL)


@pytest.fixture(scope="module")
def there(far) -> dict[str, tuple[Representation, np.ndarray]]:
    """For some dtypes: an array in the bucket, with a pyramid, and its pixels."""
    found = {}
    for dtype in ("uint16", "float32", "bool"):
        pixels = random_array((2, 3, 300, 1200), dtype, seed=3)
        array = larvik.Representation.objects.using(far).from_xarray(image(pixels), name=dtype)
        found[dtype] = array, pixels
    return found


def image(pixels: np.ndarray) -> Any:
    import xarray as xr

    return xr.DataArray(pixels, dims=tuple("tczyx"[-pixels.ndim :]))


@settings(max_examples=12)
@given(st.data(), st.sampled_from(["uint16", "float32", "bool"]))
def test_an_array_in_a_bucket_gives_the_same_pixels_by_every_encoding(far, there, data, dtype):
    row, pixels = there[dtype]
    found = sources(row)
    check(far, found[0], pixels, data.draw(boxes(pixels.shape)), BUCKET)
    number = data.draw(st.integers(0, len(found) - 1))
    box = data.draw(boxes(found[number].shape))
    expected = read(far, found[number], tuple(slice(0, size) for size in found[number].shape), "dense")
    check(far, found[number], expected, box, BUCKET)


@pytest.fixture(scope="module")
def big(client) -> tuple[Representation, np.ndarray]:
    """Give an array of 80 MB whose chunks compress."""
    rng = np.random.default_rng(5)
    pixels = np.broadcast_to(rng.poisson(200, (2, 1, 1, 1000, 1000)).astype("uint16"), (2, 2, 10, 1000, 1000))
    pixels = np.ascontiguousarray(pixels)
    return Representation.objects.using(client).from_xarray(image(pixels), name="big"), pixels


def data_processes(server: LarvikServer) -> Any:
    import psutil

    def is_bulk(process: psutil.Process) -> bool:
        return "larvik_server.flight" in " ".join(process.cmdline())

    return [child for child in psutil.Process(server.pid).children() if is_bulk(child)]


@pytest.mark.parametrize("encoding", ["chunks", "dense", "store"])
def test_a_read_survives_the_end_of_the_process_that_serves_it(near, client, big, encoding):
    row, pixels = big
    (source, *_) = sources(row)
    whole = tuple(slice(0, size) for size in pixels.shape)
    check(client, source, pixels, whole, (encoding,))
    processes = data_processes(near)
    killers = [threading.Timer(0.03, process.kill) for process in processes]
    for killer in killers:
        killer.start()
    for _ in range(3):
        np.testing.assert_array_equal(read(client, source, whole, encoding), pixels)
    for killer in killers:
        killer.join()
    assert not any(process.is_running() and process.status() != "zombie" for process in processes)


def test_the_plan_tells_encoding_reason_and_bytes(client, far, there, big):
    row, pixels = big
    plan = row.array.larvik.explain()
    assert (plan.where, plan.encoding) == ("client", "store")
    assert plan.encoding_why in str(plan)
    with larvik.set_options(encoding="chunks"):
        plan = row.array.larvik.explain()
    assert plan.encoding == "chunks"
    assert plan.bytes_result == pixels.nbytes
    assert 0 < plan.bytes_stored < 0.8 * pixels.nbytes
    assert plan.chunks == np.prod(
        [-(-n // c) for n, c in zip(pixels.shape, sources(row)[0].chunks, strict=True)]
    )
    assert row.array.max("z").larvik.explain().where == "server"
    assert row.array.max("z").larvik.explain().encoding == "dense"
    assert there["bool"][0].array.larvik.explain().encoding in ("refs", "dense")


def test_small_crops_of_large_chunks_travel_dense(client, big):
    row, _ = big
    command = command_of(
        record("select", [sources(row)[0]], {"selection": tuple(range(0, 1) for _ in range(5))}),
        [flight_pb2.ENCODING_CHUNKS, flight_pb2.ENCODING_DENSE],
    )
    plan = client._flight.offer(command).plan
    assert plan.encoding == flight_pb2.ENCODING_DENSE
    assert plan.document == ""
    assert plan.reason


def test_what_the_server_refuses_is_said_by_name(client, big, far, there):
    row, _ = big
    with (
        larvik.set_options(encoding="refs"),
        pytest.raises(InvalidArgumentError, match="addresses") as caught,
    ):
        row.array.isel(z=0).compute()
    assert caught.value.reason == "ENCODING_UNSUPPORTED"
    with larvik.set_options(encoding="store"), pytest.raises(InvalidArgumentError, match="no files"):
        there["uint16"][0].array.isel(z=0).compute()
    with larvik.set_options(encoding="chunks"), pytest.raises(InvalidArgumentError, match="no stored form"):
        row.array.isel(x=slice(None, None, 2)).compute()
    with pytest.raises(InvalidArgumentError, match="encoding"):
        larvik.set_options(encoding="carrier pigeon")


def test_a_client_that_cannot_reach_the_socket_reads_streams(near, big):
    row, pixels = big
    with connect(near.url, near.token) as other:
        routes = other.arrays.evaluator._routes
        real = routes.flight.offer

        def offer(*arguments: Any) -> Any:
            offered = real(*arguments)
            offered.plan.socket = offered.plan.socket and "larvik-of-another-network"
            return offered

        routes.flight.offer = offer
        source = sources(row)[0]
        box = (slice(0, 1), slice(0, 1), slice(0, 4), slice(0, 1000), slice(0, 1000))
        np.testing.assert_array_equal(read(other, source, box, "auto"), pixels[box])
        assert not routes.near.is_possible
        with pytest.raises(InvalidArgumentError, match="not reached"):
            read(other, source, box, "store")


def test_damage_is_named_by_array_and_chunk_in_every_encoding(near, client):
    pixels = random_array((1, 1, 1, 600, 600), "uint16")
    row = Representation.objects.using(client).from_xarray(image(pixels), name="to be damaged")
    stored = near.folder / row.location / "0"
    shard = next(path for path in (stored / "c").rglob("*") if path.is_file())
    content = bytearray(shard.read_bytes())
    content[:64] = bytes(64)
    shard.write_bytes(content)
    whole = tuple(slice(0, size) for size in pixels.shape)
    for encoding in LOCAL:
        with pytest.raises(DataLossError, match=row.id) as caught:
            read(client, sources(row)[0], whole, encoding)
        assert caught.value.reason == "CHUNK_CORRUPT"
        assert caught.value.metadata["chunk"] == "0,0,0,0,0"


def test_a_registered_source_that_changed_is_noticed_by_every_encoding(client, folder):
    pixels = random_array((1, 3, 90, 70), "uint16")
    path = write_ome_zarr(folder / "changing.ome.zarr", pixels, "czyx")
    row = import_file(path, in_place=True, connection=client)[0]
    source = sources(row)[0]
    whole = tuple(slice(0, size) for size in pixels.shape)
    check(client, source, pixels, whole, LOCAL)
    time.sleep(1.1)  # a source is looked at every second
    document = path / "0" / "zarr.json"
    document.write_text(document.read_text().replace('"fill_value": 0', '"fill_value": 7'))
    for encoding in LOCAL:
        with pytest.raises(LarvikError) as caught:
            read(client, source, whole, encoding)
        assert caught.value.reason == "SOURCE_CHANGED", encoding


def test_chunks_with_a_codec_that_the_client_lacks_are_decoded_by_the_server(client, folder):
    pixels = random_array((2, 9, 9), "uint16")
    chain = CHAINS["checksum"]()
    options = {"chunks": (1, 9, 9), "filters": None, "serializer": chain[0], "compressors": chain[1:]}
    row = import_file(
        write_image(folder / "rare.ome.zarr", pixels, **options), in_place=True, connection=client
    )[0]
    (source,) = sources(row)
    whole = tuple(slice(0, size) for size in pixels.shape)
    with zarr.config.set({"codecs.crc32c": "a_package.that_is.not_here"}):
        check(client, source, pixels, whole, ("auto", "dense"))
        for encoding in ("chunks", "store"):
            with pytest.raises(InvalidArgumentError, match="codec") as caught:
                read(client, source, whole, encoding)
            assert caught.value.reason == "ENCODING_UNSUPPORTED"


@pytest.mark.parametrize("encoding", ["auto", "chunks"])
def test_a_level_is_a_zarr_store_over_the_network(client, folder, encoding):
    pixels = random_array((2, 3, 90, 70), "uint16")
    path = write_ome_zarr(folder / f"as-store-{encoding}.ome.zarr", pixels, "czyx")
    row = import_file(path, in_place=True, connection=client)[0]
    with larvik.set_options(encoding=encoding):
        group = zarr.open_group(client.store(row), mode="r")
        np.testing.assert_array_equal(group["0"][...], pixels)


# Tickets.


def offered(connection: RemoteConnection, source: Source, encoding: str) -> Any:
    return connection._flight.offer(command_of(source, [NAMED[encoding]]))


def altered(ticket: bytes, change: Mapping[str, Any]) -> bytes:
    """Return a ticket with other fields and the old signature."""
    signed = flight_pb2.SignedTicket.FromString(ticket)
    body = flight_pb2.TicketBody.FromString(signed.body)
    for name, value in change.items():
        setattr(body, name, value)
    signed.body = body.SerializeToString()
    return signed.SerializeToString()


def redeemed(server: LarvikServer, token: str, ticket: bytes) -> LarvikError:
    options = flight.FlightCallOptions(timeout=20, headers=[(b"authorization", f"Bearer {token}".encode())])
    with flight.FlightClient(server.flight_url) as stock, pytest.raises(Exception) as caught:  # noqa: PT011
        stock.do_get(flight.Ticket(ticket), options).read_all()
    return decode_flight(caught.value)


def asked(name: str, *requests: flight_pb2.ObjectsRequest) -> list[tuple[flight_pb2.ObjectsReply, int]]:
    """Send requests to a socket; return each answer and the number of descriptors that came with it."""
    found = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(f"\0{name}")
        for request in requests:
            send(connection, request)
            answer = receive(connection, flight_pb2.ObjectsReply)
            assert answer is not None
            reply, descriptors = answer
            for descriptor in descriptors:
                os.close(descriptor)
            found.append((reply, len(descriptors)))
    return found


def refused(name: str, **fields: Any) -> LarvikError:
    """Send one request that is refused; return its error."""
    request = flight_pb2.ObjectsRequest(**fields)
    request.objects.add(shard=[0] * 5)
    ((reply, descriptors),) = asked(name, request)
    assert descriptors == 0
    error = decode_details(reply.status)
    assert error is not None
    return error


def test_a_ticket_is_bound_to_its_encoding_subject_and_content(near, client, big):
    source = sources(big[0])[0]
    chunks = offered(client, source, "chunks").ticket.ticket
    store = offered(client, source, "store").ticket.ticket
    assert redeemed(near, near.token, store).reason == "ENCODING_UNSUPPORTED"
    assert redeemed(near, near.reader_token, chunks).reason == "TICKET_FOREIGN"
    changed = altered(chunks, {"encoding": flight_pb2.ENCODING_DENSE})
    assert redeemed(near, near.token, changed).reason == "TICKET_INVALID"
    changed = altered(store, {"encoding": flight_pb2.ENCODING_CHUNKS})
    assert redeemed(near, near.token, changed).reason == "TICKET_INVALID"


def test_the_socket_gives_nothing_without_token_and_ticket(near, client, big):
    source = sources(big[0])[0]
    offer = offered(client, source, "store")
    name, ticket = offer.plan.socket, offer.ticket.ticket
    chunks = offered(client, source, "chunks").ticket.ticket
    dense = offered(client, source, "dense").ticket.ticket
    assert isinstance(refused(name), UnauthenticatedError)
    assert isinstance(refused(name, ticket=ticket), UnauthenticatedError)
    assert isinstance(refused(name, token="lvk_unknown", ticket=ticket), UnauthenticatedError)
    assert refused(name, token=near.token).reason == "TICKET_INVALID"
    assert refused(name, token=near.token, ticket=ticket[:-1]).reason == "TICKET_INVALID"
    assert refused(name, token=near.token, ticket=altered(ticket, {"key_id": "x"})).reason == "TICKET_INVALID"
    assert refused(name, token=near.reader_token, ticket=ticket).reason == "TICKET_FOREIGN"
    for other in (chunks, dense):
        assert isinstance(refused(name, token=near.token, ticket=other), PermissionDeniedError)


def test_a_ticket_of_the_socket_gives_the_objects_of_its_selection_alone(near, client, big):
    row, pixels = big
    source = sources(row)[0]
    shards = ArraySpec.from_dict(row.spec).levels[0].shards
    part = tuple(range(0, min(shard, size)) for shard, size in zip(shards, pixels.shape, strict=True))
    command = command_of(record("select", [source], {"selection": part}), [flight_pb2.ENCODING_STORE])
    offer = client._flight.offer(command)
    first = flight_pb2.ObjectsRequest(token=near.token, ticket=offer.ticket.ticket)
    first.objects.add(shard=[0] * 5)
    outside = flight_pb2.ObjectsRequest()
    outside.objects.add(shard=[1, 0, 0, 0, 0])
    short, none = flight_pb2.ObjectsRequest(), flight_pb2.ObjectsRequest()
    short.objects.add(shard=[0])
    answers = asked(offer.plan.socket, first, outside, short, none)
    assert [count for _, count in answers] == [1, 0, 0, 0]
    errors = [decode_details(reply.status) if reply.status else None for reply, _ in answers]
    assert errors[0] is None
    assert isinstance(errors[1], SelectionError)
    assert isinstance(errors[2], SelectionError)
    assert errors[3] is None


def test_a_descriptor_can_only_be_read(client, big):
    near = client.arrays.evaluator._routes.near
    source = sources(big[0])[0]
    assert near.reader(source, tuple(slice(0, size) for size in source.shape)) is not None
    found = [one for one in near._descriptors._kept.values() if one is not None]
    assert found
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(found[0].number, b"x")


def test_a_link_out_of_the_store_is_not_followed(near, client, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"of the host")
    pixels = random_array((1, 1, 1, 300, 300), "uint16")
    row = Representation.objects.using(client).from_xarray(image(pixels), name="linked")
    shard = next(path for path in (near.folder / row.location / "0" / "c").rglob("*") if path.is_file())
    shard.unlink()
    shard.symlink_to(secret)
    offer = offered(client, sources(row)[0], "store")
    error = refused(offer.plan.socket, token=near.token, ticket=offer.ticket.ticket)
    assert error.reason == "KEY_INVALID"
    assert "secret" not in error.message


def test_tickets_expire_and_a_read_asks_for_another(tmp_path):
    with (
        larvik_server(tmp_path, environment={"LARVIK_TICKET_SECONDS": "5"}) as running,
        connect(running.url, running.token) as opened,
    ):
        pixels = random_array((1, 1, 2, 300, 300), "uint16")
        row = Representation.objects.using(opened).from_xarray(image(pixels), name="x")
        source = sources(row)[0]
        whole = tuple(slice(0, size) for size in pixels.shape)
        check(opened, source, pixels, whole, LOCAL)
        offer = offered(opened, source, "store")
        chunks = offered(opened, source, "chunks").ticket.ticket
        time.sleep(5.2)
        assert redeemed(running, running.token, chunks).reason == "TICKET_EXPIRED"
        error = refused(offer.plan.socket, token=running.token, ticket=offer.ticket.ticket)
        assert error.reason == "TICKET_EXPIRED"
        check(opened, source, pixels, whole, LOCAL)


def test_no_place_of_the_host_is_on_the_wire(near, client, folder, big):
    pixels = random_array((1, 3, 90, 70), "uint16")
    path = write_ome_zarr(folder / "placed.ome.zarr", pixels, "czyx", attributes={"author": "somebody"})
    row = import_file(path, in_place=True, connection=client)[0]
    for found in (big[0], row):
        source = sources(found)[0]
        for encoding in ("store", "chunks", "dense"):
            offer = offered(client, source, encoding)
            sent = offer.plan.SerializeToString() + offer.ticket.ticket
            for place in (near.folder, folder):
                assert str(place).encode() not in sent
            assert b"somebody" not in sent
        plan = offered(client, source, "store").plan.SerializeToString()
        assert row.location.encode() not in plan
        assert b".ome.zarr" not in plan


def test_the_switch_for_descriptors_is_obeyed(tmp_path):
    with (
        larvik_server(tmp_path, environment={"LARVIK_HANDOUT__DESCRIPTORS": "false"}) as running,
        connect(running.url, running.token) as opened,
    ):
        pixels = random_array((1, 1, 2, 300, 300), "uint16")
        row = Representation.objects.using(opened).from_xarray(image(pixels), name="x")
        whole = tuple(slice(0, size) for size in pixels.shape)
        check(opened, sources(row)[0], pixels, whole, ("auto", "chunks", "dense"))
        with pytest.raises(InvalidArgumentError, match="not handed out"):
            read(opened, sources(row)[0], whole, "store")
