"""`ArraySpec` as a message, both ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from larvik.array.spec import DTYPES, ArraySpec, Axis, Level
from larvik.errors import InvalidArgumentError
from larvik.proto.v1 import array_pb2
from larvik.wire.values import check_name

#: Most dims, levels and elements along one dim of an array.
MAX_DIMS = 32
MAX_LEVELS = 64
MAX_LENGTH = 2**53


def encode_spec(spec: ArraySpec) -> array_pb2.ArraySpec:
    """Return the message of a spec."""
    message = array_pb2.ArraySpec(dtype=spec.dtype, channel_names=spec.channel_names, format=spec.format)
    for axis in spec.axes:
        message.axes.add(name=axis.name, type=axis.type, unit=axis.unit)
    for level in spec.levels:
        message.levels.add(
            path=level.path,
            shape=level.shape,
            chunks=level.chunks,
            shards=level.shards,
            spacing=level.spacing,
            origin=level.origin,
        )
    for dim, values in spec.coordinates.items():
        _write_coordinate(message.coordinates[dim], values, f"spec.coordinates[{dim!r}]")
    return message


def _write_coordinate(message: array_pb2.Coordinate, values: Sequence[Any], field: str) -> None:
    try:
        if all(isinstance(value, str) for value in values):
            message.string_values.values.extend(values)
        elif any(isinstance(value, float) for value in values):
            message.float64_values.values.extend(map(float, values))
        else:
            message.int64_values.values.extend(values)
    except (TypeError, ValueError):
        raise _refused("holds neither numbers nor labels", field) from None


def decode_spec(message: array_pb2.ArraySpec) -> ArraySpec:
    """Return the spec of a message.

    Raises
    ------
    InvalidArgumentError
        ``SPEC_INVALID``: no level, an unknown dtype, lengths that are not one per dim, a spacing that is not
        finite; names the field.
    """
    rank = len(message.axes)
    if rank > MAX_DIMS:
        raise _refused(f"has {rank} dims; at most {MAX_DIMS} fit", "spec.axes")
    if message.dtype not in DTYPES:
        raise InvalidArgumentError(
            f"spec.dtype is {message.dtype[:80]!r}. There are: {', '.join(DTYPES)}.",
            reason="DTYPE_UNSUPPORTED",
            field="spec.dtype",
        )
    if not 1 <= len(message.levels) <= MAX_LEVELS:
        raise _refused(f"has {len(message.levels)} levels; it takes 1 to {MAX_LEVELS}", "spec.levels")
    return ArraySpec(
        axes=tuple(
            Axis(
                check_name(axis.name, field="spec.axes"),
                axis.type[:40],
                axis.unit if axis.HasField("unit") else None,
            )
            for axis in message.axes
        ),
        dtype=message.dtype,
        levels=tuple(
            _decode_level(level, rank, f"spec.levels[{number}]")
            for number, level in enumerate(message.levels)
        ),
        coordinates={
            check_name(dim, field="spec.coordinates"): _decode_coordinate(
                values, f"spec.coordinates[{dim!r}]"
            )
            for dim, values in message.coordinates.items()
        },
        channel_names=tuple(message.channel_names),
        format=message.format[:40] or "ome-zarr",
    )


def _decode_level(message: array_pb2.Level, rank: int, field: str) -> Level:
    return Level(
        path=message.path[:200],
        shape=_lengths(message.shape, rank, f"{field}.shape"),
        chunks=_lengths(message.chunks, rank, f"{field}.chunks"),
        shards=_lengths(message.shards, rank, f"{field}.shards"),
        spacing=_numbers(message.spacing, rank, f"{field}.spacing"),
        origin=_numbers(message.origin, rank, f"{field}.origin"),
    )


def _lengths(values: Sequence[int], rank: int, field: str) -> tuple[int, ...]:
    if len(values) != rank or any(value > MAX_LENGTH for value in values):
        raise _refused(f"takes {rank} lengths, one for each dim", field)
    return tuple(values)


def _numbers(values: Sequence[float], rank: int, field: str) -> tuple[float, ...]:
    if len(values) != rank or not all(map(math.isfinite, values)):
        raise _refused(f"takes {rank} finite numbers, one for each dim", field)
    return tuple(values)


def _decode_coordinate(message: array_pb2.Coordinate, field: str) -> tuple[Any, ...]:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise _refused("is empty: it takes float64_values, int64_values or string_values", field)
    return tuple(getattr(message, kind).values)


def _refused(problem: str, field: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field} {problem}.", reason="SPEC_INVALID", field=field)
