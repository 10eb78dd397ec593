"""A model of one's own, from a separate package: migrate, create, query, list, read; and without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from larvik.testing.server import larvik_server

PACKAGE = Path(__file__).parents[2] / "client" / "examples" / "own_model"

CREATE = """
import sys, numpy as np, xarray as xr, larvik
from larvik_phase import PhaseStack
options = {} if "://" in sys.argv[1] else {"models": ["larvik_phase"]}
connection = larvik.connect(sys.argv[1], **options)
with connection:
    sample, _ = larvik.Sample.objects.get_or_create(name="beads")
    array = xr.DataArray(np.arange(24, dtype="float32").reshape(2, 3, 4), dims=("angle", "y", "x"))
    made = PhaseStack.objects.from_xarray(array, name="phase 1", wavelength_nm=532.0, sample=sample)
    assert made.operator is None
"""

READ = """
import sys, json, larvik
from larvik_phase import PhaseStack
options = {} if "://" in sys.argv[1] else {"models": ["larvik_phase"]}
connection = larvik.connect(sys.argv[1], **options)
with connection:
    row = PhaseStack.objects.filter(wavelength_nm__gt=500, sample__name="beads").first()
    beads = larvik.Sample.objects.get(name="beads")
    found = {"name": row.name, "dims": row.dims, "sum": float(row.array.sum())}
    found["reverse"] = [stack.name for stack in beads.phase_stacks]
    found["frame"] = PhaseStack.objects.frame()["wavelength_nm"].tolist()
    print(json.dumps(found))
"""

WITHOUT = """
import sys, json, larvik
with larvik.connect(sys.argv[1]) as connection:
    PhaseStack = connection.model("PhaseStack")
    row = PhaseStack.objects.using(connection).first()
    try:
        row.name = "other"
    except larvik.errors.UnsupportedError as error:
        refused = error.reason
    found = {"name": row.name, "wavelength": row.wavelength_nm, "sum": float(row.array.sum())}
    print(json.dumps({**found, "refused": refused}))
"""

LIST = """
import sys, json
import pyarrow.flight as flight
client = flight.FlightClient(sys.argv[1])
options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + sys.argv[2].encode())])
names = []
for info in client.list_flights(options=options):
    reader = client.do_get(info.endpoints[0].ticket, options) if info.endpoints else None
    names.append([part.decode() for part in info.descriptor.path])
print(json.dumps(names))
"""


def run(code: str, *arguments: object, package: bool = True, **environment: str) -> str:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("LARVIK_")}
    if package:
        variables["PYTHONPATH"] = str(PACKAGE)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**variables, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    """A data folder that existed before the model did, then migrated by the one command."""
    data = tmp_path / "data"
    run("import sys, larvik; larvik.connect(sys.argv[1]).close()", data)
    command = "from larvik.cli import main; import sys; main(sys.argv[1:])"
    run(command, "migrate", "--data", data, LARVIK_MODELS="larvik_phase")
    return data


EXPECTED = {
    "name": "phase 1",
    "dims": ["angle", "y", "x"],
    "sum": 276.0,
    "reverse": ["phase 1"],
    "frame": [532.0],
}


def test_the_model_works_on_a_folder(migrated: Path) -> None:
    run(CREATE, migrated)
    assert json.loads(run(READ, migrated)) == EXPECTED


def test_the_model_works_on_a_server_and_without_its_package(migrated: Path) -> None:
    environment = {"LARVIK_MODELS": "larvik_phase", "PYTHONPATH": str(PACKAGE)}
    with larvik_server(migrated, environment=environment) as server:
        run(CREATE, server.url, LARVIK_TOKEN=server.token)
        assert json.loads(run(READ, server.url, LARVIK_TOKEN=server.token)) == EXPECTED
        generic = json.loads(run(WITHOUT, server.url, package=False, LARVIK_TOKEN=server.token))
        assert generic == {"name": "phase 1", "wavelength": 532.0, "sum": 276.0, "refused": "MODEL_READ_ONLY"}
        listed = json.loads(run(LIST, server.flight_url, server.token, package=False))
        assert [path[0] for path in listed].count("arrays") == 1
        assert ["models", "PhaseStack"] in listed


def test_a_folder_without_the_migration_is_refused_by_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    run("import sys, larvik; larvik.connect(sys.argv[1]).close()", data)
    told = run(
        "import sys, larvik\ntry: larvik.connect(sys.argv[1], models=['larvik_phase'])\n"
        "except larvik.errors.PreconditionError as error: print(error.message)",
        data,
    )
    assert "larvik migrate" in told
