"""Commands of reads, as this client asks them."""

from __future__ import annotations

from collections.abc import Iterable

from larvik.array.expression import Expression
from larvik.proto.v1 import flight_pb2
from larvik.wire.expressions import encode_expressions

#: What this client decodes.
CODECS = ("blosc", "zstd", "gzip", "none", "zarr")


def command_of(
    expression: Expression, accepted: Iterable[flight_pb2.Encoding.ValueType]
) -> flight_pb2.FlightCommand:
    """Return the command that reads an expression in one of the accepted encodings."""
    command = flight_pb2.FlightCommand()
    command.array_read.expression.CopyFrom(encode_expressions([expression]))
    command.array_read.accept_encodings.extend(accepted)
    command.array_read.codecs.extend(CODECS)
    return command
