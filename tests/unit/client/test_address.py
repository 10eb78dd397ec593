"""Addresses: what a larvik:// URL means, and where Flight is."""

from __future__ import annotations

import pytest

from larvik.errors import InvalidArgumentError, UnauthenticatedError
from larvik_client.address import parse_address, read_certificates


@pytest.mark.parametrize(
    ("url", "target", "is_tls"),
    [
        ("larvik://localhost", "localhost:7410", False),
        ("larvik://127.0.0.1:80/", "127.0.0.1:80", False),
        ("larvik://[::1]:81", "[::1]:81", False),
        ("larvik://lab.example.org", "lab.example.org:7410", True),
        ("LARVIK://10.0.0.7:7410", "10.0.0.7:7410", True),
        ("larvik+insecure://lab.example.org:9", "lab.example.org:9", False),
    ],
)
def test_tls_is_spoken_everywhere_but_on_the_loopback(url, target, is_tls):
    address = parse_address(url)
    assert (address.target, address.is_tls) == (target, is_tls)
    assert parse_address(address.url) == address


def test_tls_can_be_asked_for_on_the_loopback():
    assert parse_address("larvik://localhost", tls=True).is_tls


@pytest.mark.parametrize(
    "url",
    [
        "", "http://host", "larvik://", "larvik://host:port", "larvik://host:99999", "larvik://user:secret@host",
        "larvik://host/path", "larvik://host?token=1", "host:7410", "larvik://[::1", "larvik://host#x",
    ],
)  # fmt: skip
def test_another_url_is_refused_without_showing_what_may_be_a_secret(url):
    with pytest.raises(InvalidArgumentError) as caught:
        parse_address(url)
    assert caught.value.reason == "URL_INVALID"
    assert "secret" not in caught.value.message


def test_flight_is_on_the_same_host_unless_the_server_says_otherwise():
    address = parse_address("larvik://[::1]:7410")
    assert address.flight_url("grpc://:7411") == "grpc://[::1]:7411"
    assert address.flight_url("grpc+tls://flight.example.org:443") == "grpc+tls://flight.example.org:443"


def test_certificates_that_cannot_be_read_are_named(tmp_path):
    assert read_certificates(None) is None
    with pytest.raises(InvalidArgumentError, match=r"none\.pem"):
        read_certificates(tmp_path / "none.pem")


@pytest.mark.parametrize("described", ["grpc://:7411", "grpc+tcp://elsewhere:7411", "grpc+unix:///tmp/x"])
def test_a_server_with_tls_cannot_send_the_token_elsewhere_in_clear_text(described):
    with pytest.raises(UnauthenticatedError) as caught:
        parse_address("larvik://lab.example.org").flight_url(described)
    assert caught.value.reason == "TLS_REQUIRED"
    assert parse_address("larvik://lab.example.org").flight_url("grpc+tls://:1") == (
        "grpc+tls://lab.example.org:1"
    )
