"""Full and read-only disks: real disks of a few megabytes, each in its own mount namespace."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faults import Fault
from zeshel_tasks.compute.disk import full_disk_named, full_output_named, refused_access_named
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_TRY_AGAIN, ConfigError, TryAgain

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", MOUNT, "sh"]


def with_small_disk(size: str, folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command with a new, empty disk of ``size`` at ``folder``, which is also its scratch directory."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "ZESHEL_SCRATCH": str(folder)}
    return subprocess.run(
        [*NAMESPACE, size, str(folder), *command], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(autouse=True)
def _may_mount(tmp_path: Path) -> None:
    if "CI" not in os.environ and with_small_disk("1m", tmp_path / "probe", ["true"]).returncode:
        pytest.skip("this system has no mount namespaces for users")


def zeshel(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "zeshel_tasks", *arguments]


def error_lines(ended: subprocess.CompletedProcess[str]) -> list[str]:
    assert "Traceback" not in ended.stdout + ended.stderr
    return [line for line in ended.stdout.splitlines() if "ERROR" in line]


def test_full_scratch_disk_error_says_how_to_get_room(raw_archive: Path, tmp_path: Path, fault: Fault) -> None:
    arguments = ["download", "--run", f"{tmp_path}/runs/r", "--source", str(raw_archive)]
    ended = with_small_disk("64k", tmp_path / "scratch", zeshel(*arguments))
    fault("training: disk full")
    assert ended.returncode == EXIT_TRY_AGAIN
    (line,) = error_lines(ended)
    assert "the disk is full ([Errno 28] No space left on device" in line
    assert f"scratch files are in {tmp_path}/scratch; set ZESHEL_SCRATCH" in line
    assert "stages.scratchSize" in line


def test_memory_mapped_table_on_full_disk_raises_os_error(tmp_path: Path, fault: Fault) -> None:
    script = (
        "import sys; from pathlib import Path; from zeshel_tasks.data.arrays import new_array\n"
        "try: new_array(Path(sys.argv[1]), 'float32', (1000, 1000))[:] = 1\n"
        "except OSError as error: print(error)"
    )
    folder = tmp_path / "disk"
    ended = with_small_disk("1m", folder, [sys.executable, "-c", script, str(folder / "table.npy")])
    fault("training: disk full")
    assert (ended.returncode, ended.stdout) == (0, "[Errno 28] No space left on device\n")


def test_full_disk_error_of_safetensors_is_recognized(tmp_path: Path, fault: Fault) -> None:
    script = (
        "import sys, torch; from safetensors.torch import save_file; "
        "from zeshel_tasks.compute.disk import full_disk_named\n"
        "with full_disk_named(): save_file({'a': torch.zeros(1000000)}, sys.argv[1])"
    )
    folder = tmp_path / "disk"
    ended = with_small_disk("1m", folder, [sys.executable, "-c", script, str(folder / "a.safetensors")])
    fault("training: disk full")
    assert f"{TryAgain.__name__}: the disk is full" in ended.stderr


def test_errors_other_than_full_disk_pass_unchanged() -> None:
    with pytest.raises(PermissionError), full_disk_named():
        raise PermissionError("no")
    with pytest.raises(ConfigError), full_disk_named():
        raise ConfigError("No space left on device, says a setting")


@pytest.mark.parametrize(
    "arguments",
    [
        ["make-sample-worlds", "--out", "{disk}/worlds.tar.bz2"],
        ["download", "--run", "{disk}-store/runs/r", "--source", "{disk}"],  # its scratch directory is on the disk
    ],
    ids=lambda arguments: arguments[0],
)
def test_read_only_disk_is_an_error_of_the_settings(arguments: list[str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    ended = with_small_disk("1m,ro", disk, zeshel(*(argument.format(disk=disk) for argument in arguments)))
    assert ended.returncode == EXIT_CONFIG
    (line,) = error_lines(ended)
    assert line.startswith(f"ERROR: {disk}/")
    assert "expected a path that this process may read or write, got: [Errno 30] Read-only file system" in line


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_refused_access_names_the_file(number: int) -> None:
    with pytest.raises(ConfigError, match=r"^config\.json: expected a path that this process"), refused_access_named():
        raise OSError(number, os.strerror(number), "config.json")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken", "file"), PermissionError(errno.EACCES, "a socket")])
def test_other_errors_than_refused_access_pass_unchanged(error: OSError) -> None:
    with pytest.raises(type(error), match=str(error.strerror)), refused_access_named():
        raise error


def test_full_disk_behind_standard_output_is_not_that_of_scratch_files() -> None:
    with pytest.raises(TryAgain, match=r"^standard output: .* full$"), full_disk_named(), full_output_named():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="Broken pipe"), full_disk_named(), full_output_named():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_output_that_is_still_in_memory_tells_whose_disk_is_full() -> None:
    script = "print('a')\nfrom zeshel_tasks.compute.disk import full_disk_named\nimport sys\n"
    script += "with full_disk_named(): sys.stdout.flush()"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", script]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
    assert b"TryAgain: standard output: expected room" in ended.stderr
