"""Choice of device and precision: for trainings with accelerate, for inference without."""

from __future__ import annotations

import logging
import os
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from zeshel_tasks.config.compute import ComputeConfig
from zeshel_tasks.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inference:
    """Device and precision of models that only infer.

    A process may use several at once. accelerate keeps device and precision for the whole process.
    """

    device: torch.device
    mixed_precision: Literal["bf16", "no"]

    @classmethod
    def of(cls, config: ComputeConfig) -> Inference:
        """Returns those of the settings.

        Raises:
            ConfigError: the settings ask for a GPU and the machine has none.
        """
        _choose_gpu(config)
        on_cpu = config.device == "cpu" or not torch.cuda.is_available()
        device = torch.device("cpu") if on_cpu else torch.device("cuda", torch.cuda.current_device())
        return cls(device, _mixed_precision(config))

    def autocast(self) -> AbstractContextManager[object]:
        """Returns a context in which models compute in this precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision == "bf16")


Placement: TypeAlias = Accelerator | Inference
"""Device and precision of a model: a training validates with its accelerator."""


def build_accelerator(config: ComputeConfig) -> Accelerator:
    """The accelerator of a training, for the device and the precision of the settings.

    Raises:
        ConfigError: the settings ask for a GPU and the machine has none.
    """
    _choose_gpu(config)
    # accelerate keeps device and precision for the whole process; `zeshel pipeline` runs stages that differ in them.
    AcceleratorState._reset_state(reset_partial_state=True)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Accelerator(
        # accelerate would let the processes of CPUs train on their own unless they ask for a CPU.
        cpu=config.device == "cpu" or (several and not torch.cuda.is_available()),
        mixed_precision=_mixed_precision(config),
        # The watchdog ends a hanging process first, and asks for a retry: NCCL would abort it, which is a crash.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=config.stall_minutes + 1))],
    )


def device_name(placement: Placement) -> str:
    """``cuda: 4 x NVIDIA H100, bf16`` or ``cpu: x86_64, 8 threads, fp32``."""
    device, processes = placement.device, placement.num_processes if isinstance(placement, Accelerator) else 1
    times = f"{processes} x " if processes > 1 else ""
    precision = "bf16" if placement.mixed_precision == "bf16" else "fp32"
    if device.type == "cuda":
        return f"cuda: {times}{torch.cuda.get_device_name(device)}, {precision}"
    return f"{device.type}: {times}{platform.machine()}, {torch.get_num_threads()} threads, {precision}"


def _choose_gpu(config: ComputeConfig) -> None:
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: expected a machine with a GPU for {config.device!r}, got none")
    if ":" in config.device:
        torch.cuda.set_device(torch.device(config.device))


def _mixed_precision(config: ComputeConfig) -> Literal["bf16", "no"]:
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    fast = _cpu_computes_bf16() if on_cpu else torch.cuda.is_bf16_supported(including_emulation=False)
    if config.precision == "bf16" and not fast:
        # 165 and 18 GFLOP/s were measured for fp32 and bf16 matrix products on a CPU that has AVX2 alone.
        log.warning(
            "precision: bf16 is emulated on this %s, several times slower than fp32", "CPU" if on_cpu else "GPU"
        )
    return "bf16" if config.precision == "bf16" or (config.precision == "auto" and fast) else "no"


def _cpu_computes_bf16() -> bool:
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last one is Arm's
