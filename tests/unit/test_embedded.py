from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

import larvik
from larvik import Channel, Experiment, File, Representation, Sample, Table
from larvik.embedded import EmbeddedConnection
from larvik.errors import LarvikError, PreconditionError
from larvik.importing import import_file, import_files
from larvik.services.bundle import ServiceConfig, open_services


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[EmbeddedConnection]:
    with larvik.connect(tmp_path / "data") as opened:
        assert isinstance(opened, EmbeddedConnection)
        yield opened


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 4000, (2, 2, 3, 60, 70), dtype=np.uint16)


@pytest.fixture
def image(tmp_path: Path, stack: np.ndarray) -> Path:
    path = tmp_path / "cells.ome.tiff"
    metadata = {"axes": "TCZYX", "Channel": {"Name": ["DAPI", "GFP"], "EmissionWavelength": [450, 510]}}
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=metadata)
    return path


def stored(stack: np.ndarray, **values: object) -> Representation:
    return Representation.objects.from_xarray(stack, **{"name": "stack", **values})


def test_the_seed_example(connection, image, stack) -> None:
    import_file(image, sample="Slide 1", experiment="Animal study")
    rep = Representation.objects.filter(sample__experiment__name__startswith="Animal", type="initial").first()
    assert rep is not None
    assert rep.biometa.channels["EmissionWaveLength"].tolist() == [450, 510]
    maxisp = rep.array.sel(t=0, c=0).max(dim="z")
    np.testing.assert_array_equal(maxisp.compute(), stack[0, 0].max(axis=0))


def test_arrays_are_stored_and_read_back(connection, stack) -> None:
    rep = stored(stack)
    np.testing.assert_array_equal(Representation.objects.get(id=rep.id).array.values, stack)


def test_tables_are_stored_and_read_back(connection) -> None:
    import pandas as pd

    frame = pd.DataFrame({"area": [1.0, 2.5], "label": [1, 2]})
    table = Table.objects.from_frame(frame, name="cells")
    pd.testing.assert_frame_equal(Table.objects.get(name="cells").frame(), frame)
    assert table.num_rows == 2


def test_renaming_reaches_the_group_when_the_connection_closes(tmp_path, stack) -> None:
    from larvik.storage.ngff import read_group

    with larvik.connect(tmp_path / "data") as connection:
        rep = stored(stack)
        rep.name = "renamed"
        rep.save()
        store = connection.services.store
    assert read_group(store, rep.location).name == "renamed"


def test_import_files_reports_what_failed(connection, image, tmp_path) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + bytes(20))
    result = import_files([image, tmp_path / "broken.tif", tmp_path / "none.tif"], sample="Slide")
    assert [rep.name for rep in result.representations]
    assert [Path(failure.path).name for failure in result.failures] == ["broken.tif", "none.tif"]
    assert Sample.objects.count() == File.objects.count() == 1


def test_rows_can_be_named_instead_of_names(connection, image) -> None:
    sample = Sample.objects.create(name="Slide", experiment=Experiment.objects.create(name="Study"))
    (rep,) = import_file(image, sample=sample)
    assert rep.sample == sample
    (again,) = import_file(image, experiment=sample.experiment, again=True)
    assert again.sample.experiment == sample.experiment != again.sample


@pytest.mark.parametrize("path", [b"bytes", "", "a\0b", None, 5])
def test_what_is_no_path_is_refused(connection, path) -> None:
    with pytest.raises(LarvikError) as caught:
        import_file(path)
    assert caught.value.reason == "PATH_INVALID"


def test_ome_zarr_is_registered_in_place(connection, stack, tmp_path) -> None:
    exported = stored(stack).export(str(tmp_path / "stack.ome.zarr"))
    (rep,) = import_file(exported, in_place=True, sample="Slide")
    assert rep.is_registered
    np.testing.assert_array_equal(rep.array.values, stack)


# Sharing a folder


def test_two_connections_share_a_folder(connection, stack) -> None:
    rep = stored(stack)
    with EmbeddedConnection(connection.services.config.data) as other:
        found = Representation.objects.using(other).get(id=rep.id)
        np.testing.assert_array_equal(found.array.values, stack)


def test_a_served_folder_is_refused_and_the_url_named(tmp_path) -> None:
    config = ServiceConfig(tmp_path / "data")
    with open_services(config, serve_url="larvik://localhost:7410"):
        with pytest.raises(PreconditionError, match="larvik://localhost:7410") as caught:
            larvik.connect(tmp_path / "data")
        assert caught.value.reason == "FOLDER_SERVED"
        with open_services(config, lock=False):  # a data process of the same server
            pass
    larvik.connect(tmp_path / "data").close()


def test_a_folder_in_use_cannot_be_served(connection) -> None:
    with pytest.raises(PreconditionError) as caught:
        open_services(connection.services.config, serve_url="larvik://localhost:7410")
    assert caught.value.reason == "FOLDER_IN_USE"


@pytest.mark.parametrize("kind", ["file", "foreign database", "unwritable parent"])
def test_folders_that_cannot_be_used_are_named(tmp_path, kind) -> None:
    folder = tmp_path / "data"
    if kind == "file":
        folder.write_text("not a folder")
    elif kind == "foreign database":
        folder.mkdir()
        (folder / "larvik.db").write_bytes(b"this is no database at all, but long enough to be one" * 100)
    else:
        folder = Path("/proc/nothing/data")
    with pytest.raises(LarvikError):
        larvik.connect(folder)


# Life of a connection


def test_a_closed_connection_says_so(tmp_path) -> None:
    connection = larvik.connect(tmp_path / "data")
    connection.close()
    connection.close()
    with pytest.raises(PreconditionError) as caught:
        connection.catalog  # noqa: B018
    assert caught.value.reason == "CONNECTION_CLOSED"


def test_a_lazy_array_of_a_closed_connection_says_so(tmp_path, stack) -> None:
    with larvik.connect(tmp_path / "data"):
        lazy = stored(stack).array.max("z")
        lazy.compute()
    with pytest.raises(PreconditionError) as caught:
        lazy.compute()
    assert caught.value.reason == "CONNECTION_CLOSED"


def test_threads_share_a_connection(connection, stack) -> None:
    rep = stored(stack)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            Sample.objects.create(name=f"sample {number}")
            np.testing.assert_array_equal(rep.array.isel(t=number % 2).values, stack[number % 2])
            stored(stack[:1], name=f"derived {number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Sample.objects.count() == 6
    assert Representation.objects.count() == 7


def in_fork(function: Callable[[], object]) -> int:
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    process.join(60)
    assert process.exitcode is not None, "the child hangs"
    return process.exitcode


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_goes_on_with_services_of_its_own(connection, stack) -> None:
    rep = stored(stack)
    lazy = rep.array.max("z")

    def child() -> None:
        np.testing.assert_array_equal(lazy.values, stack.max(axis=2))
        rep.name = "from the child"
        rep.save()
        stored(stack, name="also from the child")

    assert in_fork(child) == 0
    assert Representation.objects.get(id=rep.id).name == "from the child"
    np.testing.assert_array_equal(lazy.values, stack.max(axis=2))
    assert Representation.objects.count() == 2


def test_rows_and_arrays_pickle(connection, stack) -> None:
    rep = stored(stack)
    data = pickle.dumps((rep, rep.array.max("z")))
    assert len(data) < 20_000
    row, lazy = pickle.loads(data)
    assert row == rep
    np.testing.assert_array_equal(lazy.values, stack.max(axis=2))
    np.testing.assert_array_equal(row.array.values, stack)


def test_an_edit_reaches_the_group_also_when_nobody_closes(tmp_path, stack) -> None:
    code = """
import sys, numpy, larvik
larvik.connect(sys.argv[1])
rep = larvik.Representation.objects.from_xarray(numpy.zeros((1, 1, 1, 8, 8), "uint8"), name="before")
rep.name = "after"
rep.save()
print(rep.location)
"""
    location = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data")], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert '"after"' in (tmp_path / "data" / location / "zarr.json").read_text()


def test_nothing_stays_open_after_close(tmp_path, stack) -> None:
    def files() -> list[str]:
        gc.collect()
        here = "/proc/self/fd"
        links = [
            os.readlink(f"{here}/{name}") for name in os.listdir(here) if os.path.lexists(f"{here}/{name}")
        ]
        return [link for link in links if str(tmp_path) in link]

    with larvik.connect(tmp_path / "data"):
        stored(stack)
        assert files()
    assert files() == []


def test_connecting_loads_no_array_library(tmp_path) -> None:
    larvik.connect(tmp_path / "data").close()
    code = """
import sys, threading
threading.Thread.start = lambda self: None  # what is loaded in the background is another matter
import larvik
connection = larvik.connect(sys.argv[1])
larvik.Sample.objects.using(connection).count()
print([name for name in ("numpy", "pandas", "xarray", "pyarrow", "zarr", "dask") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


def test_channels_are_rows_of_the_image(connection, image) -> None:
    (rep,) = import_file(image)
    assert [channel.name for channel in Channel.objects.filter(object_id=rep.id).order_by("index")] == [
        "DAPI",
        "GFP",
    ]


def test_a_child_that_is_forked_at_once_does_not_hang(tmp_path) -> None:
    code = """
import os, sys, time
import larvik
larvik.connect(sys.argv[1])
child = os.fork()
if child == 0:
    import larvik.array.rows
    os._exit(0)
deadline = time.monotonic() + 30
while os.waitpid(child, os.WNOHANG)[0] == 0:
    if time.monotonic() > deadline:
        os.kill(child, 9)
        sys.exit("the child hangs")
    time.sleep(0.01)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_does_not_wait_for_a_lock_that_a_thread_of_its_parent_held(connection, stack) -> None:
    rep = stored(stack)
    began, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with connection._lock:
            began.set()
            ends.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    began.wait()
    try:
        assert in_fork(lambda: Representation.objects.get(id=rep.id).array.max().values) == 0
    finally:
        ends.set()
        thread.join()
