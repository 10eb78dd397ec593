"""Settings: flags win over the environment, this over .env, over the file, over the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from larvik.errors import InvalidArgumentError, PreconditionError
from larvik_server.settings import Settings, check_exposure, describe, is_loopback, load


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import os

    for name in list(os.environ):
        if name.startswith("LARVIK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_source_wins_over_the_ones_after_it(tmp_path, monkeypatch):
    (tmp_path / "larvik.toml").write_text("port = 1\nflight_port = 1\nhost = '::1'\nticket_seconds = 11\n")
    (tmp_path / ".env").write_text("LARVIK_PORT=2\nLARVIK_FLIGHT_PORT=2\nLARVIK_HOST=localhost\n")
    monkeypatch.setenv("LARVIK_PORT", "3")
    monkeypatch.setenv("LARVIK_FLIGHT_PORT", "3")
    settings = load({"port": 4})
    assert (settings.port, settings.flight_port, settings.host) == (4, 3, "localhost")
    assert (settings.ticket_seconds, settings.data) == (11, Path("larvik-data"))


def test_nested_settings_and_lists_come_from_variables(monkeypatch):
    monkeypatch.setenv("LARVIK_LIMITS__STREAMS", "5")
    monkeypatch.setenv("LARVIK_STORE__ENDPOINT_URL", "http://store:8333")
    monkeypatch.setenv("LARVIK_MODELS", "one, two")
    settings = load()
    assert settings.limits.streams == 5
    assert settings.store.endpoint_url == "http://store:8333"
    assert settings.models == ("one", "two")


def test_config_show_tells_every_setting_its_origin_and_no_secret(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("port = 1\n[limits]\nstreams = 9\n")
    monkeypatch.setenv("LARVIK_TOKEN", "very-secret-token")
    monkeypatch.setenv("LARVIK_DATABASE_URL", "postgresql+psycopg://larvik:hidden@host/name")
    shown = {setting.name: setting for setting in describe({"host": "::1"}, tmp_path / "mine.toml")}
    assert shown["host"].origin == "flag"
    assert shown["token"].origin == "environment"
    assert shown["port"].origin == shown["limits.streams"].origin == str(tmp_path / "mine.toml")
    assert shown["ticket_seconds"].origin == "default"
    assert "secret" not in shown["token"].value
    assert "hidden" not in shown["database_url"].value
    assert all(setting.description for setting in shown.values())


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"port": 99_999}, "port"),
        ({"limits": {"streams": 0}}, "limits.streams"),
        ({"tls": {"certificate": "x"}}, "tls"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_the_setting(flags, field):
    with pytest.raises(InvalidArgumentError) as caught:
        load(flags)
    assert caught.value.reason == "SETTING_INVALID"
    assert caught.value.metadata["field"].startswith(field)


@pytest.mark.parametrize("content", ["prot = 7410", "port = ", "\xff"])
def test_a_broken_file_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "larvik.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidArgumentError, match=r"larvik\.toml"):
        load()


def test_a_file_that_was_named_must_be_there(tmp_path):
    with pytest.raises(InvalidArgumentError):
        load(file=tmp_path / "none.toml")


def test_settings_cannot_change():
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1  # type: ignore[misc]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_the_loopback_needs_no_tls(host):
    assert is_loopback(host)
    check_exposure(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "lab.example.org"])
def test_another_interface_needs_tls_or_a_proxy_that_does_it(host):
    with pytest.raises(PreconditionError) as caught:
        check_exposure(Settings(host=host))
    assert caught.value.reason == "TLS_REQUIRED"
    check_exposure(Settings(host=host, behind_proxy=True))
    check_exposure(Settings(host=host, tls={"cert": "c.pem", "key": "k.pem"}))


def test_half_a_certificate_is_refused():
    with pytest.raises(PreconditionError):
        check_exposure(Settings(tls={"cert": "c.pem"}))
