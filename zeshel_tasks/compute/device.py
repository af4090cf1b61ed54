"""Choice of device and precision with accelerate."""

from __future__ import annotations

import logging
import platform
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from zeshel_tasks.config.compute import ComputeConfig
from zeshel_tasks.errors import ConfigError

log = logging.getLogger(__name__)


def build_accelerator(config: ComputeConfig) -> Accelerator:
    """The accelerator for the device and the precision of the settings.

    Raises:
        ConfigError: the settings ask for a GPU and the machine has none.
    """
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: expected a machine with a GPU for {config.device!r}, got none")
    if ":" in config.device:
        torch.cuda.set_device(torch.device(config.device))
    # accelerate keeps device and precision for the whole process; `zeshel pipeline` runs stages that differ in them.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=config.device == "cpu",
        mixed_precision="bf16" if is_bf16(config) else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=config.stall_minutes))],
    )


def device_name(accelerator: Accelerator) -> str:
    """``cuda: 4 x NVIDIA H100, bf16`` or ``cpu: x86_64, 8 threads, fp32``."""
    device, processes = accelerator.device, accelerator.num_processes
    times = f"{processes} x " if processes > 1 else ""
    precision = "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
    if device.type == "cuda":
        return f"cuda: {times}{torch.cuda.get_device_name(device)}, {precision}"
    return f"{device.type}: {times}{platform.machine()}, {torch.get_num_threads()} threads, {precision}"


def is_bf16(config: ComputeConfig) -> bool:
    """Returns True if the settings mean bf16 on this machine, False for fp32."""
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    fast = _cpu_computes_bf16() if on_cpu else torch.cuda.is_bf16_supported(including_emulation=False)
    if config.precision == "bf16" and not fast:
        # 165 and 18 GFLOP/s were measured for fp32 and bf16 matrix products on a CPU that has AVX2 alone.
        log.warning(
            "precision: bf16 is emulated on this %s, several times slower than fp32", "CPU" if on_cpu else "GPU"
        )
    return config.precision == "bf16" or (config.precision == "auto" and fast)


def _cpu_computes_bf16() -> bool:
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last one is Arm's
