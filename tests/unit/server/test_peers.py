"""Callers of this host are told from others by what gRPC calls them."""

from __future__ import annotations

import pytest

from larvik_server.flight.peers import is_near


@pytest.mark.parametrize(
    "peer", ["ipv4:127.0.0.1:5", "ipv6:%5B::1%5D:5", "ipv6:[::1]:5", "unix:", "ipv6:[::ffff:127.0.0.1]:5"]
)
def test_a_caller_of_this_host_is_near(peer):
    assert is_near(peer)


@pytest.mark.parametrize(
    "peer",
    [
        "ipv4:10.0.0.1:5",
        "ipv6:%5B2001:db8::1%5D:5",
        "ipv6:[::ffff:10.0.0.1]:5",
        "",
        "localhost",
        "ipv4:",
        "?",
    ],
)
def test_any_other_caller_is_not(peer):
    assert not is_near(peer)
