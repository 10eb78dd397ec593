from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile

from larvik.errors import CallCancelledError, InvalidArgumentError, LarvikError, SelectionError
from larvik.query.query import Page, Query
from larvik.services.bound import BoundCatalog, BoundUploads
from larvik.services.bundle import ServiceConfig, Services, open_services
from larvik.services.import_flow import import_all
from larvik.services.import_options import ImportOptions
from larvik.services.import_parents import find_original
from larvik.services.prefetch import read_ahead


def write_tiff(path: Path, array: np.ndarray, *, axes: str = "ZCYX", **metadata: object) -> Path:
    tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": axes, **metadata})
    return path


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (3, 2, 40, 50), dtype=np.uint8)


@pytest.fixture
def image(tmp_path: Path, stack: np.ndarray) -> Path:
    return write_tiff(
        tmp_path / "cells.ome.tiff", stack, Channel={"Name": ["DAPI", "GFP"]}, PhysicalSizeX=0.5
    )


class Importer:
    """Imports as a connection does, and counts rows."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.me = services.identity.local()
        self.rows = BoundCatalog(services.catalog, self.me)
        self.uploads = BoundUploads(lambda: services.uploads, self.me)

    def __call__(self, *paths: Path, cancelled=None, progress=None, **options: object):
        return import_all(
            self.rows, self.uploads, [str(path) for path in paths], ImportOptions.of(options),
            cancelled=cancelled, progress=progress,
        )  # fmt: skip

    def one(self, path: Path, **options: object):
        (record,) = self(path, **options).records
        return record

    def counts(self) -> dict[str, int]:
        models = ("Experiment", "Sample", "File", "Series", "Representation", "Channel")
        return {model: self.services.catalog.count(self.me, Query(model)) for model in models}

    def nothing_is_left(self) -> bool:
        return not any(self.counts().values()) and not list(self.services.store.list("arrays"))


@pytest.fixture
def importer(services: Services) -> Importer:
    return Importer(services)


def pixels_of(services: Services, record) -> np.ndarray:
    reader = services.arrays.reader(services.arrays.stored(record), 0)
    return reader.read(tuple(slice(0, size) for size in reader.shape))


def test_pixels_parents_and_metadata_arrive(services, importer, image, stack) -> None:
    record = importer.one(image, sample="Slide", experiment="Study")
    assert record.values["dims"] == tuple("tczyx")
    np.testing.assert_array_equal(pixels_of(services, record)[0], stack.transpose(1, 0, 2, 3))
    assert importer.counts() == {
        "Experiment": 1, "Sample": 1, "File": 1, "Series": 1, "Representation": 1, "Channel": 2,
    }  # fmt: skip
    file = services.catalog.page(importer.me, Query("File")).records[0].values
    assert (file["name"], file["size_bytes"]) == ("cells.ome.tiff", image.stat().st_size)
    series = services.catalog.page(importer.me, Query("Series")).records[0].values
    assert "location" not in series["info"]
    assert (record.values["type"], record.values["kind"]) == ("initial", "intensity")


def test_importing_again_returns_what_is_there(importer, image) -> None:
    first = importer.one(image, sample="Slide")
    moved = image.rename(image.with_name("renamed.ome.tiff"))
    assert importer.one(moved, sample="Slide").values == first.values
    assert importer.counts()["Representation"] == 1


def test_importing_anew_when_told_so(importer, image) -> None:
    first = importer.one(image, sample="Slide")
    second = importer.one(image, sample="Slide", again=True)
    assert first.values["id"] != second.values["id"]
    assert importer.counts() | {"Channel": 0} == {
        "Experiment": 0, "Sample": 1, "File": 1, "Series": 1, "Representation": 2, "Channel": 0,
    }  # fmt: skip
    assert importer.one(image).values["id"] == second.values["id"]


def test_what_is_in_the_trash_is_imported_anew(services, importer, image) -> None:
    first = importer.one(image)
    services.catalog.delete(importer.me, "Representation", str(first.values["id"]))
    assert importer.one(image).values["id"] != first.values["id"]


def test_one_changed_pixel_makes_another_original(importer, image, stack, tmp_path) -> None:
    importer.one(image)
    stack[0, 0, 0, 0] += 1
    other = write_tiff(
        tmp_path / "other.ome.tiff", stack, Channel={"Name": ["DAPI", "GFP"]}, PhysicalSizeX=0.5
    )
    importer.one(other)
    assert importer.counts()["File"] == 2


def test_samples_are_found_by_name_within_their_experiment(importer, image, stack, tmp_path) -> None:
    one = importer.one(image, sample="Slide", experiment="Study")
    files = [write_tiff(tmp_path / f"{n}.ome.tiff", stack + n) for n in (1, 2)]
    same = importer.one(files[0], sample="Slide", experiment="Study")
    other = importer.one(files[1], sample="Slide", experiment="Second study")
    assert one.values["sample_id"] == same.values["sample_id"] != other.values["sample_id"]
    assert (importer.counts()["Sample"], importer.counts()["Experiment"]) == (2, 2)


def test_with_an_experiment_alone_each_file_is_a_sample(services, importer, image) -> None:
    importer.one(image, experiment="Study")
    sample = services.catalog.page(importer.me, Query("Sample")).records[0].values
    assert sample["name"] == "cells"


def test_a_broken_file_among_ten_leaves_nine_and_one_reason(importer, image, stack, tmp_path) -> None:
    files = [write_tiff(tmp_path / f"{number}.ome.tiff", stack + number) for number in range(10)]
    data = files[4].read_bytes()
    files[4].write_bytes(data[: len(data) // 2])
    outcome = importer(*files, sample="Slide")
    assert len(outcome.records) == 9
    (failure,) = outcome.failures
    assert failure.path == str(files[4])
    assert failure.reason == "FILE_UNREADABLE"
    assert "4.ome.tiff" in failure.message
    assert (importer.counts()["File"], importer.counts()["Representation"]) == (9, 9)


def test_a_file_that_breaks_halfway_leaves_nothing(importer, tmp_path, monkeypatch) -> None:
    big = np.random.default_rng(0).integers(0, 255, (40, 1024, 1024), dtype=np.uint8)
    path = tmp_path / "big.ome.tiff"
    tifffile.imwrite(path, big, photometric="minisblack", compression="zlib", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[38].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 1000)
    outcome = importer(path, sample="Slide", experiment="Study")
    assert [failure.reason for failure in outcome.failures] == ["FILE_UNREADABLE"]
    assert importer.nothing_is_left()


def test_only_the_chosen_series_are_imported(importer, image) -> None:
    assert importer(image, series=(0,)).records
    outcome = importer(image, series=(3,))
    assert [failure.reason for failure in outcome.failures] == ["SERIES_NOT_FOUND"]


def test_cancelling_leaves_nothing(importer, image) -> None:
    calls = iter([False, True])
    with pytest.raises(CallCancelledError):
        importer(image, sample="Slide", cancelled=lambda: next(calls, True))
    assert importer.nothing_is_left()


def test_an_interrupt_leaves_nothing(importer, image) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importer(image, sample="Slide", progress=interrupt)
    assert importer.nothing_is_left()


def test_progress_rises_to_its_total(importer, image) -> None:
    steps: list[tuple[int, int]] = []
    importer(image, progress=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize(
    "options",
    [{"colour": 1}, {"series": "1"}, {"series": [-1]}, {"again": "yes"}, {"sample": ""}, {"sample": 5}],
)
def test_wrong_options_are_named(options) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ImportOptions.of(options)
    assert caught.value.metadata["field"] == next(iter(options))


def test_options_survive_the_way_over_the_network() -> None:
    options = ImportOptions(sample="a", experiment="b", series=(1, 2), in_place=True)
    assert ImportOptions.of(options.to_dict()) == options


# Paths that the server sees


def server(tmp_path: Path, *roots: Path) -> Services:
    return open_services(ServiceConfig(tmp_path / "served", import_roots=tuple(map(str, roots))))


def test_a_path_below_a_root_is_imported(tmp_path, image, stack) -> None:
    with server(tmp_path, tmp_path) as services:
        me = services.identity.local()
        (record,) = services.imports.import_path(me, "cells.ome.tiff", ImportOptions(sample="Slide"))
        np.testing.assert_array_equal(pixels_of(services, record)[0], stack.transpose(1, 0, 2, 3))


def test_a_path_outside_every_root_is_refused(tmp_path, image) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "link.ome.tiff").symlink_to(image)
    with server(tmp_path, tmp_path / "roots") as services:
        for path in (
            str(image),
            "../cells.ome.tiff",
            "link.ome.tiff",
            str(tmp_path / "roots" / "link.ome.tiff"),
        ):
            with pytest.raises(LarvikError) as caught:
                services.imports.import_path(services.identity.local(), path, ImportOptions())
            assert caught.value.reason == "PATH_OUTSIDE_ROOTS"


@pytest.fixture
def zarr_image(tmp_path: Path, maker, pixels) -> Path:
    """An OME-Zarr 0.5 image, written by Larvik and copied out of its store."""
    import shutil

    record = maker.store(pixels)
    target = tmp_path / "images" / "stack.ome.zarr"
    shutil.copytree(maker.services.config.data / str(record.values["location"]), target)
    return target


def test_ome_zarr_is_registered_in_place(tmp_path, zarr_image, pixels) -> None:
    with server(tmp_path, zarr_image.parent) as services:
        me = services.identity.local()
        before = sorted((path, path.stat().st_mtime_ns) for path in zarr_image.rglob("*"))
        (record,) = services.imports.import_path(
            me, "stack.ome.zarr", ImportOptions(in_place=True, sample="Slide", experiment="Study")
        )
        assert record.values["is_registered"] is True
        assert record.values["stored_bytes"] == 0
        assert str(tmp_path) not in str(record.values["location"])
        np.testing.assert_array_equal(pixels_of(services, record), pixels)
        services.catalog.update(me, "Representation", str(record.values["id"]), {"name": "renamed"})
        services.copier.drain()
        assert list(services.store.list("arrays")) == []
        assert sorted((path, path.stat().st_mtime_ns) for path in zarr_image.rglob("*")) == before
        assert (
            services.imports.import_path(me, "stack.ome.zarr", ImportOptions(in_place=True))[0].values["id"]
            == (record.values["id"])
        )


def test_a_registered_source_that_changed_is_named(tmp_path, zarr_image) -> None:
    with server(tmp_path, zarr_image.parent) as services:
        me = services.identity.local()
        options = ImportOptions(in_place=True)
        (record,) = services.imports.import_path(me, "stack.ome.zarr", options)
        chunk = next(path for path in (zarr_image / "0" / "c").rglob("*") if path.is_file())
        chunk.write_bytes(chunk.read_bytes()[::-1])
        with pytest.raises(LarvikError) as caught:
            services.arrays.stored(record)
        assert caught.value.reason == "SOURCE_CHANGED"
        (again,) = services.imports.import_path(me, "stack.ome.zarr", options)
        assert again.values["id"] != record.values["id"]
        services.arrays.stored(again)


def test_tiff_cannot_be_registered_in_place(tmp_path, image) -> None:
    with server(tmp_path, tmp_path) as services, pytest.raises(LarvikError) as caught:
        services.imports.import_path(
            services.identity.local(), "cells.ome.tiff", ImportOptions(in_place=True)
        )
    assert caught.value.reason == "FORMAT_UNSUPPORTED"


def test_a_chunk_that_is_a_link_out_of_the_root_is_refused(tmp_path, zarr_image) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * 100)
    chunk = next(path for path in (zarr_image / "0" / "c").rglob("*") if path.is_file())
    chunk.unlink()
    chunk.symlink_to(secret)
    with server(tmp_path, zarr_image.parent) as services:
        me = services.identity.local()
        with pytest.raises(LarvikError) as caught:
            services.imports.import_path(me, "stack.ome.zarr", ImportOptions(in_place=True))
        assert caught.value.reason == "KEY_INVALID"


# Reading ahead


def test_items_arrive_in_order_and_errors_where_they_happened() -> None:
    def items():
        yield from range(3)
        raise ValueError("broken")

    with read_ahead(items()) as ahead:
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="broken"):
            next(ahead)


def test_reading_ahead_is_bounded_and_ends_with_its_block() -> None:
    produced: list[int] = []
    waiting = threading.Event()

    def items():
        for number in range(1000):
            produced.append(number)
            if number == 3:
                waiting.set()
            yield number

    with read_ahead(items(), ahead=2) as ahead:
        assert next(ahead) == 0
        assert waiting.wait(5)
        assert len(produced) <= 4
    assert len(produced) <= 5
    assert not any(thread.name == "larvik-read-ahead" for thread in threading.enumerate())


def test_selection_errors_name_the_file(importer, image) -> None:
    from larvik.services.import_flow import choose

    with pytest.raises(SelectionError, match=r"cells\.ome\.tiff has no series 2"):
        choose(str(image), [], (2,))


def test_a_series_that_another_import_stores_meanwhile_is_no_fault(services, importer, image) -> None:
    importer.one(image)
    (file,) = services.catalog.page(services.identity.local(), Query("File")).records

    class Earlier(BoundCatalog):
        """The catalog as it was before the series, for whoever asks for them first."""

        def page(self, query: Query, *, size: int = 100, token: str | None = None) -> Page:
            return Page(()) if query.model == "Series" else super().page(query, size=size, token=token)

    rows = Earlier(services.catalog, services.identity.local())
    assert find_original(rows, {"digest": file.values["digest"]}).images == {}
