"""Every snippet of the documentation runs, top to bottom, as it stands on the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from larvik.testing.server import larvik_server

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "client" / "examples" / "images" / "embryo.ome.tiff"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: Path) -> list[tuple[str, str]]:
    return FENCE.findall(page.read_text())


def test_there_is_a_page_for_every_kind_of_reader() -> None:
    names = {page.name for page in PAGES}
    assert {
        "README.md",
        "first-hour.md",
        "queries.md",
        "arrays.md",
        "import-export.md",
        "operating.md",
    } <= names


@pytest.mark.parametrize("page", [p for p in PAGES if snippets(p)], ids=lambda page: page.stem)
def test_the_snippets_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    shutil.copy(IMAGE, tmp_path / "cells.ome.tiff")
    (tmp_path / "broken.tif").write_bytes(IMAGE.read_bytes()[:500])
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LARVIK_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MPLBACKEND": "agg",
    }
    _run("python", PREPARE, tmp_path, environment)
    if page.name != "README.md":
        _run("python", merged(page), tmp_path, environment)
        for language, code in snippets(page):
            if language == "sh":
                _run("sh", code, tmp_path, environment)
        return
    with larvik_server(tmp_path / "lab-data") as server:
        environment["LARVIK_TOKEN"] = server.token
        address = server.url.removeprefix("larvik://")
        _run("python", merged(page).replace("localhost:7410", address), tmp_path, environment)


def merged(page: Path) -> str:
    """The page's Python, as one program: later snippets use the names of earlier ones."""
    return "\n".join(code for language, code in snippets(page) if language == "python")


PREPARE = """
import larvik
with larvik.connect("lab-data/"):
    larvik.import_file("cells.ome.tiff", sample="Slide 1", experiment="Animal study")
"""


def _run(language: str, code: str, folder: Path, environment: dict[str, str]) -> None:
    command = (
        [sys.executable, "-W", "error::UserWarning", "-c", code]
        if language == "python"
        else ["bash", "-euc", code]
    )
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{code}\n--- failed with ---\n{done.stdout}\n{done.stderr}"


LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_links_lead_to_files_that_exist() -> None:
    every = [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "client/README.md"))]
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in every
        for link in LINK.findall(page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not broken


def test_every_setting_is_on_the_page_for_operators() -> None:
    from larvik_server.settings import describe

    page = (ROOT / "docs" / "operating.md").read_text()
    unlisted = {"http_port", "public_http_url"}  # nothing listens there
    missing = [
        setting.name
        for setting in describe()
        if setting.name not in unlisted
        and f"`{setting.name}`" not in page
        and f"`.{setting.name.partition('.')[2]}`" not in page
    ]
    assert not missing


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(LINK.findall((folder / "README.md").read_text()))
    assert listed == {page.name for page in folder.glob("*.md")} - {"README.md"}
