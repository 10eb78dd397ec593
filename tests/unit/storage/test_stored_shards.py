"""Which shards of coarser levels can be built, and what a shard has a part in."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from larvik.array.spec import ArraySpec, Level, default_axis
from larvik.storage.stored_shards import Pyramid, Shard, StoredShards


@st.composite
def pyramids(draw) -> Pyramid:
    shape = tuple(draw(st.integers(1, 30)) for _ in "zyx")
    levels = []
    for number in range(draw(st.integers(1, 3))):
        shards = tuple(draw(st.integers(1, 12)) for _ in shape)
        levels.append(Level(str(number), shape, (1, 1, 1), shards, (1.0,) * 3, (0.0,) * 3))
        shape = (shape[0], -(-shape[1] // 2), -(-shape[2] // 2))
    return Pyramid(ArraySpec(tuple(default_axis(dim) for dim in "zyx"), "uint8", tuple(levels)))


def shards_of(pyramid: Pyramid, level: int) -> list[Shard]:
    return [Shard(level, index) for index in product(*map(range, pyramid.grids[level].shard_counts))]


@given(pyramids())
def test_sources_are_the_shards_that_hold_the_pixels(pyramid):
    for level in range(1, len(pyramid.grids)):
        grid, finer = pyramid.grids[level], pyramid.grids[level - 1]
        made = {shard: set() for shard in shards_of(pyramid, level - 1)}
        for shard in shards_of(pyramid, level):
            needed = set()
            begin = [i * n for i, n in zip(shard.index, grid.shards, strict=True)]
            ends = zip(begin, grid.shards, grid.shape, strict=True)
            for z, y, x in product(*(range(a, min(a + n, size)) for a, n, size in ends)):
                for dy, dx in product((0, 1), (0, 1)):
                    pixel = (z, min(2 * y + dy, finer.shape[1] - 1), min(2 * x + dx, finer.shape[2] - 1))
                    index = tuple(p // n for p, n in zip(pixel, finer.shards, strict=True))
                    needed.add(Shard(level - 1, index))
            assert set(pyramid.sources(shard)) == needed
            for source in needed:
                made[source].add(shard)
        assert {shard: set(pyramid.made_from(shard)) for shard in made} == made


@given(pyramids(), st.randoms(use_true_random=False))
def test_every_shard_is_ready_once_when_its_sources_are_stored(pyramid, random):
    stored = StoredShards(pyramid, [()] * len(pyramid.grids))
    waiting = shards_of(pyramid, 0)
    random.shuffle(waiting)
    built: list[Shard] = []
    while waiting:
        shard = waiting.pop()
        for ready in stored.add(shard):
            assert ready not in built
            assert ready not in waiting
            waiting.insert(random.randint(0, len(waiting)), ready)
        built.append(shard)
    assert len(built) == sum(len(shards_of(pyramid, level)) for level in range(len(pyramid.grids)))


@given(pyramids(), st.data())
def test_what_an_earlier_process_left_is_ready_with_the_first_shard(pyramid, data):
    first = data.draw(st.sampled_from(shards_of(pyramid, 0)))
    grid = pyramid.grids[0]
    others = [
        number for number in range(int(np.prod(grid.shard_counts))) if grid.shard_at(number) != first.index
    ]
    stored = StoredShards(pyramid, [others] + [()] * (len(pyramid.grids) - 1))
    expected = set(shards_of(pyramid, 1)) if len(pyramid.grids) > 1 else set()
    assert set(stored.add(first)) == expected
    assert set(stored.add(first)) == set(pyramid.made_from(first))
    assert set(pyramid.descendants(first)) >= set(pyramid.made_from(first))
