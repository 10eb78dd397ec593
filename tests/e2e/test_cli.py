"""The `larvik` command as people run it: on a folder and against a server, well used and badly used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import larvik
from larvik.query.query import Query
from larvik.testing.server import larvik_server

LARVIK = Path(sys.executable).parent / "larvik"
EMBRYO = Path(__file__).parents[2] / "client" / "examples" / "images" / "embryo.ome.tiff"
COMMANDS = (
    "import", "export", "ls", "show", "query", "serve", "migrate", "doctor", "health", "admin usage",
    "admin backup", "admin restore", "admin keys list", "admin keys create", "admin keys revoke",
    "config show",
)  # fmt: skip
WITH_EXAMPLE = ("import", "export", "ls", "show", "query", "serve", "migrate", "doctor", "admin backup")


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LARVIK_")}
    return {**kept, "MPLBACKEND": "agg", **more}


def run(*arguments: object, token: str | None = None, folder: Path | None = None) -> Any:
    """Run the command; a traceback is never an answer."""
    done = subprocess.run(
        [LARVIK, *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=folder,
        env=environment(**({"LARVIK_TOKEN": token} if token else {})),
    )  # fmt: skip
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


@dataclass
class Place:
    """Where a lab is: options that say so, and the token."""

    options: tuple[object, ...]
    token: str | None = None
    image: str = ""
    files: dict[str, Path] = field(default_factory=dict)

    def run(self, *arguments: object) -> Any:
        return run(*arguments, *self.options, token=self.token)

    def json(self, *arguments: object) -> Any:
        done = self.run(*arguments, "--json")
        return json.loads(done.stdout, parse_constant=pytest.fail)


@pytest.fixture(scope="module", params=["folder", "server"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A lab with one imported image, `embryo`."""
    folder = tmp_path_factory.mktemp("lab")
    if request.param == "folder":
        yield stocked(Place(("--data", folder / "data")))
        return
    with larvik_server(folder / "data") as server:
        yield stocked(Place(("--url", server.url), server.token))


def stocked(place: Place) -> Place:
    done = place.run("import", EMBRYO, "--sample", "Slide 1", "--experiment", "Animal study", "--json")
    assert done.returncode == 0, done.stderr
    place.image = json.loads(done.stdout)["imported"][0]["id"]
    return place


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good and bad files by name."""
    folder = tmp_path_factory.mktemp("files")
    found = {
        name: folder / name
        for name in (
            "good.ome.tiff",
            "other.tif",
            "cut.ome.tiff",
            "garbage.tif",
            "note.txt",
            "empty",
            "two.tif",
        )
    }
    shutil.copy(EMBRYO, found["good.ome.tiff"])
    tifffile.imwrite(found["other.tif"], np.arange(600, dtype=np.uint16).reshape(20, 30))
    found["cut.ome.tiff"].write_bytes(EMBRYO.read_bytes()[:3000])
    found["garbage.tif"].write_bytes(np.random.default_rng(0).bytes(20_000))
    found["note.txt"].write_text("a note")
    found["empty"].mkdir()
    with tifffile.TiffWriter(found["two.tif"]) as writer:  # two series, of two shapes
        writer.write(np.zeros((8, 9), np.uint8))
        writer.write(np.ones((5, 6), np.uint16))
    return found


# Import


def test_inspect_lists_series_and_stores_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    done = run("import", "--inspect", files["two.tif"], files["good.ome.tiff"], "--json", folder=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert [one["series"] for one in found["series"]] == [0, 1, 0]
    assert found["series"][2]["shape"] == [1, 1, 100, 256, 256]
    assert not list(tmp_path.iterdir())


def test_inspect_of_a_broken_file_among_good_ones_lists_the_good_ones(files: dict[str, Path]) -> None:
    done = run("import", "--inspect", files["cut.ome.tiff"], files["two.tif"])
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3
    assert len(done.stderr.splitlines()) == 1
    assert "truncated" in done.stderr


def test_a_series_is_chosen_by_number(lab: Place, files: dict[str, Path]) -> None:
    (made,) = lab.json("import", files["two.tif"], "--series", 1, "--sample", "Slide 2")["imported"]
    assert made["shape"][-2:] == [5, 6]
    refused = lab.run("import", files["two.tif"], "--series", 7)
    assert refused.returncode == 1
    assert "has no series 7" in refused.stderr


def test_an_image_is_imported_twice_only_when_told_so(lab: Place) -> None:
    first, again = lab.json("import", EMBRYO), lab.json("import", EMBRYO, "--again", "--sample", "Slide 9")
    assert first["imported"][0]["id"] == lab.image
    assert again["imported"][0]["id"] != lab.image


def test_broken_files_leave_the_others_imported_with_one_line_each(
    lab: Place, files: dict[str, Path]
) -> None:
    bad = [files[name] for name in ("cut.ome.tiff", "garbage.tif", "note.txt", "empty")]
    missing = files["empty"] / "nowhere.tif"
    done = lab.run("import", bad[0], files["good.ome.tiff"], *bad[1:], missing, files["other.tif"])
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1 + 2
    lines = [line for line in done.stderr.splitlines() if not line.endswith("%")]
    assert len(lines) == 5
    for line, path in zip(lines, [*bad, missing], strict=True):
        assert line.startswith("larvik: ")
        assert path.name in line
        assert line.endswith("]")


def test_ctrl_c_during_an_import_leaves_nothing_visible(lab: Place, tmp_path: Path) -> None:
    big = tmp_path / "big.tif"
    tifffile.imwrite(big, np.random.default_rng(1).integers(0, 4096, (96, 1024, 1024), dtype=np.uint16))
    variables = environment(**({"LARVIK_TOKEN": lab.token} if lab.token else {}))
    process = subprocess.Popen(
        [LARVIK, "import", big, *map(str, lab.options)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "big.tif 10%\n"
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "larvik: cancelled."
    assert "Traceback" not in said
    assert not printed
    assert lab.run("query", "Representation", "name=big", "--count").stdout == "0\n"


# List, show, query, export


def test_ls_gives_an_overview_and_the_rows_of_a_model(lab: Place) -> None:
    overview = {row["experiment"]: row for row in lab.json("ls")}
    assert overview["Animal study"]["images"] >= 1
    assert "Animal study" in lab.run("ls").stdout
    assert "Slide 1" in [row["name"] for row in lab.json("ls", "samples")]
    table = lab.run("ls", "images").stdout.splitlines()
    assert table[0].split("\t")[:3] == ["id", "name", "type"]
    assert "sample__name" in table[0]
    assert any(lab.image in line for line in table)


def test_show_tells_what_an_image_is_and_draws_it(lab: Place, tmp_path: Path) -> None:
    picture = tmp_path / "embryo.png"
    done = lab.run("show", lab.image, "--png", picture)
    assert done.returncode == 0, done.stderr
    for words in ("1 1 100 256 256", "uint16", "z 1 micrometer", "nuclei-GFP", "Animal study"):
        assert words in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = lab.json("show", lab.image)
    assert found["id"] == lab.image
    assert found["channels"][0]["EmissionWavelength"] == 509


def test_a_name_that_several_arrays_have_is_refused_with_their_ids(lab: Place) -> None:
    lab.run("import", EMBRYO, "--again")
    done = lab.run("show", "embryo")
    assert done.returncode == 2
    assert lab.image in done.stderr


def test_query_takes_conditions_order_columns_and_limits(lab: Place) -> None:
    conditions = ("sample__experiment__name__startswith=Animal", "type=initial", "name=embryo")
    rows = lab.json("query", "representation", *conditions, "--columns", "id, sample__name")
    assert {"id": lab.image, "sample__name": "Slide 1"} in rows
    counted = lab.run("query", "Representation", *conditions, "--count")
    assert json.loads(counted.stdout) == len(rows)
    newest = lab.json("query", "Representation", "--order-by=-created_at", "--columns", "created_at")
    times = [row["created_at"] for row in newest]
    assert times == sorted(times, reverse=True)
    assert len(lab.json("query", "Representation", "--limit", 1)) == 1


def test_conditions_on_channels_speak_of_the_same_channel(lab: Place) -> None:
    name, other = "biometa__channels__name=nuclei-GFP", "biometa__channels__emission_wavelength"
    assert lab.json("query", "Representation", name, f"{other}__lt=600", "--count") > 0
    assert lab.json("query", "Representation", name, f"{other}__gt=600", "--count") == 0


@pytest.mark.parametrize("lab", ["folder"], indirect=True)
def test_times_are_written_as_dates(lab: Place) -> None:
    assert lab.json("query", "Representation", "created_at__gt=2001-02-03", "--count") > 0
    assert lab.json("query", "Representation", "created_at__lt=2001-02-03T04:05", "--count") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("query", "Representation", "smaple__name=x"), "Did you mean 'sample'"),
        (("query", "Representation", "name__beginswith=x"), "startswith"),
        (("query", "Representation", "--columns", "nme"), "Did you mean 'name'"),
        (("query", "Representation", "--order-by", "nme"), "Did you mean 'name'"),
        (("query", "Representation", "stored_bytes__gt=much"), "takes a number"),
        (("query", "Representation", "created_at__gt=yesterday"), "takes a time"),
        (("query", "Representation", "id=3"), "UUID"),
        (("query", "Representation", "name"), "FIELD=VALUE"),
        (("query", "Representation", "--limit", "0"), "--limit"),
        (("query", "Representation", "name=" + "a" * 100_000), "characters"),
        (("show", "embryo", "--png", "embryo.svg"), ".png"),
        (("export", "ID", "embryo.docx"), "embryo.docx"),
    ],
    ids=lambda words: "-".join(words)[:40] if isinstance(words, tuple) else "",
)
@pytest.mark.parametrize("lab", ["folder"], indirect=True)
def test_wrong_words_are_refused_with_the_cure(lab: Place, words: tuple[str, ...], told: str) -> None:
    done = lab.run(*(lab.image if word == "ID" else word for word in words))
    assert done.returncode == 2
    assert told in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    "words", [("ls", "sampels"), ("show", "nothing"), ("export", "nothing", "x.ome.tiff")]
)
@pytest.mark.parametrize("lab", ["folder"], indirect=True)
def test_what_is_not_there_exits_with_3(lab: Place, words: tuple[str, ...]) -> None:
    done = lab.run(*words)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)


def test_export_writes_files_that_exist_only_when_whole(lab: Place, tmp_path: Path) -> None:
    target = tmp_path / "out.ome.tiff"
    done = lab.run("export", lab.image, target)
    assert (done.returncode, done.stdout) == (0, f"{target}\n"), done.stderr
    assert np.array_equal(tifffile.imread(target).squeeze(), tifffile.imread(EMBRYO).squeeze())
    assert lab.run("export", lab.image, target).returncode == 6
    assert lab.run("export", lab.image, target, "--overwrite").returncode == 0
    assert lab.run("export", lab.image, tmp_path / "no" / "out.ome.zarr").returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.ome.tiff"]


# Where to look


def test_a_folder_that_is_none_is_refused_and_not_made(tmp_path: Path) -> None:
    for words in (("ls",), ("query", "Sample"), ("show", "x"), ("admin", "usage"), ("doctor",)):
        done = run(*words, "--data", tmp_path / "mistyped")
        assert done.returncode == 3
        assert "is no data folder" in done.stderr
    assert not list(tmp_path.iterdir())


def test_doctor_leaves_alone_what_is_younger_than_it_is_told(tmp_path: Path) -> None:
    with larvik.connect(tmp_path / "lab") as connection:
        connection.catalog.count(Query("Sample"))
    left = tmp_path / "lab" / "arrays" / "zz" / "left.ome.zarr" / "zarr.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    doctor = ("doctor", "--fix", "--data", tmp_path / "lab")
    assert "in order" in run(*doctor, "--grace", "30m").stdout
    refused = run(*doctor, "--grace", "soon")
    assert (refused.returncode, left.exists()) == (2, True)
    assert "30m" in refused.stderr
    assert "fixed: array without a row" in run(*doctor, "--grace", "0").stdout
    assert not left.exists()


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--url", "larvik://localhost:1"), 5, "No Larvik server answers"),
        (("--url", "larvik+insecure://no-such-host.invalid:7410"), 5, "No Larvik server answers"),
        (("--url", "https://localhost:1"), 2, "larvik://host:port"),
        (("--url", "larvik://"), 2, "larvik://host:port"),
        (("--url", "larvik://localhost:1", "--data", "lab"), 2, "not both"),
        (("--url", "larvik://lab.invalid", "--ca", "no.pem"), 2, "no.pem cannot be read"),
        (("--data", "lab", "--ca", "no.pem"), 2, "only servers do"),
        (("--data", __file__), 3, "is no data folder"),
        ((), 2, "Nothing says where to connect"),
    ],
)
def test_places_that_are_none_are_refused(
    options: tuple[str, ...], code: int, told: str, tmp_path: Path
) -> None:
    done = run("ls", *options, token="lvk_wrong", folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_token_exits_with_4(lab: Place) -> None:
    if lab.token is None:
        done = run("ls", *lab.options, "--token", "lvk_wrong")
        assert (done.returncode, "takes no token" in done.stderr) == (2, True)
        return
    for token in (None, "lvk_wrong", "wrong", "\u2603"):
        done = run("ls", *lab.options, token=token)
        assert done.returncode == 4, done.stderr
        assert len(done.stderr.splitlines()) == 1


# Output


def test_a_reader_that_leaves_early_is_no_error(lab: Place) -> None:
    variables = environment(**({"LARVIK_TOKEN": lab.token} if lab.token else {}))
    where = " ".join(map(str, lab.options))
    for words in ("query OriginalMetadata --json", "ls images", "ls --help"):
        place = "" if "--help" in words else where
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {LARVIK} {words} {place} | head -c 1 > /dev/null"],
            env=variables, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), words


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    purpose = done.stdout.split("\n\n")[1].strip()
    assert purpose
    assert purpose[0].isupper()
    assert ("Example" in done.stdout) or command not in WITH_EXAMPLE
    assert f"larvik {command} " in done.stdout


def test_the_overview_of_commands_is_not_cut() -> None:
    done = run("--help")
    assert {
        line.split()[0] for line in done.stdout.split("Commands:")[1].splitlines() if line[2:3].strip()
    } >= {command.split()[0] for command in COMMANDS}
    assert "..." not in done.stdout.split("Commands:")[1]


def test_usage_errors_name_the_help() -> None:
    for words in (("nosuch",), ("import",), ("ls", "--nosuch"), ("query", "Sample", "--limit", "many")):
        done = run(*words)
        assert done.returncode == 2
        assert "--help" in done.stderr
