"""Choice and grouping of the trained parameters, and the learning rate of each step."""

from __future__ import annotations

import re

import torch
from torch import nn

from zeshel_tasks.config import EncoderConfig, TypeOptimization
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
    """Returns AdamW over the trained parameters, without weight decay for biases and LayerNorm weights."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (kept if name.endswith(_NO_DECAY) else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    # The fused version makes one pass over the parameters instead of one for each operation.
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.learning_rate, eps=1e-6, fused=True
    )


def learning_rate_at(step: int, total_steps: int, config: EncoderConfig) -> float:
    """Returns the learning rate of a step (from 0): linear warm-up, then linear decay to 0 after the last step."""
    warmup = int(total_steps * config.warmup_proportion)
    if step < warmup:
        return config.learning_rate * step / warmup
    return config.learning_rate * (total_steps - step) / max(1, total_steps - warmup)


def _is_trained(name: str, type_optimization: TypeOptimization, last_layer: int) -> bool:
    if "additional_linear" in name or name == _TEMPERATURE or type_optimization == "all":
        return True
    found = _LAYER.search(name)
    if found is None:
        return False
    layers = {"additional_layers": 0, "top_layer": 1, "top4_layers": 4, "all_encoder_layers": last_layer + 1}
    return int(found[1]) > last_layer - layers[type_optimization]
