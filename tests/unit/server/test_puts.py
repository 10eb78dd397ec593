"""Boxes of an upload stream become whole blocks, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.array.spec import ArraySpec, Axis, Level
from larvik.errors import InvalidArgumentError
from larvik.wire.boxes import decode_boxes, encode_block
from larvik.wire.tensors import Box
from larvik_server.flight.puts import BlockAssembler


def spec(shape: tuple[int, ...], shards: tuple[int, ...]) -> ArraySpec:
    ones = (1.0,) * len(shape)
    axes = tuple(Axis(name, "other") for name in "abcd"[: len(shape)])
    return ArraySpec(axes, "uint16", (Level("0", shape, shards, shards, ones, ones),))


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=3))
def test_the_blocks_of_an_array_arrive_whole(lengths):
    shape, shards = tuple(n for n, _ in lengths), tuple(k for _, k in lengths)
    pixels = np.arange(np.prod(shape), dtype="uint16").reshape(shape)
    assembler = BlockAssembler(spec(shape, shards))
    result = np.zeros_like(pixels)
    for index in np.ndindex(*(-(-n // k) for n, k in lengths)):
        start = tuple(i * k for i, k in zip(index, shards, strict=True))
        block = pixels[tuple(slice(a, a + k) for a, k in zip(start, shards, strict=True))]
        done = [
            found
            for batch in encode_block(start, block)
            for box, part in decode_boxes(batch, assembler.dtype)
            if (found := assembler.add(box, part)) is not None
        ]
        ((position, whole),) = done
        result[tuple(slice(a, a + n) for a, n in zip(position, whole.shape, strict=True))] = whole
    assembler.finish()
    assert (result == pixels).all()


def test_a_block_may_come_in_pieces():
    assembler = BlockAssembler(spec((4, 4), (4, 4)))
    top, bottom = np.ones((2, 4), "uint16"), np.full((2, 4), 2, "uint16")
    assert assembler.add(Box((0, 0), (2, 4)), top) is None
    start, block = assembler.add(Box((2, 0), (2, 4)), bottom)
    assert start == (0, 0)
    assert (block == np.concatenate([top, bottom])).all()


@pytest.mark.parametrize(
    "box",
    [Box((0,), (1,)), Box((0, 0), (0, 4)), Box((0, 3), (1, 2)), Box((4, 0), (1, 1)), Box((2**62, 0), (1, 1))],
)
def test_a_box_that_fits_no_block_is_refused(box):
    with pytest.raises(InvalidArgumentError) as caught:
        BlockAssembler(spec((4, 4), (2, 4))).add(box, np.zeros(box.shape, "uint16"))
    assert caught.value.reason == "BLOCK_INVALID"


def test_a_block_that_is_left_unfinished_is_refused():
    assembler = BlockAssembler(spec((4, 4), (2, 4)))
    assembler.add(Box((0, 0), (1, 4)), np.zeros((1, 4), "uint16"))
    with pytest.raises(InvalidArgumentError):
        assembler.add(Box((2, 0), (2, 4)), np.zeros((2, 4), "uint16"))
    with pytest.raises(InvalidArgumentError):
        assembler.finish()
