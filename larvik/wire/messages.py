"""Bytes to messages: parsing that refuses what is malformed with an error of ours."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from larvik.errors import InvalidArgumentError

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes, *, field: str) -> M:
    """Return the message of type `kind` that `data` holds.

    Raises
    ------
    InvalidArgumentError
        ``MESSAGE_MALFORMED``; names `field`, where the bytes came from.
    """
    try:
        return kind.FromString(data)
    except (DecodeError, RecursionError):
        raise InvalidArgumentError(
            f"{field} does not hold a larvik.proto.v1.{kind.DESCRIPTOR.name} message.",
            reason="MESSAGE_MALFORMED",
            field=field,
        ) from None
