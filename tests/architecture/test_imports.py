"""What importing Larvik costs, and who may import which library.

The directions between our own packages are proved by import-linter in `make check`.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "larvik": ROOT / "larvik",
    "larvik_server": ROOT / "server" / "larvik_server",
    "larvik_client": ROOT / "client" / "python" / "larvik_client",
}
HEAVY = (
    "numpy",
    "pandas",
    "xarray",
    "sqlalchemy",
    "pyarrow",
    "grpc",
    "zarr",
    "dask",
    "google.protobuf",
    "matplotlib",
)
FLIGHT_OWNERS = ("larvik.wire", "larvik_server", "larvik_client")


def modules_loaded_by(statement: str) -> set[str]:
    """Return the names of the modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport sys\nprint(*sorted(sys.modules), sep='\\n')"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["larvik", "larvik.models", "larvik.query", "larvik.schema", "larvik.errors", "larvik.connection"],
)
def test_importing_larvik_loads_the_standard_library_alone(module):
    before = modules_loaded_by("pass")
    outside = {
        name.partition(".")[0]
        for name in modules_loaded_by(f"import {module}") - before
        if name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert outside == {"larvik"}


def test_importing_a_model_by_its_public_name_loads_nothing_heavy():
    loaded = modules_loaded_by("from larvik import Representation, connect")
    assert sorted(loaded.intersection(HEAVY)) == []


def sources() -> list[tuple[str, Path]]:
    """Return the dotted name and the path of every module of ours."""
    found = []
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found.append((".".join((package, *parts)).removesuffix(".__init__"), path))
    return found


def imported_names(path: Path) -> set[str]:
    """Return every dotted name that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_only_the_wire_the_server_and_the_client_touch_flight():
    strangers = [
        name
        for name, path in sources()
        if not name.startswith(FLIGHT_OWNERS)
        and any(imported.startswith("pyarrow.flight") for imported in imported_names(path))
    ]
    assert strangers == []


def test_no_module_of_ours_imports_by_a_relative_path():
    relative = [
        name
        for name, path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
