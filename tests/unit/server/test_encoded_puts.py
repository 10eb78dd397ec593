"""Chunks of an upload stream become whole shards, or are refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from larvik.errors import InvalidArgumentError
from larvik.services.shards import EncodedChunk
from larvik.storage.codecs import INTENSITY_CODEC
from larvik.storage.encoded import ChunkEncoding, ChunkGrid
from larvik_server.flight.encoded_puts import ShardAssembler


def encoding(shape=(10, 10), chunks=(2, 3), shards=(4, 6)) -> ChunkEncoding:
    return ChunkEncoding(ChunkGrid(shape, chunks, shards), np.dtype("uint8"), INTENSITY_CODEC)


def chunk(*index: int, size: int = 16) -> EncodedChunk:
    return EncodedChunk(index, bytes(size), 0)


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3),
    st.data(),
)
def test_shards_arrive_whole_in_any_order_of_their_chunks(dims, data):
    chunks = tuple(c for _, c, _ in dims)
    one = encoding(tuple(n for n, _, _ in dims), chunks, tuple(c * k for _, c, k in dims))
    assembler = ShardAssembler(one)
    shards = data.draw(st.permutations(list(product(*map(range, one.grid.shard_counts)))))
    for shard in shards:
        parts = data.draw(st.permutations([index for index, _ in one.grid.chunks_of(shard)]))
        answers = [assembler.add(chunk(*index)) for index in parts]
        assert answers[:-1] == [None] * (len(parts) - 1)
        assert [part.index for part in answers[-1]] == parts
    assembler.finish()


@given(st.lists(st.tuples(st.integers(-2, 6), st.integers(-2, 5)), max_size=40))
def test_any_order_of_chunks_is_refused_or_makes_whole_shards(indices):
    assembler = ShardAssembler(encoding())
    grid = encoding().grid
    try:
        for index in indices:
            whole = assembler.add(chunk(*index))
            if whole is not None:
                found = {part.index for part in whole}
                (shard,) = {grid.shard_of(part) for part in found}
                assert found == {index for index, _ in grid.chunks_of(shard)}
        assembler.finish()
    except InvalidArgumentError:
        pass  # what it names is tested below


@pytest.mark.parametrize(
    ("second", "field"),
    [(chunk(0, 0), "chunk"), (chunk(2, 0), "chunk"), (chunk(0, 1, size=23), "data"), (chunk(0), "chunk")],
)
def test_the_refusal_names_field_and_chunk(second, field):
    assembler = ShardAssembler(encoding())
    assembler.add(chunk(0, 0))
    with pytest.raises(InvalidArgumentError) as caught:
        assembler.add(second)
    assert caught.value.metadata == {"field": field, "chunk": ",".join(map(str, second.index))}


def test_an_unfinished_shard_is_refused():
    assembler = ShardAssembler(encoding())
    assembler.add(chunk(0, 0))
    with pytest.raises(InvalidArgumentError, match="1 of its 4 chunks"):
        assembler.finish()
