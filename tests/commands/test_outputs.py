"""Checks of ``--out``."""

import os
from pathlib import Path

import pytest

from zeshel_tasks.commands.outputs import check_replaceable, with_folder
from zeshel_tasks.errors import ConfigError


def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out.jsonl"
    assert with_folder(out) == out
    assert out.parent.is_dir()
    out.touch()
    with pytest.raises(ConfigError, match="--out: expected a writable path"):
        with_folder(out / "below" / "a_file")


def test_new_and_regular_files_can_be_replaced(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new")
    (tmp_path / "old").touch()
    check_replaceable(tmp_path / "old")


@pytest.mark.parametrize("linked", [False, True])
def test_neither_a_pipe_nor_a_folder_is_replaced(tmp_path: Path, linked: bool) -> None:
    """Nor a link to one, as /dev/stdout is."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, got in (("pipe", "a device or a pipe, "), ("folder", "the folder ")):
        path = tmp_path / name
        if linked:
            path = tmp_path / f"link-to-{name}"
            path.symlink_to(name)
        with pytest.raises(ConfigError, match=f"--out: expected a file to write, got {got}"):
            check_replaceable(path)
