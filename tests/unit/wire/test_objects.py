"""Messages and descriptors over a unix socket: they arrive together, and nothing leaks when they do not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from larvik.proto.v1 import flight_pb2
from larvik.wire.objects import MAX_MESSAGE, MAX_OBJECTS, BrokenSocketError, close, receive, send

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with here, there:
        here.settimeout(10)
        there.settimeout(10)
        yield here, there


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_messages_and_descriptors_arrive_together(pair, tmp_path):
    path = tmp_path / "object"
    path.write_bytes(b"pixels")
    opened = [os.open(path, os.O_RDONLY) for _ in range(MAX_OBJECTS)]
    reply = flight_pb2.ObjectsReply(stored=[True] * MAX_OBJECTS)
    send(pair[0], reply, opened)
    send(pair[0], flight_pb2.ObjectsReply())
    close(opened)
    message, received = receive(pair[1], flight_pb2.ObjectsReply)
    assert message == reply
    assert [os.pread(number, 9, 0) for number in received] == [b"pixels"] * MAX_OBJECTS
    assert not any(os.get_inheritable(number) for number in received)
    close(received)
    assert receive(pair[1], flight_pb2.ObjectsReply) == (flight_pb2.ObjectsReply(), [])
    pair[0].close()
    assert receive(pair[1], flight_pb2.ObjectsReply) is None


@pytest.mark.parametrize(
    "data",
    [b"\x01", b"\x05\x00\x00\x00ab", (MAX_MESSAGE + 1).to_bytes(4, "little"), b"\x02\x00\x00\x00\xff\xff"],
    ids=["half a length", "half a message", "too long", "no message"],
)
def test_what_is_no_message_is_refused_and_its_descriptors_are_closed(pair, tmp_path, data):
    path: Path = tmp_path / "object"
    path.touch()
    before = descriptors()
    with path.open() as file:
        socket.send_fds(pair[0], [data], [file.fileno()] * 3)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenSocketError):
        receive(pair[1], flight_pb2.ObjectsReply)
    assert descriptors() == before


def test_a_silent_end_is_not_waited_for_beyond_the_time_of_the_socket(pair):
    pair[1].settimeout(0.05)
    with pytest.raises(BrokenSocketError):
        receive(pair[1], flight_pb2.ObjectsReply)
    pair[1].close()
    with pytest.raises(BrokenSocketError):
        send(pair[0], flight_pb2.ObjectsReply(status=b"x" * 100))
