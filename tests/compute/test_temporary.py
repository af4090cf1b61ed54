"""Temporary folders and files of processes that were killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zeshel_tasks.compute.temporary import temporary_file, temporary_folder

IS_KILLED = """
import os, signal, sys
from pathlib import Path
from zeshel_tasks.compute.temporary import temporary_folder

with temporary_folder(sys.argv[1], Path(sys.argv[2])) as folder:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_within_its_folder(parent: Path, prefix: str = "zeshel-") -> Path:
    """Returns the folder of a process that SIGKILL has ended, as if it had been there for long."""
    before = set(parent.iterdir())
    ended = subprocess.run([sys.executable, "-c", IS_KILLED, prefix, str(parent)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = set(parent.iterdir()) - before
    os.utime(left, (0, 0))
    return left


def test_folder_is_removed_at_its_end(tmp_path: Path) -> None:
    with temporary_folder("zeshel-", tmp_path) as folder:
        (folder / "file").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    killed_within_its_folder(tmp_path)
    killed_within_its_folder(tmp_path, "zeshel-other-")
    with temporary_folder("zeshel-", tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


IS_KILLED_LATER = """
import signal, sys
from pathlib import Path
from zeshel_tasks.compute.temporary import temporary_file, temporary_folder

with temporary_folder("zeshel-", Path(sys.argv[1])), temporary_file(Path(sys.argv[1]) / "weights"):
    print("made", flush=True)
    signal.pause()
"""


def test_each_process_removes_only_what_killed_ones_left(tmp_path: Path) -> None:
    """Several stages on one machine: the next one to start cleans up after the killed ones."""
    started = []
    for _ in range(3):
        command = [sys.executable, "-c", IS_KILLED_LATER, str(tmp_path)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "made\n"
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
    assert len(list(tmp_path.iterdir())) == 6
    for process, expected in zip(started, (4, 2, 0), strict=True):
        process.kill()
        process.communicate()
        with temporary_folder("zeshel-", tmp_path), temporary_file(tmp_path / "weights"):
            assert len(list(tmp_path.iterdir())) == expected + 2
        assert len(list(tmp_path.iterdir())) == expected


def test_temporary_file_becomes_the_final_one(tmp_path: Path) -> None:
    others = [tmp_path / "weights.1.scratch", tmp_path / "weights.incomplete", tmp_path / "other.1.scratch"]
    for path in others:
        path.touch()
    for path in others[1:]:
        os.utime(path, (0, 0))
    with temporary_file(tmp_path / "weights") as path:
        path.write_bytes(b"w")
        path.replace(tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == b"w"
    assert {*tmp_path.iterdir()} == {tmp_path / "weights", *others}


def test_other_folders_stay(tmp_path: Path) -> None:
    others = [tmp_path / "zeshel-data", tmp_path / "other.scratch", tmp_path / "zeshel-young.scratch"]
    for path in others:
        path.mkdir()
    for path in others[:2]:
        os.utime(path, (0, 0))
    others.append(killed_within_its_folder(tmp_path, "another-"))
    with temporary_folder("zeshel-", tmp_path) as live:
        os.utime(live, (0, 0))
        with temporary_folder("zeshel-", tmp_path):
            assert live.is_dir()
    assert all(path.is_dir() for path in others)


def test_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"x")
    (tmp_path / "zeshel-1.scratch").symlink_to(tmp_path / "data")
    os.utime(tmp_path / "data", (0, 0))
    with temporary_folder("zeshel-", tmp_path):
        pass
    assert (tmp_path / "data" / "file").is_file()


def test_file_system_without_locks_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = killed_within_its_folder(tmp_path)

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with temporary_folder("zeshel-", tmp_path) as folder:
        assert folder.is_dir()
    assert left.is_dir()
