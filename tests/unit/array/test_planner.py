"""The planner compares bytes, and tells which."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from larvik.array.expression import Constant, Expression, Source
from larvik.array.options import options, set_options
from larvik.array.planner import plan
from larvik.array.record import record
from larvik.errors import InvalidArgumentError

STACK = Source("0190b5a2-7d1c-7000-8000-000000000001", 1, 0, (64, 1000, 1000), "uint16", (8, 256, 256))


def select(*selection: Any) -> Expression:
    return record("select", [STACK], {"selection": selection})


def project(node: Expression) -> Expression:
    return record("max", [node], {"axes": (0,), "keepdims": False})


def test_a_projection_is_pushed_down_and_a_plain_read_is_fetched() -> None:
    pushed = plan(project(STACK), remote=True)
    assert pushed.where == "server"
    assert pushed.bytes_result == pushed.bytes_moved == 2_000_000
    assert pushed.bytes_source == STACK.nbytes
    assert pushed.chunks == 8 * 4 * 4
    fetched = plan(select(0, range(1000), range(1000)), remote=True)
    assert fetched.where == "client"
    assert fetched.bytes_moved == 2_000_000
    assert fetched.bytes_source == 8 * 2_000_000
    assert fetched.chunks == 16


def test_what_grows_is_fetched_first_and_grown_here() -> None:
    wide = record("astype", [STACK], {"dtype": "float64"})
    found = plan(wide, remote=True)
    assert found.where == "client"
    assert found.bytes_moved == STACK.nbytes


def test_large_constants_count_as_bytes_to_send() -> None:
    mask = Constant(np.ones((64, 1000, 1000)))
    node = project(record("multiply", [STACK, mask]))
    assert plan(node, remote=True).where == "client"
    assert plan(project(record("multiply", [STACK, Constant(2)])), remote=True).where == "server"


@pytest.mark.parametrize(
    ("node", "chunks", "source_bytes"),
    [
        (select(0, 0, 0), 1, 8 * 256 * 256 * 2),
        (select(63, 999, 999), 1, 8 * 232 * 232 * 2),
        (select(range(64), 0, 0), 8, 64 * 256 * 256 * 2),
        (select(np.array([0, 63]), 0, 0), 2, 16 * 256 * 256 * 2),
        (select(range(0, 64, 16), 0, 0), 4, 32 * 256 * 256 * 2),
        (select(range(0), range(1000), range(1000)), 0, 0),
    ],
)
def test_only_touched_chunks_count(node: Expression, chunks: int, source_bytes: int) -> None:
    found = plan(node, remote=True)
    assert (found.chunks, found.bytes_source) == (chunks, source_bytes)


def test_what_is_shared_counts_once() -> None:
    both = plan([project(STACK), record("min", [STACK], {"axes": (0,), "keepdims": False})], remote=True)
    assert both.chunks == 8 * 4 * 4
    assert both.bytes_result == 4_000_000


def test_arrays_of_this_process_are_computed_in_it() -> None:
    found = plan(project(STACK), remote=False)
    assert (found.where, found.bytes_moved) == ("client", 0)
    assert plan(project(STACK), remote=False, where="server").where == "client"


@pytest.mark.parametrize("place", ["client", "server", "dask"])
def test_options_override_the_planner(place: str) -> None:
    with set_options(evaluate=place):
        assert plan(project(STACK), remote=True).where == place
    assert plan(project(STACK), remote=True).where == "server"
    assert options().evaluate == "auto"


def test_a_plan_explains_itself() -> None:
    text = str(plan(project(STACK), remote=True))
    assert text.startswith("server: Sending the expression moves 1.9 MiB")
    assert "128 stored chunks" in text


def test_an_unknown_place_suggests_the_nearest() -> None:
    with pytest.raises(InvalidArgumentError, match="Did you mean 'server'"):
        set_options(evaluate="sever")


def test_options_hold_for_the_program_or_for_one_block_of_one_thread() -> None:
    seen = []
    set_options(evaluate="client")
    try:
        with set_options(evaluate="server"):
            thread = threading.Thread(target=lambda: seen.append(options().evaluate))
            thread.start()
            thread.join()
            assert options().evaluate == "server"
        assert options().evaluate == "client"
    finally:
        set_options(evaluate="auto")
    assert seen == ["client"]


def test_planning_a_large_array_is_quick() -> None:
    large = Source(STACK.array_id, 1, 0, (100, 4, 2000, 20_000, 20_000), "uint16", (1, 1, 1, 512, 512))
    found = plan(record("max", [large], {"axes": (2,), "keepdims": False}), remote=True)
    assert found.chunks == 100 * 4 * 2000 * 40 * 40


@dataclass(frozen=True)
class Measured:
    """A link as a connection measured it."""

    bandwidth: float | None
    latency_s: float | None = 0.001
    server_rate: float | None = None


def test_a_measured_link_says_how_long_each_place_takes() -> None:
    node = project(STACK)
    slow = plan(node, remote=True, link=Measured(12.5e6, 0.05))
    assert slow.where == "server"
    assert slow.seconds["client"] > 10 > slow.seconds["server"]
    assert "link" in slow.why


def test_a_fast_link_to_a_slow_server_is_better_fetched_over() -> None:
    node = project(STACK)
    assert plan(node, remote=True, link=Measured(3e9, 0.0001, 50e6)).where == "client"
    assert plan(node, remote=True, link=Measured(3e9, 0.0001, 500e6)).where == "server"
    assert plan(node, remote=True, link=Measured(12.5e6, 0.05, 50e6)).where == "server"


def test_a_link_that_was_not_measured_leaves_it_to_the_bytes() -> None:
    node = project(STACK)
    assert plan(node, remote=True, link=Measured(None, None)).why == plan(node, remote=True).why


def test_a_result_as_large_as_its_source_is_fetched_over_any_link() -> None:
    node = record("negative", [STACK])
    for bandwidth in (1e6, 1e9):
        assert plan(node, remote=True, link=Measured(bandwidth)).where == "client"
