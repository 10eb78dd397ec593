from __future__ import annotations

import threading
from pathlib import Path

import pytest

from larvik.errors import InvalidArgumentError, PreconditionError
from larvik.services.roots import Roots


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("pixels")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def outside(roots: Roots, path: Path | str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        roots.find(str(path))
    assert caught.value.reason in ("PATH_OUTSIDE_ROOTS", "PATH_INVALID")


def test_a_path_below_a_root_is_found(tmp_path: Path, images: Path) -> None:
    roots = Roots(tmp_path, [str(images)])
    root, key = roots.find(str(images / "sub" / "a.txt"))
    assert key == "sub/a.txt"
    assert roots.local_path(root, key) == str(images / "sub" / "a.txt")


def test_a_relative_path_is_taken_below_a_root(tmp_path: Path, images: Path) -> None:
    assert Roots(tmp_path, [str(images)]).find("sub/a.txt")[1] == "sub/a.txt"


@pytest.mark.parametrize(
    "path", ["../secret.txt", "sub/../../secret.txt", "/etc/passwd", "a\0b", "s3://other/x"]
)
def test_paths_outside_every_root_are_refused(tmp_path: Path, images: Path, path: str) -> None:
    outside(Roots(tmp_path, [str(images)]), path)


def test_a_symlink_out_of_a_root_is_refused(tmp_path: Path, images: Path) -> None:
    (images / "link.txt").symlink_to(tmp_path / "secret.txt")
    outside(Roots(tmp_path, [str(images)]), images / "link.txt")


def test_a_folder_whose_name_only_begins_like_a_root_is_refused(tmp_path: Path, images: Path) -> None:
    (tmp_path / "images2").mkdir()
    outside(Roots(tmp_path, [str(images)]), tmp_path / "images2")


def test_a_location_names_no_path_of_the_host_and_opens_again(tmp_path: Path, images: Path) -> None:
    roots = Roots(tmp_path, [str(images)])
    location = roots.location(*roots.find("sub/a.txt"))
    assert str(tmp_path) not in location
    store, key = Roots(tmp_path, [str(images)]).open(location)
    assert store.read(key) == b"pixels"


def test_a_root_that_is_not_configured_any_more_is_named_as_the_cause(tmp_path: Path, images: Path) -> None:
    roots = Roots(tmp_path, [str(images)])
    with pytest.raises(PreconditionError) as caught:
        Roots(tmp_path).open(roots.location(*roots.find("sub/a.txt")))
    assert caught.value.reason == "ROOT_UNKNOWN"


def test_a_bucket_can_be_a_root(tmp_path: Path) -> None:
    roots = Roots(tmp_path, ["s3://bucket/images"])
    root, key = roots.find("s3://bucket/images/a.ome.zarr/")
    assert (root.is_remote, key) == (True, "a.ome.zarr")
    outside(roots, "s3://bucket/images2/a.ome.zarr")
    with pytest.raises(InvalidArgumentError):
        roots.find("s3://bucket/images/../secret")


def test_an_embedded_process_adopts_the_folder_of_what_it_registers(tmp_path: Path, images: Path) -> None:
    roots = Roots(tmp_path)
    location = roots.location(*roots.adopt(str(images / "sub")))
    assert roots.adopt(str(images / "sub" / "a.txt"))[1] == "sub/a.txt"
    store, key = Roots(tmp_path).open(location)
    assert store.read(f"{key}/a.txt") == b"pixels"
    outside(Roots(tmp_path), images / "sub")


def test_roots_that_several_processes_adopt_at_once_all_stay(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) / "array" for number in range(12)]
    for path in paths:
        path.mkdir(parents=True)
    barrier = threading.Barrier(len(paths))
    locations: list[str] = []

    def adopt(path: Path) -> None:
        roots = Roots(tmp_path)  # one for each, as processes have
        barrier.wait()
        locations.append(roots.location(*roots.adopt(str(path))))

    threads = [threading.Thread(target=adopt, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({Roots(tmp_path).open(location)[0].url for location in locations}) == len(paths)
