"""Facts that affect a measurement besides the code: machine, versions, data."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch

from zeshel_tasks.compute.machine import versions

_BF16_FLAGS = ("avx512_bf16", "amx_bf16")  # as Linux writes them


def chosen_device(name: str) -> torch.device:
    """Return the device of the option ``--device``; ``auto`` is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def machine_facts(device: torch.device) -> Iterator[str]:
    """Yield lines about the CPU, the device and the installed versions."""
    cpu = _cpu()
    flags = cpu.get("flags", "").split()
    has = "  ".join(f"{flag} {'yes' if flag in flags else 'no'}" for flag in _BF16_FLAGS)
    yield f"CPU: {cpu.get('model name', platform.machine())}  {has}"
    yield f"device: {torch.cuda.get_device_name(device) if device.type == 'cuda' else device}"
    installed = versions()
    yield f"torch {torch.__version__}  transformers {installed['transformers']}  threads {torch.get_num_threads()}"


def gpu_facts(device: torch.device) -> Iterator[str]:
    """Yield a line about the driver, the power limit and the clock; no line without a GPU."""
    if device.type != "cuda":
        return
    asked = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
    told = _output([*asked, f"--id={device.index or 0}"]) or "unknown"
    yield f"CUDA {torch.version.cuda}  driver, power limit, highest clock: {told}"


def data_facts(data: Path) -> str:
    """Return the SHA-256 of an archive, or of the names and contents of a folder's documents and mentions."""
    if data.is_file():
        return f"data: {data.name}  SHA-256 {_sha256(data)}"
    whole = hashlib.sha256()
    for path in sorted([*(data / "documents").glob("*.json"), *(data / "mentions").glob("*.json")]):
        whole.update(f"{path.relative_to(data)} {_sha256(path)}\n".encode())
    return f"data: folder {data.name}  SHA-256 of its files' {whole.hexdigest()}"


def commit_facts() -> str:
    """Return the commit of the code, with a note about uncommitted changes."""
    commit = _git("rev-parse", "HEAD")
    changed = " with changes" if commit and _git("status", "--porcelain") else ""
    return f"git commit: {commit or 'unknown'}{changed}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(*command: str) -> str:
    return _output(["git", *command])


def _output(command: list[str]) -> str:
    """Return the output of a program; empty if the program does not exist or fails."""
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _cpu() -> dict[str, str]:
    """Return the first processor of ``/proc/cpuinfo``; empty if the file does not exist."""
    path = Path("/proc/cpuinfo")
    first = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first)}
