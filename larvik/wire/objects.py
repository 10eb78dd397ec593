"""Messages and descriptors over the unix socket of the encoding `store`: ObjectsRequest and ObjectsReply."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)

#: Most objects of one request, and so most descriptors of one message; the kernel takes 253.
MAX_OBJECTS = 64
#: Longest message, in bytes; a ticket holds the coordinates of its array.
MAX_MESSAGE = 4 << 20

_PREFIX = 4
_READ = 64 << 10
#: Room for the descriptors of a message; 16 bytes are those of their header.
_CONTROL_BYTES = 16 + 4 * MAX_OBJECTS


class BrokenSocketError(Exception):
    """The other end is gone, or does not speak this protocol."""


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message, and descriptors with its first byte; they stay open here.

    Raises
    ------
    BrokenSocketError
        When it cannot be sent, or not in the time that the socket allows.
    """
    data = message.SerializeToString()
    frame = len(data).to_bytes(_PREFIX, "little") + data
    try:
        if descriptors:
            sent = socket.send_fds(connection, [frame], list(descriptors))
            frame = frame[sent:]
        connection.sendall(frame)
    except OSError as error:
        raise BrokenSocketError(str(error)) from error


def receive(connection: socket.socket, kind: type[M]) -> tuple[M, list[int]] | None:
    """Return the next message and the descriptors that came with it, which the caller closes.

    Returns None when the other end has closed.

    Raises
    ------
    BrokenSocketError
        For what is no message, or did not come in the time that the socket allows.
    """
    descriptors: list[int] = []
    try:
        prefix = _receive(connection, _PREFIX, descriptors)
        if not prefix:
            return None
        length = int.from_bytes(prefix, "little")
        if len(prefix) < _PREFIX or length > MAX_MESSAGE:
            raise BrokenSocketError("not a message of this protocol")
        data = _receive(connection, length, descriptors)
        if len(data) < length:
            raise BrokenSocketError("the message is cut")
        return kind.FromString(data), descriptors
    except BaseException as error:
        close(descriptors)
        if isinstance(error, OSError | DecodeError):
            raise BrokenSocketError(str(error)) from error
        raise


def close(descriptors: Sequence[int]) -> None:
    """Close descriptors that nobody wants."""
    for descriptor in descriptors:
        os.close(descriptor)


def _receive(connection: socket.socket, length: int, descriptors: list[int]) -> bytes:
    """Return so many bytes, fewer where the stream ends; take in the descriptors that come with them."""
    parts: list[bytes] = []
    while length > 0:
        # Not socket.recv_fds: it does not pass the flag on, and programs that are started would inherit them.
        data, control, flags, _ = connection.recvmsg(
            min(length, _READ), _CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, content in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors += struct.unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4])
        if flags & socket.MSG_CTRUNC:
            raise BrokenSocketError("descriptors were lost on the way")
        if not data:
            break
        parts.append(data)
        length -= len(data)
    return b"".join(parts)
