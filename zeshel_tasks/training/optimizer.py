"""Choice and grouping of the trained parameters, and the learning rate of each step."""

from __future__ import annotations

import re

import torch
from torch import nn

from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.config.encoder import EncoderConfig, TypeOptimization
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.encoder import Encoder

_LAYER = re.compile(r"bert_model\.encoder\.layer\.(\d+)\.")
_TEMPERATURE = "log_scale"  # scales all scores, so it changes no ranking
_NO_DECAY = ("bias", "LayerNorm.weight", _TEMPERATURE)


def choose_trained(model: nn.Module, type_optimization: TypeOptimization) -> list[str]:
    """Freezes every parameter that ``type_optimization`` (as in BLINK) leaves out or that does not affect the output.

    Returns:
        Names of the trained parameters.

    Raises:
        ConfigError: no parameter is left to train that can change a ranking.
    """
    last_layer = max(
        (int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.search(name))), default=0
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_is_trained(name, type_optimization, last_layer))
    for module in model.modules():
        if isinstance(module, Encoder):
            module.freeze_unused()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if all(name == _TEMPERATURE for name in trained):
        raise ConfigError(f"type_optimization: expected a choice that trains some layers, got {type_optimization!r}")
    return trained


def build_optimizer(model: nn.Module, config: EncoderConfig) -> torch.optim.AdamW:
    """Returns AdamW over the trained parameters, without weight decay for biases and LayerNorm weights.

    A learned temperature has its own learning rate. Each group's peak rate is in ``initial_lr``.
    """
    temperature = config.temperature_learning_rate if isinstance(config, TrainBiencoderConfig) else None
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = temperature if name == _TEMPERATURE and temperature is not None else config.peak_learning_rate
            decay = 0.0 if name.endswith(_NO_DECAY) else config.weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
    # The fused version makes one pass over the parameters instead of one for each operation.
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        eps=1e-6,
        fused=True,
    )


def set_learning_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Sets the learning rate of each group to this share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = share * group["initial_lr"]


def share_of_peak(step: int, total_steps: int, config: EncoderConfig) -> float:
    """Returns the learning rate of a step (from 0), as a share of the peak.

    It rises linearly during the warm-up, then falls linearly to 0 after the last step.
    """
    warmup = int(total_steps * config.warmup_proportion)
    if step < warmup:
        return step / warmup
    return (total_steps - step) / max(1, total_steps - warmup)


def _is_trained(name: str, type_optimization: TypeOptimization, last_layer: int) -> bool:
    if "additional_linear" in name or name == _TEMPERATURE or type_optimization == "all":
        return True
    found = _LAYER.search(name)
    if found is None:
        return False
    layers = {"additional_layers": 0, "top_layer": 1, "top4_layers": 4, "all_encoder_layers": last_layer + 1}
    return int(found[1]) > last_layer - layers[type_optimization]
