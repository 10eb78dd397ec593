"""What an installation of Larvik gives: three packages, their public names, and nothing else."""

import importlib
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "larvik": ROOT / "larvik",
    "larvik_server": ROOT / "server" / "larvik_server",
    "larvik_client": ROOT / "client" / "python" / "larvik_client",
}
GROUPS = ("larvik.commands", "larvik.connections", "larvik.readers", "xarray.chunkmanagers")


@pytest.mark.parametrize("name", ["server", "client", "tests", "protos", "benchmarks", "tools", "docs"])
def test_folders_of_the_repository_are_not_importable(name, tmp_path):
    program = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_an_installed_package_is_importable_from_anywhere(package, tmp_path):
    program = f"import {package}; print({package}.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(result.stdout.strip()).parent == PACKAGES[package]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_that_it_is_typed(package):
    assert (PACKAGES[package] / "py.typed").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_code_is_a_package(package):
    """Otherwise a wheel would leave it out."""
    folders = {path.parent for path in PACKAGES[package].rglob("*.py")}
    assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").exists()) == []


def test_every_public_name_resolves():
    larvik = importlib.import_module("larvik")
    assert larvik.__all__, "larvik has no public names"
    assert [name for name in larvik.__all__ if getattr(larvik, name, None) is None] == []
    assert set(larvik.__all__) <= set(dir(larvik))


def test_an_unknown_public_name_is_an_attribute_error():
    larvik = importlib.import_module("larvik")
    with pytest.raises(AttributeError):
        larvik.no_such_name  # noqa: B018 - reading it is the test


@pytest.mark.parametrize("group", GROUPS)
def test_every_entry_point_of_ours_loads(group):
    ours = [entry for entry in entry_points(group=group) if entry.value.startswith("larvik")]
    assert ours, f"nothing of ours in {group}: is the installation older than pyproject.toml?"
    for entry in ours:
        assert callable(entry.load()), entry.name


def test_the_version_is_the_one_that_is_installed():
    assert importlib.import_module("larvik").__version__ == distribution("larvik").version


def test_the_command_tells_its_version():
    program = Path(sys.executable).with_name("larvik")
    result = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert distribution("larvik").version in result.stdout
