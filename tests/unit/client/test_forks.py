"""Locks that a thread of the parent held are new ones in a forked child."""

from __future__ import annotations

import os

from larvik_client.address import parse_address
from larvik_client.channel import Channel, Credentials
from larvik_client.flight import FlightSession
from larvik_client.near import NearLevels


def test_a_child_does_not_wait_for_locks_of_its_parents_threads():
    channel = Channel(parse_address("larvik://localhost"), Credentials("token", None), 1.0)
    flight = FlightSession(channel, lambda: "grpc://localhost:1")
    near = NearLevels(flight)
    held = [channel._lock, flight._lock, near._lock, near._socket._lock, near._descriptors._lock]
    for lock in held:
        lock.acquire()
    child = os.fork()
    if child == 0:
        now = [channel._lock, flight._lock, near._lock, near._socket._lock, near._descriptors._lock]
        os._exit(0 if all(lock.acquire(timeout=1) for lock in now) else 1)
    for lock in held:
        lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
