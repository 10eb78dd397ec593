"""Where connect() goes, what it takes from the environment, and what it says when it cannot."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import larvik
from larvik import Experiment, Representation, profiles
from larvik.connection import (
    LazyConnection,
    _folder,
    _Opening,
    alive,
    connection_for,
    current_or_none,
    evaluator_for,
    lazy_connection,
)
from larvik.errors import (
    InvalidArgumentError,
    LarvikError,
    NotFoundError,
    PreconditionError,
    UnsupportedError,
)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("LARVIK_URL", "LARVIK_TOKEN", "LARVIK_DATA", "LARVIK_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return monkeypatch


def write_profiles(text: str) -> None:
    profiles.path().parent.mkdir(parents=True, exist_ok=True)
    profiles.path().write_text(text)


LAB = '[profiles.lab]\nurl = "larvik://lab:7410"\ntoken = "secret"\n'


def test_the_argument_comes_first_then_url_then_folder_then_profile(environment: pytest.MonkeyPatch) -> None:
    write_profiles('current = "lab"\n' + LAB)
    assert profiles.destination(None) == ("larvik://lab:7410", "secret")
    environment.setenv("LARVIK_DATA", "folder")
    assert profiles.destination(None) == ("folder", None)
    environment.setenv("LARVIK_URL", "larvik://other:1")
    assert profiles.destination(None) == ("larvik://other:1", None)
    assert profiles.destination("here") == ("here", None)


def test_a_url_takes_the_token_of_its_profile() -> None:
    write_profiles(LAB)
    assert profiles.destination("larvik://lab:7410/") == ("larvik://lab:7410/", "secret")
    assert profiles.destination("larvik://elsewhere:7410") == ("larvik://elsewhere:7410", None)


def test_the_token_of_the_environment_never_goes_to_another_server(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LARVIK_TOKEN", "mine")
    assert profiles.destination("larvik://a:1")[1] == "mine"
    environment.setenv("LARVIK_URL", "larvik://a:1")
    assert profiles.destination("larvik://a:1")[1] == "mine"
    assert profiles.destination("larvik://b:1")[1] is None


def test_the_environment_chooses_a_profile(environment: pytest.MonkeyPatch) -> None:
    write_profiles(LAB)
    environment.setenv("LARVIK_PROFILE", "lba")
    with pytest.raises(InvalidArgumentError, match="Did you mean 'lab'") as caught:
        profiles.destination(None)
    assert caught.value.reason == "PROFILE_INVALID"
    environment.setenv("LARVIK_PROFILE", "lab")
    assert profiles.destination(None)[0] == "larvik://lab:7410"


@pytest.mark.parametrize(
    "text", ["not toml", "profiles = 3", "[profiles.lab]\nurl = 3", "[profiles]\nlab = 'x'"]
)
def test_a_broken_file_of_profiles_is_named(text: str) -> None:
    write_profiles(text)
    with pytest.raises(InvalidArgumentError, match=r"profiles\.toml"):
        profiles.load()


def test_a_token_does_not_show_in_a_profile() -> None:
    write_profiles(LAB)
    assert "secret" not in repr(profiles.load())


def test_secrets_do_not_show_in_what_is_open(tmp_path: Path) -> None:
    with larvik.connect(tmp_path / "a") as connection:
        opening = _Opening(connection, connection.url, "xyzzy-token", {"store_options": {"key": "xyzzy"}})
    assert "xyzzy" not in repr(opening)


def test_nothing_given_names_every_way_to_give_it() -> None:
    with pytest.raises(InvalidArgumentError, match="LARVIK_URL or LARVIK_DATA") as caught:
        larvik.connect()
    assert "profiles.toml" in caught.value.message


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("http://localhost:7410", r"larvik://host:port"),
        ("s3://bucket", "cannot connect to s3"),
        ("localhost:7410", "write larvik://localhost:7410"),
        ("", "empty"),
        ("a\0b", "empty or not text"),
        (7410, "not text"),
        ("file://elsewhere/data", "no folder of this machine"),
    ],
)
def test_what_is_no_place_is_refused_with_the_way_to_write_it(where: object, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        larvik.connect(where)  # type: ignore[arg-type]


def test_a_folder_takes_no_token(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no token"):
        larvik.connect(tmp_path, token="secret")
    assert not list(tmp_path.iterdir())


def test_folders_are_named_by_path_or_url(tmp_path: Path) -> None:
    assert _folder(str(tmp_path)) == _folder(f"file://{tmp_path}") == str(tmp_path)
    assert _folder("~/data") == os.path.expanduser("~/data")
    assert _folder("file:///a%20b") == "/a b"


def test_nothing_connected_says_what_to_call() -> None:
    with pytest.raises(PreconditionError, match=r"larvik\.connect"):
        larvik.current()


def test_a_lazy_connection_opens_nothing_until_it_is_asked() -> None:
    lazy = lazy_connection("larvik://nowhere:1")
    again = pickle.loads(pickle.dumps(lazy))
    assert (again.url, type(again)) == ("larvik://nowhere:1", LazyConnection)


def test_the_default_is_what_was_connected_last_and_is_still_open(tmp_path: Path) -> None:
    with larvik.connect(tmp_path / "a") as first:
        with larvik.connect(tmp_path / "b") as second:
            assert larvik.current() is second
            assert Experiment.objects.using(first).create(name="in a")._bound() is first
            assert Experiment.objects.count() == 0
        assert larvik.current() is first
        assert Experiment.objects.get().name == "in a"
    assert current_or_none() is None


def test_a_connection_gives_the_class_of_a_model(tmp_path: Path) -> None:
    with larvik.connect(tmp_path / "a") as connection:
        assert connection.model("Representation") is Representation
        with pytest.raises(NotFoundError, match="Did you mean 'Sample'"):
            connection.model("Smaple")


def test_unpickled_rows_use_the_connection_that_is_open(tmp_path: Path) -> None:
    with larvik.connect(tmp_path / "a"):
        experiment = Experiment.objects.create(name="e")
        experiment.samples.create(name="s")
        sample = pickle.loads(pickle.dumps(experiment.samples.get()))
        assert sample.experiment == experiment
        sample.name = "changed"
        sample.save()
        assert [row.name for row in pickle.loads(pickle.dumps(experiment.samples.all()))] == ["changed"]


def test_rows_and_arrays_are_readable_in_another_process(tmp_path: Path) -> None:
    with larvik.connect(tmp_path / "a") as connection:
        row = Representation.objects.from_xarray(np.arange(12).reshape(3, 4), name="n")
        data = pickle.dumps((row, row.array.max("y")))
        assert evaluator_for(connection.url) is connection.arrays.evaluator
    (tmp_path / "pickle").write_bytes(data)
    code = """
import pickle, sys
row, lazy = pickle.load(open(sys.argv[1], "rb"))
row.refresh()
print(row.name, row.array.shape, lazy.to_numpy().tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pickle")], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("n (3, 4) [8, 9, 10, 11]\n", "")


def in_a_fork(work: Callable[[], object]) -> str:
    """Run `work` in a forked child, and return what it gave as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, repr(work()).encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read().decode()
    os.waitpid(child, 0)
    return found


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_reads_and_writes_through_connections_of_its_own(tmp_path: Path) -> None:
    with larvik.connect(tmp_path / "a") as connection:
        row = Representation.objects.from_xarray(np.arange(12).reshape(3, 4), name="n")
        lazy = row.array.max("y")
        experiment = Experiment.objects.create(name="e")
        found = Experiment.objects.using(connection)

        def work() -> object:
            made = experiment.samples.create(name="in the child")
            return made.name, found.count(), Experiment.objects.count(), lazy.to_numpy().tolist()

        assert in_a_fork(work) == "('in the child', 1, 1, [8, 9, 10, 11])"
        assert experiment.samples.get().name == "in the child"
        assert alive(connection) is connection


def test_a_closed_connection_says_so(tmp_path: Path) -> None:
    connection = larvik.connect(tmp_path / "a")
    experiment = Experiment.objects.create(name="e")
    connection.close()
    connection.close()
    assert connection.is_closed
    with pytest.raises(LarvikError, match="closed"):
        experiment.samples.count()


def test_a_url_is_opened_again_when_its_connection_was_closed(tmp_path: Path) -> None:
    with larvik.connect(tmp_path / "a") as first:
        Experiment.objects.create(name="e")
    with connection_for(first.url) as again:
        assert again is not first
        assert current_or_none() is None  # the default is what connect() was called with
        assert Experiment.objects.using(again).count() == 1


def test_a_server_without_the_client_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    with pytest.raises(UnsupportedError, match=r"pip install 'larvik\[client\]'"):
        larvik.connect("larvik://localhost:1")
