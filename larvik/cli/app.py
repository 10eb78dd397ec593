"""Commands that work on a folder or a server alike: import, export, ls, show, query."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from larvik.cli import output
from larvik.errors import InvalidArgumentError, LarvikError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from larvik.connection import Connection

app = typer.Typer(
    name="larvik",
    help="Images, experiments and analysis of a microscope lab.",
    epilog="Without --url and --data, LARVIK_URL, LARVIK_DATA or the current profile say where to look.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="Server, such as larvik://localhost:7410.")
]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data folder, opened in this process.")
]
Token = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", help="Token; better in LARVIK_TOKEN, where ps cannot see it."),
]
Ca = Annotated[
    Path | None, typer.Option("--ca", metavar="FILE", help="Certificates to check the server against, PEM.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        from larvik import __version__

        typer.echo(f"larvik {__version__}")
        raise typer.Exit


@app.callback()
def larvik_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an unexpected error happened.")] = False,
) -> None:
    """Images, experiments and analysis of a microscope lab."""
    _quiet_libraries()
    if context.obj is not None:
        context.obj.shows_traceback = debug


def _quiet_libraries() -> None:
    """Keep what libraries say of bad files off the terminal: our one line says it for people."""
    import logging
    import warnings

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def open_connection(
    url: str | None, data: Path | None, token: str | None, ca: Path | None, *, create: bool = False
) -> Connection:
    """Connect to what the options say, or what the environment and profile say.

    Parameters
    ----------
    create : bool
        Whether a data folder that is missing is made; a mistyped one must not look like an empty lab.
    """
    import larvik
    from larvik import profiles

    if url and data:
        raise InvalidArgumentError("Give --url or --data, not both.", reason="ARGUMENT_INVALID", field="url")
    where, _ = profiles.destination(url or (str(data) if data else None))
    options: dict[str, object] = {"ca": ca} if ca is not None else {}
    if profiles.scheme(where) not in profiles.REMOTE:
        if ca is not None:
            raise InvalidArgumentError(
                "A folder needs no certificates; only servers do.", reason="ARGUMENT_INVALID", field="ca"
            )
        options["create"] = create
    return larvik.connect(where, token=token, **options)


@app.command("import")
def import_(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders of OME-Zarr, or s3:// URLs.")
    ],
    sample: Annotated[
        str | None, typer.Option(help="Sample that the images show; created when missing.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Experiment of the sample; created when missing.")
    ] = None,
    series: Annotated[
        list[int] | None, typer.Option(help="Only this series, counted from 0; may repeat.")
    ] = None,
    inspect: Annotated[bool, typer.Option("--inspect", help="List the series and stop.")] = False,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Register OME-Zarr where it is, copying nothing.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Import anew what was imported before.")] = False,
    server_path: Annotated[
        bool, typer.Option("--server-path", help="PATH is below an import root of the server.")
    ] = False,
    url: Url = None,
    data: Data = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Import images: OME-TIFF, TIFF, OME-Zarr; all series or some.

    What was imported before is not imported twice; a broken file leaves the others imported, and
    the exit code is 1 then. Ctrl-C leaves nothing half imported.

    \b
    Examples:
      larvik import cells.ome.tiff --inspect
      larvik import *.ome.tiff --sample "Slide 3" --experiment "Animal study" --data lab-data
      larvik import plate.ome.zarr --series 0 --series 4 --url larvik://localhost:7410
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    if inspect:
        _inspect(paths, json)
        return
    import larvik

    imported, failures = [], []
    with open_connection(url, data, token, ca, create=True) as connection:
        for path in paths:
            with output.progress(Path(path).name or path) as progress:
                result = larvik.import_files(
                    [path], sample=sample, experiment=experiment, series=series, in_place=in_place,
                    again=again, server_path=server_path, connection=connection, progress=progress,
                )  # fmt: skip
            imported += result.representations
            failures += result.failures
        rows = [(row.id, row.name, row.dims, row.shape, row.dtype) for row in imported]
    columns = ("id", "name", "dims", "shape", "dtype")
    _report("imported", columns, rows, [(f.path, f.reason, f.message) for f in failures], json)


def _inspect(paths: list[str], json: bool) -> None:
    from larvik.formats.base import inspect_file

    rows: list[tuple[Any, ...]] = []
    failures = []
    for path in paths:
        try:
            found = inspect_file(path)
        except LarvikError as error:
            failures.append((path, error.reason, error.message))
            continue
        rows += [(path, info.index, info.name, info.dims, info.shape, info.dtype) for info in found]
    _report("series", ("path", "series", "name", "dims", "shape", "dtype"), rows, failures, json)


def _report(
    title: str,
    columns: tuple[str, ...],
    rows: list[tuple[Any, ...]],
    failures: list[tuple[str, str, str]],
    json: bool,
) -> None:
    """Print what was done and what was not; exit with 1 when something was not."""
    if json:
        failed = [dict(zip(("path", "reason", "message"), failure, strict=True)) for failure in failures]
        output.print_json({title: [dict(zip(columns, row, strict=True)) for row in rows], "failed": failed})
    elif rows:
        output.print_table(columns, rows)
    for path, reason, message in failures:
        where = "" if path in message else f"{path}: "
        typer.echo(f"larvik: {where}{' '.join(message.split())} [{reason}]", err=True)
    if failures:
        raise typer.Exit(1)


@app.command()
def export(
    array: Annotated[str, typer.Argument(help="Id or name of a representation or other array.")],
    path: Annotated[str, typer.Argument(help="Target: FILE.ome.tiff or FOLDER.ome.zarr.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    url: Url = None,
    data: Data = None,
    token: Token = None,
    ca: Ca = None,
) -> None:
    """Write an array as OME-TIFF or OME-Zarr, metadata included.

    \b
    Examples:
      larvik export "cells" cells.ome.tiff --data lab-data
      larvik export 0198c1de-3f4a-7a8b-9c0d-1e2f3a4b5c6d out.ome.zarr --overwrite
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from larvik.cli.rows import find_array

    with open_connection(url, data, token, ca) as connection, output.progress(Path(path).name) as progress:
        written = find_array(connection, array).export(path, overwrite=overwrite, progress=progress)
    output.write(str(written))


@app.command()
def ls(
    model: Annotated[
        str | None, typer.Argument(help="Model, such as samples; without one, an overview.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 50,
    url: Url = None,
    data: Data = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """List experiments and what they hold, or the rows of one model.

    \b
    Examples:
      larvik ls --data lab-data
      larvik ls representations --limit 10 --url larvik://localhost:7410
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from larvik.cli.rows import model_query, print_rows

    with open_connection(url, data, token, ca) as connection:
        if model is None:
            _overview(connection, limit, json)
        else:
            print_rows(model_query(connection, model).order_by("-created_at")[:limit], (), json=json)


def _overview(connection: Connection, limit: int, json: bool) -> None:
    from larvik.cli.rows import model_query

    samples, images = (model_query(connection, name) for name in ("Sample", "Representation"))
    rows: list[tuple[Any, ...]] = [
        (
            experiment.name,
            samples.filter(experiment=experiment).count(),
            images.filter(sample__experiment=experiment).count(),
            experiment.created_at,
        )
        for experiment in model_query(connection, "Experiment").order_by("name")[:limit]
    ]
    loose = images.filter(sample__experiment__isnull=True).count()
    if loose:
        rows.append((None if json else "(no experiment)", None, loose, None))
    columns = ("experiment", "samples", "images", "since")
    if json:
        output.print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        output.print_table(columns, rows)


@app.command()
def show(
    array: Annotated[str, typer.Argument(help="Id or name of a representation or other array.")],
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the picture there.")] = None,
    url: Url = None,
    data: Data = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Tell what an array is: sizes, units, channels; or draw it.

    \b
    Examples:
      larvik show "cells" --data lab-data
      larvik show "cells" --png cells.png --data lab-data
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from larvik.cli.rows import find_array

    if png is not None and png.suffix.casefold() != ".png":
        raise UnsupportedError(
            f"--png writes PNG, so {png.name!r} should end in .png.", reason="FORMAT_UNSUPPORTED", field="png"
        )
    if png is not None and not png.parent.is_dir():
        raise NotFoundError(f"There is no folder {str(png.parent)!r} to write to.", reason="FILE_NOT_FOUND")
    with open_connection(url, data, token, ca) as connection:
        row = find_array(connection, array)
        channels = row.biometa.channels.dropna(axis="columns", how="all")
        hidden = ("id", "array_id", "object_id")
        shown = [name for name in channels.columns if name not in hidden]
        records = channels[shown].to_dict("records")
        if json:
            output.print_json({**row._values, "channels": records})
        else:
            output.print_table(("field", "value"), _facts(row))
            if records:
                output.write("")
                output.print_table(shown, [tuple(record.values()) for record in records])
        if png is not None:
            row.viewer.show().savefig(png, format="png", dpi=110)
            typer.echo(f"The picture is {png}.", err=True)


def _facts(row: Any) -> list[tuple[str, object]]:
    """Return what to tell of an array row, one fact a line."""
    sample = getattr(row, "sample", None)
    experiment = sample.experiment if sample is not None else None
    level = row.spec["levels"][0]
    spacing = [
        f"{axis['name']} {step:g} {axis['unit']}"
        for axis, step in zip(row.spec["axes"], level["spacing"], strict=True)
        if axis["unit"] not in (None, "pixel")
    ]
    facts = [
        ("experiment", getattr(experiment, "name", None)),
        ("sample", getattr(sample, "name", None)),
        *((name, row._values[name]) for name in ("name", "id", "dims", "shape", "dtype")),
        ("spacing", ", ".join(spacing)),
        ("levels", len(row.spec["levels"])),
        ("stored", output.size_text(row.stored_bytes)),
    ]
    return [(name, value) for name, value in facts if value not in (None, "")]


@app.command()
def query(
    model: Annotated[str, typer.Argument(help="Model, such as Representation.")],
    conditions: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD=VALUE", help="As in Python: sample__name__startswith=A."),
    ] = None,
    order_by: Annotated[list[str] | None, typer.Option(help="Field; with - in front, largest first.")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns, separated by commas.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 50,
    count: Annotated[bool, typer.Option("--count", help="Only count.")] = False,
    url: Url = None,
    data: Data = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Find rows by conditions, as `filter` does in Python.

    Values in lists are separated by commas; times without a zone are UTC, as they are printed.

    \b
    Examples:
      larvik query Representation sample__experiment__name__startswith=Animal type=initial
      larvik query Representation biometa__channels__Name=DAPI --columns id,sample__name
      larvik query Sample created_at__gt=2026-01-31 --order-by=-created_at --json
    """  # noqa: D301  # click reads the backspace, and keeps the lines
    from larvik.cli.rows import model_query, print_rows, read_conditions

    with open_connection(url, data, token, ca) as connection:
        found = model_query(connection, model)
        found = found.filter(*read_conditions(connection, found.query.model, conditions or []))
        if order_by:
            found = found.order_by(*order_by)
        if count:
            output.print_json(found.count())
        else:
            names = [name.strip() for name in columns.split(",")] if columns else ()
            print_rows(found[:limit], names, json=json)
