"""Both listeners speak TLS, and clients check the certificate.

The certificate of tests/fixtures/tls is for localhost alone, signed by itself, and good for a hundred years.
"""

from __future__ import annotations

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
