"""Specs of arrays come back as they were; malformed ones are refused by field."""

from __future__ import annotations

import math

import pytest

from larvik.array.spec import ArraySpec, Axis, Level
from larvik.errors import InvalidArgumentError
from larvik.proto.v1 import array_pb2
from larvik.wire.specs import decode_spec, encode_spec


def spec() -> ArraySpec:
    return ArraySpec(
        axes=(Axis("t", "time", "second"), Axis("c", "channel"), Axis("x", "space", "micrometer")),
        dtype="uint16",
        levels=(
            Level("0", (2, 2, 8), (1, 1, 4), (1, 1, 8), (1.0, 1.0, 0.25), (0.0, 0.0, 0.0)),
            Level("1", (2, 2, 4), (1, 1, 4), (1, 1, 4), (1.0, 1.0, 0.5), (0.0, 0.0, 0.125)),
        ),
        coordinates={"t": (0.0, 1.5), "lambda": (1, 2), "label": ("a", "b")},
        channel_names=("DAPI", "GFP"),
    )


def test_a_spec_comes_back_as_it_was():
    assert decode_spec(array_pb2.ArraySpec.FromString(encode_spec(spec()).SerializeToString())) == spec()


def change(**fields: object) -> array_pb2.ArraySpec:
    message = encode_spec(spec())
    for name, value in fields.items():
        target = message.levels[0] if name in ("shape", "spacing", "chunks") else message
        if isinstance(value, list):
            del getattr(target, name)[:]
            getattr(target, name).extend(value)
        else:
            setattr(target, name, value)
    return message


@pytest.mark.parametrize(
    "message",
    [
        array_pb2.ArraySpec(),
        change(dtype="object"),
        change(levels=[]),
        change(shape=[1, 2]),
        change(shape=[2**60, 1, 1]),
        change(spacing=[1.0, 1.0, math.nan]),
        change(chunks=[]),
        array_pb2.ArraySpec(dtype="uint8", axes=[array_pb2.Axis(name="a")] * 40),
    ],
)
def test_a_hostile_spec_is_refused_by_field(message):
    with pytest.raises(InvalidArgumentError) as caught:
        decode_spec(message)
    assert caught.value.metadata["field"].startswith("spec")
