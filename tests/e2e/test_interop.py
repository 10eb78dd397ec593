"""Java, Node.js and plain pyarrow list arrays, read one as tensors and read a table of metadata."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import larvik
from larvik import Representation
from larvik.testing.server import LarvikServer, larvik_server

ROOT = Path(__file__).resolve().parents[2]
PIXELS = np.random.default_rng(3).integers(0, 60_000, (2, 3, 150, 230), dtype="uint16")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LarvikServer]:
    with larvik_server(tmp_path_factory.mktemp("interop")) as running:
        with larvik.connect(running.url, token=running.token):
            import xarray as xr

            image = xr.DataArray(PIXELS, dims=list("czyx"), coords={"c": ["DAPI", "GFP"]})
            Representation.objects.from_xarray(image, name="cells")
        yield running


def built(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def java() -> list[str]:
    folder = ROOT / "client" / "java"
    built(["mvn", "--batch-mode", "--quiet", "package"], folder)
    return ["java", "-jar", str(folder / "target" / "larvik-examples.jar")]


@pytest.fixture(scope="module")
def node() -> list[str]:
    folder = ROOT / "client" / "typescript"
    built(["npm", "ci", "--no-audit", "--no-fund", "--silent"], folder)
    built(["npm", "run", "build", "--silent"], folder)
    built(["npm", "test", "--silent"], folder)
    return ["node", str(folder / "dist" / "read_arrays.js")]


@pytest.fixture(scope="module")
def python() -> list[str]:
    # Isolated from the project: what the example imports is pyarrow and numpy alone.
    return [sys.executable, str(ROOT / "client" / "examples" / "python" / "read_arrays.py")]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", ["java", "node", "python"])
def test_a_client_without_larvik_lists_and_reads(server, language, request):
    command = request.getfixturevalue(language)
    environment = {**os.environ, "LARVIK_TOKEN": server.reader_token}
    done = subprocess.run(
        [*command, server.flight_url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    array_id = Representation.objects.using(_connected(server)).get(name="cells").id
    assert f"array {array_id} uint16 (c,z,y,x) 2,3,150,230" in lines
    assert f"read {array_id} {PIXELS.nbytes} bytes crc32 {zlib.crc32(PIXELS.tobytes()):08x}" in lines
    (columns,) = [line for line in lines if line.startswith("table Channel columns ")]
    assert "Name" in columns
    assert [line for line in lines if line.startswith("row ")] == [
        line for line in lines if re.fullmatch(r"row (DAPI|GFP) .*", line)
    ]
    assert "rows 2" in lines


@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", ["java", "node", "python"])
def test_a_client_with_a_wrong_token_is_told_so(server, language, request):
    command = request.getfixturevalue(language)
    environment = {**os.environ, "LARVIK_TOKEN": "nobody"}
    done = subprocess.run(
        [*command, server.flight_url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "not one of this Larvik" in done.stderr


def _connected(server: LarvikServer) -> larvik.Connection:
    return larvik.connect(server.url, token=server.token)
