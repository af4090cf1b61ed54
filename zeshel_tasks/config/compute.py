"""Settings of every stage that runs a model."""

from __future__ import annotations

from typing import Literal

from zeshel_tasks.config.stage_config import StageConfig, setting

Precision = Literal["auto", "fp32", "bf16"]


class ComputeConfig(StageConfig):
    """Settings of every stage that runs a model with settings of its own."""

    runs_a_model = True

    precision: Precision = setting(
        "fp32",
        "fp32, bf16 (training keeps fp32 weights), or auto: bf16 if the hardware supports it, else fp32.",
        shared=True,
    )
    device: str = setting(
        "auto",
        "Device to compute on: auto, cpu, cuda or cuda:N.",
        shared=True,
        affects_result=False,
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
    )
    print_interval: float = setting(
        15.0, "Seconds between progress lines.", shared=True, affects_result=False, ge=0.001, le=3600
    )
    stall_minutes: float = setting(
        30.0,
        "Exit with code 75, so that a retry resumes, after this many minutes without progress: a GPU, network or "
        "process hangs.",
        shared=True,
        affects_result=False,
        ge=0.001,
        le=1440,
    )
