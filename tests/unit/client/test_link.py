"""What a connection learns of its link."""

from __future__ import annotations

import pytest

from larvik_client.link import Link


def test_nothing_is_known_before_the_first_transfer() -> None:
    link = Link()
    assert (link.bandwidth, link.latency_s, link.server_rate) == (None, None, None)


def test_small_transfers_tell_the_latency_and_large_ones_the_bandwidth() -> None:
    link = Link()
    link.observe(0, 0.05)
    link.observe(10_000_000, 1.0)
    link.observe_server(100_000_000, 0.5)
    assert link.latency_s == pytest.approx(0.05)
    assert link.bandwidth == pytest.approx(10e6)
    assert link.server_rate == pytest.approx(200e6)


def test_newer_transfers_count_more_and_one_outlier_does_not_decide() -> None:
    link = Link()
    for _ in range(10):
        link.observe(10_000_000, 1.0)
    link.observe(10_000_000, 0.01)
    assert link.bandwidth is not None
    assert link.bandwidth < 400e6
    for _ in range(20):
        link.observe(1_000_000, 1.0)
    assert link.bandwidth == pytest.approx(1e6, rel=0.5)


def test_a_transfer_that_took_no_time_tells_nothing() -> None:
    link = Link()
    link.observe(10_000_000, 0.0)
    assert link.bandwidth is None
