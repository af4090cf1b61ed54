"""Facts about the machine for the manifest: memory, hardware, versions."""

from __future__ import annotations

import platform
import resource
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "boto3", "pydantic")


def reset_peak_memory() -> None:
    """Resets the peak, so that each stage of a process has its own. Only Linux supports this."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        try:
            clear.write_text("5")
        except PermissionError:
            return  # a read-only /proc: the peak is then that of the whole process
    if (cuda := _cuda()) is not None:
        cuda.reset_peak_memory_stats()


def peak_memory_mb() -> float:
    """Peak resident memory since :func:`reset_peak_memory`, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)


def peak_gpu_memory_mb() -> float | None:
    """Peak memory that torch held on the current GPU, in MB; None without a GPU."""
    cuda = _cuda()
    return None if cuda is None else round(cuda.max_memory_allocated() / 1e6, 1)


@cache  # reading the metadata of seven packages takes 30 ms, and every stage of a run asks
def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that affect numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """CPU, memory and GPUs."""
    cuda = _cuda()
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": [] if cuda is None else [cuda.get_device_name(index) for index in range(cuda.device_count())],
    }


def _cuda() -> Any:
    """torch.cuda, or None without a GPU. A stage that has not imported torch has used no GPU."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None
