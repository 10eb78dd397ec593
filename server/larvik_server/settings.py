"""Every setting of the server, read once: flags, then ``LARVIK_*``, ``.env``, a TOML file, defaults.

Nested settings join their names by ``__``: ``LARVIK_LIMITS__STREAMS``. The file is ``larvik.toml`` in the
current folder, or the one that ``--config`` or ``LARVIK_CONFIG`` names. Nothing else of the server reads the
environment.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from larvik.errors import InvalidArgumentError, PreconditionError, suggestion

PREFIX = "LARVIK_"
FILE = "larvik.toml"


def _names(value: object) -> object:
    """Split the text of a variable or flag at commas."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


#: The file that `load` reads just now.
_FILE: ContextVar[Path | None] = ContextVar("file", default=None)

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


class Group(BaseModel):
    """Base of nested settings: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreOptions(Group):
    """How an S3 store is reached; what is not given comes from the AWS variables and files."""

    key: str | None = Field(None, description="access key id")
    secret: SecretStr | None = Field(None, description="secret access key")
    token: SecretStr | None = Field(None, description="session token")
    endpoint_url: str | None = Field(None, description="address of an S3-compatible store")
    region: str | None = Field(None, description="region")
    anon: bool | None = Field(None, description="whether to send no credentials")
    timeout_s: float | None = Field(None, gt=0, description="seconds before a request is given up")


class Tls(Group):
    """Certificate and key of both listeners, PEM."""

    cert: Path | None = Field(None, description="certificate chain")
    key: Path | None = Field(None, description="private key")


class Limits(Group):
    """Bounds that keep the server alive under load."""

    threads: int = Field(16, ge=2, le=512, description="threads for short calls")
    long_threads: int = Field(4, ge=1, le=64, description="threads for commits and imports")
    calls: int = Field(512, ge=8, description="open gRPC calls; more are refused")
    message_bytes: int = Field(64 << 20, ge=1 << 20, le=1 << 30, description="largest gRPC message")
    streams: int = Field(64, ge=1, description="open Flight streams; more are refused")
    streams_per_subject: int = Field(16, ge=1, description="open Flight streams of one subject")
    held_bytes: int = Field(
        1 << 30, ge=1 << 20, description="bytes that streams and tiles hold at once; more are refused"
    )
    held_bytes_per_subject: int = Field(
        512 << 20, ge=1 << 20, description="bytes that streams and tiles of one subject hold at once"
    )
    tile_channels: int = Field(512, ge=1, description="open tile channels; more are refused")
    tile_channels_per_subject: int = Field(128, ge=1, description="open tile channels of one subject")
    stall_s: float = Field(
        60.0, gt=0, description="time that a stream waits for its reader, uploads ten times as long"
    )
    stream_s: float = Field(6 * 3600.0, gt=0, description="longest time that a stream may take")
    hang_s: float = Field(20.0, gt=0, description="time after which a silent data process is started anew")
    listed: int = Field(10_000, ge=1, description="arrays and tables that ListFlights gives at most")
    deadline_s: float = Field(60.0, gt=0, description="deadline of short calls that set none")
    grace_s: float = Field(30.0, ge=0, description="time that running calls get to finish on SIGTERM")


class Handout(Group):
    """Which stored objects clients may read by themselves, once a ticket allows it."""

    descriptors: bool = Field(True, description="pass clients on this host descriptors of stored files")
    addresses: bool = Field(
        False, description="give clients presigned addresses of objects in store_url, valid for a minute"
    )


class Log(Group):
    """How the server logs, on standard error."""

    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else json"
    )
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")


class Settings(BaseSettings):
    """The settings tree. See `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    data: Path = Field(Path("larvik-data"), description="folder of the SQLite database and the local store")
    host: str = Field("127.0.0.1", description="interface of both listeners")
    port: int = Field(7410, ge=0, le=65535, description="gRPC port; 0 takes a free one")
    flight_port: int = Field(7411, ge=0, le=65535, description="Flight port; 0 takes a free one")
    tile_port: int = Field(
        7412,
        ge=0,
        le=65535,
        description="port of the first tile process; others take the next; 0 takes free ones",
    )
    tile_processes: int = Field(
        1,
        ge=0,
        le=64,
        description="processes for tiles beside the one for bulk data, which else has both",
    )
    http_port: int | None = Field(
        None, ge=0, le=65535, description="HTTP port; reserved, nothing listens yet"
    )
    public_flight_url: str = Field("", description="Flight address as seen from outside")
    public_tile_url: str = Field(
        "",
        description="address of the tile process as seen from outside, beside public_flight_url",
    )
    public_http_url: str = Field("", description="HTTP address as seen from outside")
    behind_proxy: bool = Field(
        False, description="a proxy in front does TLS: allow another interface without it"
    )
    tls: Tls = Tls()
    database_url: SecretStr | None = Field(
        None, description="postgresql+psycopg://...; without it SQLite in data"
    )
    store_url: str | None = Field(None, description="s3://bucket/prefix; without it a folder in data")
    store: StoreOptions = StoreOptions()
    disk_cache: Path | None = Field(
        None, description="folder for stored bytes of S3; without it cache in data"
    )
    disk_cache_bytes: int = Field(
        10 << 30, ge=0, description="stored bytes of S3 to keep on the local disk; 0 keeps none"
    )
    import_roots: Names = Field(
        (), description="folders and buckets that --server-path and --in-place may name"
    )
    models: Names = Field((), description="packages with models of your own")
    token: SecretStr | None = Field(None, description="presets the administrator's key")
    ticket_secret: SecretStr | None = Field(
        None, description="key of the tickets' signatures, the same on all replicas; without it a random one"
    )
    ticket_seconds: int = Field(300, ge=5, le=86_400, description="life of a Flight ticket")
    dask: str = Field(
        "", description="tcp://host:port of a Dask scheduler whose workers reach the store, for what is large"
    )
    decode_uploads: bool = Field(
        True, description="decode the chunks that clients encoded before they are stored"
    )
    limits: Limits = Limits()
    handout: Handout = Handout()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file after the environment."""
        file = TomlConfigSettingsSource(settings_cls, _FILE.get())
        return init_settings, env_settings, dotenv_settings, file

    @property
    def is_tls(self) -> bool:
        """Whether the listeners do TLS themselves."""
        return self.tls.cert is not None


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as `larvik config show` prints it: name, redacted value, where it came from, meaning."""

    name: str
    value: str
    origin: str
    description: str


def config_file(given: Path | None = None) -> Path | None:
    """Return the TOML file that is read: the given one, LARVIK_CONFIG's, or larvik.toml; None without any."""
    named = os.environ.get("LARVIK_CONFIG")
    path = given or (Path(named) if named else Path(FILE))
    return path if given or named or path.is_file() else None


def load(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> Settings:
    """Return the settings.

    Parameters
    ----------
    flags : mapping
        Nested as the tree is; they win.
    file : Path, optional
        Settings file, instead of that of LARVIK_CONFIG or larvik.toml of the current folder.

    Raises
    ------
    InvalidArgumentError
        ``SETTING_INVALID``; names each setting that is wrong, and where the file is wrong.
    """
    path = config_file(file)
    _check_file(path)
    token = _FILE.set(path)
    try:
        return Settings(**(flags or {}))
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg'].lower()}" for item in error.errors()
        ]
        raise InvalidArgumentError(
            f"The settings are refused. {'; '.join(problems)}.",
            reason="SETTING_INVALID",
            field=".".join(str(part) for part in error.errors()[0]["loc"]),
        ) from None
    finally:
        _FILE.reset(token)


def _check_file(path: Path | None) -> None:
    """Refuse a file that is missing, is not TOML, or names settings that do not exist."""
    if path is None:
        return
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(
            f"The settings file {path} cannot be read: {error}.", reason="SETTING_INVALID", field="config"
        ) from None
    for name in found:
        if name not in Settings.model_fields:
            raise InvalidArgumentError(
                f"{path} sets {name!r}, which is no setting. {suggestion(name, Settings.model_fields)}",
                reason="SETTING_INVALID",
                field=name,
            )


def check_exposure(settings: Settings) -> None:
    """Refuse to listen beyond the loopback in clear text.

    Raises
    ------
    PreconditionError
        ``TLS_REQUIRED``, for another interface without TLS, unless a proxy does it; or half a certificate.
    """
    if (settings.tls.cert is None) != (settings.tls.key is None):
        raise PreconditionError("TLS needs both tls.cert and tls.key.", reason="TLS_REQUIRED", field="tls")
    if is_loopback(settings.host) or settings.is_tls or settings.behind_proxy:
        return
    raise PreconditionError(
        f"Listening on {settings.host} without TLS would send tokens in clear text. Set tls.cert and"
        " tls.key, or behind_proxy when a proxy in front does TLS.",
        reason="TLS_REQUIRED",
        field="host",
    )


def is_loopback(host: str) -> bool:
    """Whether `host` is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def describe(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> list[Setting]:
    """Return every setting with its origin; secrets are redacted. Parameters as of `load`."""
    settings = load(flags, file)
    path = config_file(file)
    sources = [
        ("flag", InitSettingsSource(Settings, dict(flags or {}))()),
        ("environment", EnvSettingsSource(Settings)()),
        (".env", DotEnvSettingsSource(Settings)()),
        (str(path), TomlConfigSettingsSource(Settings, path)() if path else {}),
    ]
    return list(_described(settings, (), sources))


def _described(
    group: BaseModel, path: tuple[str, ...], sources: list[tuple[str, dict[str, Any]]]
) -> Iterator[Setting]:
    for name, info in type(group).model_fields.items():
        value, here = getattr(group, name), (*path, name)
        if isinstance(value, Group):
            yield from _described(value, here, sources)
            continue
        origin = next((label for label, found in sources if _holds(found, here)), "default")
        yield Setting(".".join(here), _shown(value), origin, info.description or "")


def _holds(found: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return False
        found = found[name]
    return True


def _shown(value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, SecretStr):
        return "********"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
