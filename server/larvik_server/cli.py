"""The commands that need a server installed: serve and what its operator does.

Joined to ``larvik`` by entry point. Nothing heavy is imported before a command runs: ``larvik serve``
must be ready within a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from larvik.services.backup import BackupReport
    from larvik.services.bundle import ServiceConfig, Services

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Data folder.")]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file, TOML.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

admin = typer.Typer(help="Usage, backups and keys of a data folder.", no_args_is_help=True)
keys = typer.Typer(help="Keys that clients show.", no_args_is_help=True)
config = typer.Typer(help="Settings.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the `larvik` application."""
    app.command()(serve)
    app.command()(migrate)
    app.command()(doctor)
    app.command()(health)
    app.add_typer(admin, name="admin")
    admin.add_typer(keys, name="keys")
    app.add_typer(config, name="config")


def serve(
    data: Data = None,
    host: Annotated[str | None, typer.Option(help="Interface of both listeners.")] = None,
    port: Annotated[int | None, typer.Option(help="gRPC port; 0 takes a free one.")] = None,
    flight_port: Annotated[int | None, typer.Option(help="Flight port; 0 takes a free one.")] = None,
    tile_port: Annotated[
        int | None, typer.Option(help="Flight port of the process for tiles; 0 takes a free one.")
    ] = None,
    http_port: Annotated[int | None, typer.Option(help="Reserved: nothing listens there yet.")] = None,
    public_flight_url: Annotated[
        str | None, typer.Option(help="Flight address as seen from outside.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key, PEM.")] = None,
    behind_proxy: Annotated[bool, typer.Option("--behind-proxy", help="A proxy in front does TLS.")] = False,
    import_root: Annotated[
        list[str] | None, typer.Option(help="Folder or bucket that imports may read.")
    ] = None,
    models: Annotated[list[str] | None, typer.Option(help="Package with models of your own.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json.")] = None,
    config: Config = None,
) -> None:
    """Serve a data folder over gRPC and Arrow Flight until SIGTERM.

    Prints its address, and on first start an administrator's key and a read-only one.

    \b
    Examples:
      larvik serve --data lab-data
      larvik serve --data lab-data --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from larvik_server.bootstrap import serve as run

    flags = _flags(
        data=data,
        host=host,
        port=port,
        flight_port=flight_port,
        tile_port=tile_port,
        http_port=http_port,
        public_flight_url=public_flight_url,
        behind_proxy=behind_proxy or None,
        import_roots=tuple(import_root) if import_root else None,
        models=tuple(models) if models else None,
        tls=_flags(cert=tls_cert, key=tls_key) or None,
        log=_flags(format=log_format) or None,
    )
    raise typer.Exit(run(flags, config))


def migrate(
    data: Data = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    config: Config = None,
) -> None:
    """Bring the database to the schema of this version.

    Models of your own included. A SQLite database is copied first.

    \b
    Example:
      larvik migrate --dry-run --data lab-data
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from larvik.db.engine import open_database
    from larvik.db.migrations.migrate import migrate as run
    from larvik.models import registry
    from larvik.services.bundle import load_models, lock_folder

    found = _service_config(data, config)
    # Nobody else may have a SQLite folder open meanwhile.
    lock = lock_folder(found, "larvik migrate", lock=not dry_run)
    try:
        load_models(found.models)
        database = open_database(found.resolved_database_url, registry)
        try:
            steps = run(database, dry_run=dry_run)
        finally:
            database.close()
    finally:
        if lock is not None:
            lock.release()
    for step in steps or ["The schema is up to date."]:
        typer.echo(step)


def doctor(
    data: Data = None,
    fix: Annotated[bool, typer.Option("--fix", help="Free and repair; rows are never removed.")] = False,
    grace: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Leave alone uploads, and bytes without a row, that are younger: 0, 30m, 24h, 2d.",
        ),
    ] = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """Find what crashes left behind, and free it.

    Without --grace, an upload is left behind once nothing was written to it for a day, and bytes without
    a row after 10 minutes; all of them at once when no other process can have the data open, which
    Larvik knows of a data folder with SQLite alone.

    Exits with 1 when something is left that needs you.

    \b
    Examples:
      larvik doctor --fix --data lab-data
      larvik doctor --fix --grace 30m --data lab-data
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from dataclasses import asdict

    from larvik.cli.output import print_json, size_text
    from larvik.cli.values import parse_duration
    from larvik.services.doctor import Doctor

    age = parse_duration("--grace", grace) if grace is not None else None
    with _open(data, config) as services:
        findings = list(Doctor(services).examine(fix=fix, idle=age, grace=age))
    if json:
        print_json([asdict(finding) for finding in findings])
    for finding in findings if not json else ():
        done = "fixed: " if finding.is_fixed else ""
        size = f" ({size_text(finding.size_bytes)})" if finding.size_bytes else ""
        typer.echo(f"{done}{finding.trouble}: {finding.subject}{size}. {finding.message}")
    if not findings and not json:
        typer.echo("Everything is in order.")
    if not all(finding.is_fixed for finding in findings):
        raise typer.Exit(1)


def health(
    url: Annotated[
        str, typer.Option(help="Server, such as larvik://localhost:7410.")
    ] = "larvik://127.0.0.1:7410",
    token: Annotated[
        str | None, typer.Option(help="Token; better in LARVIK_TOKEN.", envvar="LARVIK_TOKEN")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 5.0,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="Certificates to check the server against, PEM."),
    ] = None,
    tls: Annotated[
        bool | None, typer.Option("--tls/--no-tls", help="Whether it speaks TLS; the URL says by default.")
    ] = None,
) -> None:
    """Ask a server whether it serves; exits with 0 when it does.

    On the loopback larvik:// means clear text; give --tls, or the certificates, where a server speaks TLS
    there.

    \b
    Examples:
      larvik health --url larvik://localhost:7410
      larvik health --url larvik://localhost:7410 --ca cert.pem
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from larvik_server.health import check

    typer.echo(check(url, token, timeout, ca=ca, tls=True if tls is None and ca is not None else tls))


@admin.command()
def usage(data: Data = None, json: Json = False, config: Config = None) -> None:
    """Tell what is stored: arrays, tables and bytes, by experiment."""
    from dataclasses import asdict

    from larvik.cli.output import print_json, print_table, size_text
    from larvik.services.usage import usage as run

    with _open(data, config, shared=True) as services:
        found = run(services.identity.local(), services.database)
    if json:
        print_json([asdict(one) for one in found])
        return
    rows = [(one.experiment or "(none)", one.model, one.count, size_text(one.size_bytes)) for one in found]
    total = sum(one.size_bytes for one in found)
    print_table(
        ("experiment", "model", "count", "size"),
        [*rows, ("total", "", sum(one.count for one in found), size_text(total))],
    )


@admin.command()
def backup(
    target: Annotated[Path, typer.Argument(help="Folder or .tar file to write.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Write rows and bytes, consistent with each other, into one backup.

    Also while a server runs.

    \b
    Example:
      larvik admin backup monday.tar --data lab-data
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from larvik.cli.output import progress
    from larvik.services.backup import BackupService

    with _open(data, config, shared=True) as services, progress("backup") as report:
        done = BackupService(services).create(services.identity.local(), target, progress=report)
    _tell(done, f"are in {target}")


@admin.command()
def restore(
    source: Annotated[Path, typer.Argument(help="Folder or .tar file that `backup` wrote.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Bring a backup back into an empty folder, or database and store.

    \b
    Example:
      larvik admin restore monday.tar --data lab-again
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from larvik.cli.output import progress
    from larvik.services.backup import restore_backup

    found = _service_config(data, config)
    with progress("restore") as report:
        done = restore_backup(found, source, progress=report)
    _tell(done, f"are in {found.data}")


def _tell(report: BackupReport, where: str) -> None:
    from larvik.cli.output import size_text

    typer.echo(
        f"{report.rows:,} rows and {report.arrays:,} arrays and tables"
        f" ({size_text(report.size_bytes)}) {where}."
    )
    for location in report.missing:
        typer.echo(f"missing: {location}", err=True)


@keys.command("list")
def list_keys(data: Data = None, json: Json = False, config: Config = None) -> None:
    """List keys; the secrets are stored nowhere."""
    from larvik.cli.output import print_json, print_table

    with _open(data, config, shared=True) as services:
        found = services.identity.keys()
    columns = ("id", "name", "scopes", "created_at", "expires_at", "revoked_at")
    rows = [tuple(getattr(key, column) for column in columns) for key in found]
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for; also the name of its subject.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, write or admin; may repeat.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Life of the key.")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Make a key and print its token, once; also while a server runs.

    \b
    Example:
      larvik admin keys create microscope --scope write --days 90 --data lab-data
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from datetime import timedelta

    with _open(data, config, shared=True) as services:
        subject = services.identity.subject(name, "service")
        lifetime = timedelta(days=days) if days else None
        issued = services.identity.issue(subject, name, scope or ["read"], lifetime=lifetime)
    typer.echo(issued.token)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="Id, as `keys list` shows it.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Revoke a key; running servers refuse it within 5 seconds."""
    with _open(data, config, shared=True) as services:
        services.identity.revoke(key_id)


@config.command("show")
def show_config(json: Json = False, config: Config = None) -> None:
    """Print every setting, where it comes from, and no secret."""
    from dataclasses import asdict

    from larvik.cli.output import print_json, print_table
    from larvik_server.settings import describe

    found = describe(file=config)
    if json:
        print_json([asdict(setting) for setting in found])
    else:
        print_table(
            ("setting", "value", "from", "meaning"),
            [(s.name, s.value, s.origin, s.description) for s in found],
        )


def _flags(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _service_config(data: Path | None, file: Path | None) -> ServiceConfig:
    from larvik_server.bootstrap import service_config
    from larvik_server.settings import load

    return service_config(load(_flags(data=data), file))


def _open(data: Path | None, file: Path | None, *, shared: bool = False) -> Services:
    """Open the services of an existing data folder; `shared` ones also while a server runs."""
    from larvik.services.bundle import open_services

    return open_services(_service_config(data, file), lock=not shared, create=False)
