"""Device and precision, by accelerate."""

from __future__ import annotations

import platform
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from zeshel_tasks.config import ComputeConfig
from zeshel_tasks.errors import ConfigError


def build_accelerator(config: ComputeConfig) -> Accelerator:
    """Where and in which precision this process computes.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: expected a machine with a GPU for {config.device!r}, got none")
    if ":" in config.device:
        torch.cuda.set_device(torch.device(config.device))
    # accelerate keeps device and precision for the whole process; `zeshel pipeline` runs stages that differ in them.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=config.device == "cpu",
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=config.stall_minutes))],
    )


def device_name(device: torch.device, processes: int = 1) -> str:
    """``cuda: 4 x NVIDIA H100`` or ``cpu: x86_64, 8 threads``."""
    times = f"{processes} x " if processes > 1 else ""
    if device.type == "cuda":
        return f"cuda: {times}{torch.cuda.get_device_name(device)}"
    return f"{device.type}: {times}{platform.machine()}, {torch.get_num_threads()} threads"
