from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from larvik.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from larvik.storage import open_store
from larvik.storage.local import PARTIAL, LocalStore


def test_a_missing_root_is_unreachable(tmp_path):
    with pytest.raises(UnavailableError) as caught:
        open_store(str(tmp_path / "nowhere"))
    assert caught.value.reason == "STORE_UNREACHABLE"
    assert str(tmp_path) not in str(caught.value)


def test_a_root_that_vanishes_is_unreachable_not_empty(tmp_path):
    root = tmp_path / "root"
    store = open_store(str(root), create=True)
    store.write("a/b", b"1")
    root.rename(tmp_path / "elsewhere")
    for act in (
        lambda: store.read("a/b"),
        lambda: store.size("a/b"),
        lambda: store.write("a/b", b"2"),
        lambda: list(store.list()),
        lambda: store.children("a"),
    ):
        with pytest.raises(UnavailableError) as caught:
            act()
        assert caught.value.reason == "STORE_UNREACHABLE"
    assert not root.exists()


def test_a_file_url_is_decoded_and_a_plain_path_is_not(tmp_path):
    (tmp_path / "a b%20").mkdir()
    plain = open_store(str(tmp_path / "a b%20"))
    assert LocalStore(plain.root).root == open_store(plain.url).root


def test_a_full_disk_is_told_and_leaves_the_old_bytes(tmp_path):
    script = f"""
import resource, signal
from larvik.errors import ResourceExhaustedError
from larvik.storage import open_store
store = open_store({str(tmp_path)!r})
store.write("a", b"old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    store.write("a", bytes(10_000))
except ResourceExhaustedError as error:
    print(error.reason)
print(store.read("a"), [key for key, _ in store.list()])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["STORE_FULL", "b'old' ['a']"]


def test_a_forbidden_folder_is_denied(tmp_path):
    if os.geteuid() == 0:
        root, key = "/sys", "kernel/larvik"  # what even root may not write
    else:
        root, key = str(tmp_path), "a"
        tmp_path.chmod(0o500)
    with pytest.raises(PermissionDeniedError) as caught:
        open_store(root).write(key, b"1")
    assert caught.value.reason == "STORE_DENIED"


def test_symlinks_out_of_the_root_are_refused_everywhere(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store = open_store(str(tmp_path / "root"), create=True)
    (tmp_path / "root" / "folder").symlink_to(outside)
    (tmp_path / "root" / "file").symlink_to(outside / "secret")
    for act in (
        lambda: store.read("file"),
        lambda: store.read("folder/secret"),
        lambda: store.size("folder/secret"),
        lambda: store.children("folder"),
        lambda: store.write("folder/new", b"1"),
        lambda: store.write("folder/deep/new", b"1"),
        lambda: store.delete("folder/secret"),
        lambda: store.delete_prefix("folder/secret"),
    ):
        with pytest.raises(InvalidArgumentError, match="symbolic link") as caught:
            act()
        assert caught.value.reason == "KEY_INVALID"
    assert list(store.list()) == []
    assert store.delete_prefix("folder") == 0
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_symlinks_inside_the_root_are_followed(tmp_path):
    store = open_store(str(tmp_path))
    store.write("real/a", b"1")
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    assert store.read("alias/a") == b"1"


def test_a_pipe_in_the_folder_neither_blocks_nor_reads(tmp_path):
    store = open_store(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    assert store.size("pipe") is None
    assert list(store.list()) == []


def test_a_write_leaves_no_partial_file(tmp_path):
    store = open_store(str(tmp_path))
    store.write("a", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(TypeError):
        store.write("b", "text")
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(PARTIAL)]


def test_two_who_delete_the_same_folder_leave_nothing(tmp_path) -> None:
    store = LocalStore(tmp_path)
    left: list[str] = []
    for _ in range(5):
        for number in range(300):
            path = tmp_path / "array" / str(number % 10) / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        barrier = threading.Barrier(4)

        def delete(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            store.delete_prefix("array")
            left.extend(key for key, _ in store.list("array"))

        threads = [threading.Thread(target=delete) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert left == []
