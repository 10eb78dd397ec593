from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from larvik.errors import PreconditionError
from larvik.services.locks import FolderLock, SessionLocks

HOLD = """
import sys, pathlib
from larvik.services.locks import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]), url=sys.argv[2] or None)
print("held", flush=True)
sys.stdin.read()
"""


def holder(folder: Path, url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_processes_share_a_folder(tmp_path: Path) -> None:
    with holder(tmp_path, "") as other:
        FolderLock(tmp_path).release()
        other.kill()


def test_a_served_folder_is_refused_and_the_url_is_named(tmp_path: Path) -> None:
    with holder(tmp_path, "larvik://localhost:7410") as server:
        with pytest.raises(PreconditionError, match="larvik://localhost:7410") as caught:
            FolderLock(tmp_path)
        assert caught.value.reason == "FOLDER_SERVED"
        assert caught.value.metadata["url"] == "larvik://localhost:7410"
        server.kill()


def test_a_server_refuses_a_folder_that_is_open(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(PreconditionError) as caught:
        FolderLock(tmp_path, url="larvik://localhost:1")
    assert caught.value.reason == "FOLDER_IN_USE"
    lock.release()
    FolderLock(tmp_path, url="larvik://localhost:1").release()


def test_the_lock_of_a_killed_server_is_free(tmp_path: Path) -> None:
    with holder(tmp_path, "larvik://localhost:7410") as server:
        server.kill()
        server.wait()
    FolderLock(tmp_path).release()


def test_releasing_twice_is_harmless(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.release()
    lock.release()


def test_a_commit_waits_for_the_writers_of_blocks(tmp_path: Path) -> None:
    locks = SessionLocks(tmp_path)
    entered = threading.Event()

    def commit() -> None:
        with locks.exclusive("one"):
            entered.set()

    thread = threading.Thread(target=commit)
    with locks.shared("one"), locks.shared("one"):
        thread.start()
        assert not entered.wait(0.1)
    thread.join()
    assert entered.is_set()


def test_who_waited_for_a_removed_lock_takes_the_new_one(tmp_path: Path) -> None:
    locks = SessionLocks(tmp_path)
    order: list[str] = []

    def wait() -> None:
        with locks.exclusive("one"):
            order.append("second")
            assert locks.sessions() == ["one"]

    with locks.exclusive("one"):
        thread = threading.Thread(target=wait)
        thread.start()
        order.append("first")
        locks.remove("one")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_keep_a_lock(tmp_path: Path) -> None:
    sessions, folder = SessionLocks(tmp_path), FolderLock(tmp_path)
    stay, stop = os.pipe()
    with sessions.exclusive("one"):
        child = os.fork()
        if child == 0:
            os.close(stop)
            os.read(stay, 1)
            os._exit(0)
    folder.release()
    try:
        with sessions.if_free("one") as is_free:
            assert is_free
        FolderLock(tmp_path, url="larvik://localhost:1").release()
    finally:
        os.close(stop)
        os.close(stay)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_free_the_lock_of_its_parent(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(PreconditionError):
        FolderLock(tmp_path, url="larvik://localhost:1")
    lock.release()
