"""One suite of scenarios, on a folder, on a server with SQLite and a disk, on one with Postgres and S3.

Every scenario returns plain values, or raises: results and errors must be equal on all three.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import larvik
from larvik import (
    ROI,
    Animal,
    Antibody,
    Experiment,
    ExperimentalGroup,
    Q,
    Representation,
    Sample,
    Table,
    Transformation,
)
from larvik.connection import Connection
from larvik.errors import LarvikError
from larvik.testing import images
from larvik.testing.server import larvik_server

Scenario = Callable[[Connection, Path], Any]
SCENARIOS: list[Scenario] = []
SIZES = {"t": 2, "c": 2, "z": 5, "y": 96, "x": 128}
FORMATS = ("ome-tiff", "ome-zarr-0.4", "ome-zarr-0.5")


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


@pytest.fixture(scope="module")
def deployments(
    tmp_path_factory: pytest.TempPathFactory, module_postgres_url: str, module_s3: Any
) -> Iterator[dict[str, Connection]]:
    folder = tmp_path_factory.mktemp("deployments")
    with ExitStack() as stack:
        disk = stack.enter_context(larvik_server(folder / "served"))
        cloud = stack.enter_context(
            larvik_server(
                folder / "cloud",
                database_url=module_postgres_url,
                store_url=module_s3.url,
                store_options=module_s3.options,
            )
        )
        yield {
            "embedded": stack.enter_context(larvik.connect(folder / "embedded")),
            "sqlite and disk": stack.enter_context(larvik.connect(disk.url, token=disk.token)),
            "postgres and s3": stack.enter_context(larvik.connect(cloud.url, token=cloud.token)),
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same pixels as OME-TIFF, OME-Zarr 0.4 and OME-Zarr 0.5, and a broken file."""
    folder = tmp_path_factory.mktemp("files")
    pixels = images.cells(SIZES)
    images.write_ome_tiff(folder / "cells.ome.tiff", pixels)
    images.write_ome_zarr(folder / "cells-0.4.ome.zarr", pixels, version="0.4")
    images.write_ome_zarr(folder / "cells-0.5.ome.zarr", pixels, version="0.5")
    (folder / "broken.ome.tiff").write_bytes((folder / "cells.ome.tiff").read_bytes()[:3000])
    return folder


def path_of(files: Path, format: str) -> Path:
    return files / {"ome-tiff": "cells.ome.tiff"}.get(format, f"cells-{format[-3:]}.ome.zarr")


def outcome(run: Scenario, connection: Connection, files: Path) -> Any:
    """What a scenario gave: its plain result, or the class, reason and words of its error."""
    try:
        return ["returned", plain(run(connection, files))]
    except LarvikError as error:
        return "raised", type(error).__name__, error.reason, plain(error.message), sorted(error.metadata)


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def plain(value: Any) -> Any:
    """Values that can be compared: arrays as lists, ids and paths blanked."""
    if isinstance(value, xr.DataArray | np.ndarray):
        array = np.asarray(value)
        return (str(array.dtype), array.shape, array.tolist())
    if isinstance(value, str):
        return UUID.sub("<id>", value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return (
            value.drop(columns=[name for name in value.columns if name.endswith("id")])
            .astype(str)
            .to_dict("list")
        )
    return value


@pytest.mark.parametrize("format", FORMATS)
def test_the_seed_example_gives_the_same_pixels_everywhere(
    deployments: dict[str, Connection], files: Path, format: str
) -> None:
    truth = images.cells(SIZES)[0, 0].max(axis=0)
    wavelengths = []
    for connection in deployments.values():
        name = f"Animal seed {format}"
        larvik.import_file(path_of(files, format), sample=format, experiment=name, connection=connection)
        rep = (
            Representation.objects.using(connection)
            .filter(sample__experiment__name__startswith=name, type="initial")
            .first()
        )
        assert rep is not None
        wavelengths.append(str(rep.biometa.channels["EmissionWaveLength"].tolist()))
        maxisp = rep.array.sel(t=0, c=0).max(dim="z")
        local = maxisp.compute()
        assert local.dtype == truth.dtype
        np.testing.assert_array_equal(local.to_numpy(), truth)
        assert local.viewer.show() is not None
    assert wavelengths[0] == wavelengths[1] == wavelengths[2]


def make_study(connection: Connection, name: str) -> tuple[Experiment, list[Sample]]:
    experiment = Experiment.objects.using(connection).create(name=name)
    control = ExperimentalGroup.objects.using(connection).create(
        name="control", is_control=True, experiment=experiment
    )
    samples = [
        Sample.objects.using(connection).create(name=f"{name} {index}", experiment=experiment, group=control)
        for index in range(3)
    ]
    return experiment, samples


def make_array(connection: Connection, name: str, **values: Any) -> Representation:
    pixels = np.arange(2 * 3 * 16 * 24, dtype="uint16").reshape(1, 2, 3, 16, 24)
    array = xr.DataArray(
        pixels,
        dims=("t", "c", "z", "y", "x"),
        coords={
            "c": ["DAPI", "GFP"],
            "y": np.arange(16) * 0.5,
            "x": np.arange(24) * 0.5,
            "z": np.arange(3) * 2.0,
        },
    )
    for dim in "zyx":
        array[dim].attrs["units"] = "micrometer"
    return Representation.objects.using(connection).from_xarray(array, name=name, **values)


@scenario
def rows_go_in_and_come_back(connection: Connection, files: Path) -> Any:
    experiment, samples = make_study(connection, "rows")
    animal = Animal.objects.using(connection).create(
        name="mouse 1", species="Mus musculus", experiment=experiment
    )
    Antibody.objects.using(connection).create(name="anti-GFP", target="GFP", experiment=experiment)
    samples[0].animal = animal
    samples[0].save()
    again = Sample.objects.using(connection).get(name="rows 0")
    return (
        again.animal.species,
        again.revision,
        again.group.is_control,
        [s.name for s in experiment.samples.all()],
    )


@scenario
def lookups_agree(connection: Connection, files: Path) -> Any:
    experiment = Experiment.objects.using(connection).create(name="lookups")
    names = [
        "Alpha",
        "alpha",
        "ALPHA_1",
        "al%ha",
        "Beta",
        "beta\\",
        "ßeta",
        "Ünicode",
        "ünicode",
        "z" * 50,
        "",
        "ab\U0001f52c",
    ]
    for name in names:
        Sample.objects.using(connection).create(name=name, experiment=experiment)
    found = Sample.objects.using(connection).filter(experiment=experiment)
    conditions = [
        {"name__startswith": "al"},
        {"name__istartswith": "AL"},
        {"name__contains": "%"},
        {"name__icontains": "ALPHA_"},
        {"name__endswith": "\\"},
        {"name__iexact": "ünicode"},
        {"name__in": ["Beta", "ßeta", "none"]},
        {"name__gt": "Z"},
        {"name__range": ("A", "b")},
        {"name__startswith": "ab\U0001f52c"},
        {"name": ""},
        {"description__isnull": False},
    ]
    return [sorted(row.name for row in found.filter(**condition)) for condition in conditions]


@scenario
def orders_put_nulls_last_both_ways(connection: Connection, files: Path) -> Any:
    experiment = Experiment.objects.using(connection).create(name="orders")
    for name, age in [("a", 3.0), ("b", None), ("c", 1.0), ("d", None), ("e", 2.0)]:
        Animal.objects.using(connection).create(name=name, age_days=age, experiment=experiment)
    found = Animal.objects.using(connection).filter(experiment=experiment)
    up = [row.name for row in found.order_by("age_days", "name")]
    down = [row.name for row in found.order_by("-age_days", "name")]
    return up, down, [row.name for row in found.order_by("name")[1:3]], found.order_by("-name").first().name


@scenario
def conditions_on_many_related_rows_mean_the_same_row_within_one_filter(
    connection: Connection, files: Path
) -> Any:
    experiment, samples = make_study(connection, "many")
    make_array(connection, "one", sample=samples[0], type="initial")
    make_array(connection, "two", sample=samples[0], type="derived")
    make_array(connection, "two", sample=samples[1], type="initial")
    found = Sample.objects.using(connection).filter(experiment=experiment).order_by("name")
    both = found.filter(representations__name="two", representations__type="initial")
    apart = found.filter(representations__name="two").filter(representations__type="initial")
    either = found.filter(Q(representations__name="one") | Q(name__endswith="2"))
    none = found.exclude(representations__name="two")
    return [[row.name for row in query] for query in (both, apart, either, none)], apart.count()


@scenario
def biometa_tags_and_key_values_can_be_asked_for(connection: Connection, files: Path) -> Any:
    rows = larvik.import_file(
        files / "cells.ome.tiff", sample="asked", experiment="asked", connection=connection, again=True
    )
    rows[0].tags.add("mitosis", "good")
    rows[0].key_values.set(dose="5")
    found = Representation.objects.using(connection).filter(sample__experiment__name="asked")
    wavelengths = sorted(rows[0].biometa.channels["EmissionWavelength"].tolist())
    return [
        wavelengths,
        found.filter(biometa__channels__EmissionWavelength__gte=wavelengths[-1]).count(),
        found.filter(biometa__channels__emissionwavelength__gt=wavelengths[-1]).count(),
        found.filter(tags="mitosis").count(),
        found.filter(tags__in=["bad"]).count(),
        found.filter(key_values__dose__gte=5).count(),
        found.filter(key_values__dose="6").count(),
        found.biometa.channels,
        rows[0].biometa.scan,
        rows[0].biometa.planes,
    ]


@scenario
def tables_of_a_query_come_in_columns(connection: Connection, files: Path) -> Any:
    experiment, _ = make_study(connection, "columns")
    found = Sample.objects.using(connection).filter(experiment=experiment).order_by("name")
    table = found.arrow()
    frame = found.frame()
    return (
        table.schema.names,
        [str(kind) for kind in table.schema.types],
        frame["name"].tolist(),
        table.num_rows,
    )


@scenario
def updates_count_and_trash_restores(connection: Connection, files: Path) -> Any:
    experiment, samples = make_study(connection, "trash")
    found = Sample.objects.using(connection).filter(experiment=experiment)
    changed = found.update(description="changed")
    samples[0].delete()
    left = found.count()
    samples[0].restore()
    return changed, left, found.count(), found.delete(), found.count(), found.trash().count()


@scenario
def selections_agree_with_numpy(connection: Connection, files: Path) -> Any:
    rep = make_array(connection, "selections")
    array = rep.array
    return [
        array.isel(x=slice(None, None, -2), z=[2, 0]).compute(),
        array.sel(c="GFP", x=slice(2, 5), y=3.5).compute(),
        array.sel(c=[1, 0]).isel(t=0, z=1, y=slice(1, 4), x=-1).compute(),
        array.where(array > 700, 0).sum(dim=("y", "x")).compute(),
        (array.astype("float32") / 3).mean(dim="z").round(2).isel(y=0).compute(),
        array.coarsen(y=4, x=4).max().compute(),
        array.std(dim=("z", "y", "x")).compute(),
        array.median(dim="z").isel(y=slice(0, 2)).compute(),
        list(array.coords), array.x.values, array.z.values, list(array.c.values),
    ]  # fmt: skip


@scenario
def levels_have_coordinates_of_their_own(connection: Connection, files: Path) -> Any:
    pixels = np.random.default_rng(1).integers(0, 900, (1, 1, 1, 3000, 2500), dtype="uint16")
    array = xr.DataArray(pixels, dims=("t", "c", "z", "y", "x"))
    rep = Representation.objects.using(connection).from_xarray(array, name="levels")
    return [(level.shape, float(level.x[0]), float(level.y[1])) for level in rep.levels], rep.levels[
        -1
    ].compute()[0, 0, 0, :5, :5]


@scenario
def derived_arrays_keep_their_parents_metadata(connection: Connection, files: Path) -> Any:
    source = larvik.import_file(
        files / "cells.ome.tiff", sample="derived", experiment="derived", connection=connection, again=True
    )[0]
    derived = Representation.objects.using(connection).from_xarray(
        source.array.isel(c=[1]).max(dim="z"),
        name="projection",
        type="max_z",
        parent=source,
        sample=source.sample,
    )
    return (
        derived.parent.name,
        derived.dims,
        derived.biometa.channels["Name"].tolist(),
        derived.array.compute(),
    )


@scenario
def any_dims_can_be_stored(connection: Connection, files: Path) -> Any:
    array = xr.DataArray(
        np.arange(24.0).reshape(2, 3, 4), dims=("phase", "angle", "x"), coords={"angle": [0.0, 45.0, 90.0]}
    )
    made = Transformation.objects.using(connection).from_xarray(array, name="phases")
    return made.dims, made.array.sel(angle=45.0).compute(), made.array.angle.values


@scenario
def regions_and_measurements_are_kept(connection: Connection, files: Path) -> Any:
    import pandas as pd

    rep = make_array(connection, "measured")
    roi = ROI.objects.using(connection).create(
        representation=rep, kind="polygon", vertices=[[0, 0], [4, 0], [4, 4.5]]
    )
    table = Table.objects.using(connection).from_frame(
        pd.DataFrame({"area": [1.5, 2.5], "label": ["a", None]}), name="areas", representation=rep
    )
    again = Table.objects.using(connection).get(id=table.id)
    return roi.points, rep.rois.count(), again.num_rows, list(again.columns), again.frame()


@scenario
def the_stack_of_a_query_is_one_array(connection: Connection, files: Path) -> Any:
    _, samples = make_study(connection, "stack")
    for sample in samples:
        make_array(connection, sample.name, sample=sample)
    found = Representation.objects.using(connection).filter(sample__experiment__name="stack").order_by("name")
    stacked = found.stack("sample")
    return stacked.dims, stacked.shape, stacked.isel(c=0, t=0).max(dim=("z", "y", "x")).compute()


@scenario
def the_same_series_is_imported_once(connection: Connection, files: Path) -> Any:
    first = larvik.import_file(
        files / "cells-0.5.ome.zarr", sample="once", experiment="once", connection=connection, again=True
    )
    second = larvik.import_file(
        files / "cells-0.5.ome.zarr", sample="once", experiment="once", connection=connection
    )
    return second[0].id in {first[0].id} or len(second), len(second)


@scenario
def a_broken_file_leaves_the_others_imported(connection: Connection, files: Path) -> Any:
    result = larvik.import_files(
        [files / "broken.ome.tiff", files / "cells.ome.tiff"],
        sample="some",
        experiment="some",
        connection=connection,
        again=True,
    )
    return len(result.representations), [failure.reason for failure in result.failures]


@scenario
def refuse_unknown_fields(connection: Connection, files: Path) -> Any:
    return Sample.objects.using(connection).filter(experiment__nam="x").first()


@scenario
def refuse_unknown_lookups(connection: Connection, files: Path) -> Any:
    return Sample.objects.using(connection).filter(name__startwith="x").first()


@scenario
def refuse_values_of_another_type(connection: Connection, files: Path) -> Any:
    return Animal.objects.using(connection).filter(age_days__gt="old").first()


@scenario
def refuse_nul_in_text(connection: Connection, files: Path) -> Any:
    return Experiment.objects.using(connection).create(name="a\0b")


@scenario
def refuse_ten_megabytes_of_name(connection: Connection, files: Path) -> Any:
    return Experiment.objects.using(connection).create(name="x" * 10_000_000)


@scenario
def refuse_a_stale_revision(connection: Connection, files: Path) -> Any:
    made = Experiment.objects.using(connection).create(name="stale")
    other = Experiment.objects.using(connection).get(id=made.id)
    other.name = "first"
    other.save()
    made.name = "second"
    made.save()


@scenario
def refuse_a_row_that_is_not_there(connection: Connection, files: Path) -> Any:
    return Sample.objects.using(connection).get(name="nobody has this name")


@scenario
def refuse_a_relation_to_nothing(connection: Connection, files: Path) -> Any:
    return Sample.objects.using(connection).create(
        name="x", experiment_id="01890000-0000-7000-8000-000000000000"
    )


@scenario
def refuse_selections_outside(connection: Connection, files: Path) -> Any:
    return make_array(connection, "outside").array.isel(x=99)


@scenario
def refuse_channels_that_are_not_there(connection: Connection, files: Path) -> Any:
    return make_array(connection, "channels").array.sel(c="DAPY")


@scenario
def refuse_other_x_and_y_than_the_parents(connection: Connection, files: Path) -> Any:
    parent = make_array(connection, "parent")
    return Representation.objects.using(connection).from_xarray(
        np.zeros((1, 1, 1, 8, 8), "uint16"), dims=("t", "c", "z", "y", "x"), name="child", parent=parent
    )


@scenario
def refuse_dtypes_that_cannot_be_stored(connection: Connection, files: Path) -> Any:
    return Representation.objects.using(connection).from_xarray(
        xr.DataArray(np.zeros((4, 4), "complex64"), dims=("y", "x")), name="complex"
    )


@scenario
def refuse_files_that_are_not_images(connection: Connection, files: Path) -> Any:
    (files / "notes.tif").write_text("these are not pixels")
    return larvik.import_file(files / "notes.tif", connection=connection)


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
def test_every_deployment_gives_the_same(
    deployments: dict[str, Connection], files: Path, run: Scenario
) -> None:
    outcomes = {name: outcome(run, connection, files) for name, connection in deployments.items()}
    expected = outcomes.pop("embedded")
    for name, found in outcomes.items():
        assert found == expected, f"{run.__name__} differs on {name}"
    refused = isinstance(expected, tuple) and expected[0] == "raised"
    assert refused == run.__name__.startswith("refuse_"), expected
