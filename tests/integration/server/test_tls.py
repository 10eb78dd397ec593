"""Both listeners speak TLS, and clients check the certificate.

The certificate of tests/fixtures/tls is for localhost alone, signed by itself, and good for a hundred years.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from larvik.array.expression import Source
from larvik.errors import UnavailableError
from larvik.query.query import Query
from larvik.testing.server import larvik_server
from larvik_client.remote import connect

TLS = Path(__file__).resolve().parents[2] / "fixtures" / "tls"
CERT, KEY = TLS / "cert.pem", TLS / "key.pem"
ARGUMENTS = ("--tls-cert", str(CERT), "--tls-key", str(KEY))
TOKEN = "a-preset-token-of-the-test"


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory):
    with larvik_server(tmp_path_factory.mktemp("tls"), token=TOKEN, arguments=ARGUMENTS) as running:
        yield running


def test_rows_and_pixels_travel_encrypted(tls_server, put_into):
    assert tls_server.flight_url.startswith("grpc+tls://")
    with connect(tls_server.url, TOKEN, ca=CERT, tls=True) as connection:
        pixels = np.arange(600, dtype="uint16").reshape(20, 30)
        array_id, spec = put_into(connection, pixels)
        level = spec.levels[0]
        source = Source(array_id, 1, 0, level.shape, spec.dtype, level.chunks)
        assert (connection.arrays.evaluator.reader(source).read((slice(None), slice(None))) == pixels).all()
        assert connection.catalog.count(Query("Representation")) == 1


def test_a_server_on_the_loopback_says_that_it_speaks_tls(tmp_path):
    with larvik_server(tmp_path, token=TOKEN, arguments=ARGUMENTS) as running:
        running.stop()
    assert any(line.strip().startswith("larvik.connect(") and "tls=True" in line for line in running.output)


def test_a_certificate_that_is_not_trusted_is_refused(tls_server):
    with pytest.raises(UnavailableError) as caught:
        connect(tls_server.url, TOKEN, tls=True, timeout_s=3)
    assert caught.value.reason == "SERVER_UNREACHABLE"


def test_clear_text_is_refused(tls_server):
    with pytest.raises(UnavailableError):
        connect(tls_server.url, TOKEN, timeout_s=3)


def health(*arguments: object) -> tuple[int, str]:
    """Run the command; return its exit code and what it printed."""
    start = "from larvik.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "health", *map(str, arguments)],
        env={**os.environ, "LARVIK_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("how", [("--ca", CERT), ("--tls", "--ca", CERT)])
def test_health_is_told_over_tls_on_the_loopback(tls_server, how):
    assert health("--url", tls_server.url, *how) == (0, "SERVING")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ((), "(no TLS)"),
        (("--tls",), "(TLS)"),
        (("--no-tls", "--ca", CERT), "(no TLS)"),
        (("--ca", "missing.pem"), "CERTIFICATE_INVALID"),
        (("--url", "http://localhost"), "URL_INVALID"),
    ],
)
def test_health_says_why_it_was_not_told(tls_server, how, said):
    code, output = health("--url", tls_server.url, "--timeout", 3, *how)
    assert code != 0
    assert said in output
    assert "Traceback" not in output


@pytest.mark.parametrize("wrong", ["cert", "key"])
def test_a_certificate_or_key_that_is_none_is_named(tmp_path, wrong):
    (tmp_path / "junk.pem").write_text("junk")
    paths = {"cert": str(CERT), "key": str(KEY), wrong: str(tmp_path / "junk.pem")}
    with pytest.raises(UnavailableError, match="CERTIFICATE_INVALID") as caught:
        larvik_server(tmp_path / "data", arguments=("--tls-cert", paths["cert"], "--tls-key", paths["key"]))
    assert "Traceback" not in caught.value.message
