"""Reads the results of trainings, to compare them."""

import json
from typing import Any

import torch
from safetensors.torch import load_file

from zeshel_tasks.training.fit import Fit


def weights(task: Fit) -> dict[str, torch.Tensor]:
    """Returns all tensors of the model directory."""
    return {
        f"{path.parent.relative_to(task.model)}/{name}": tensor
        for path in sorted(task.model.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def result(task: Fit) -> dict[str, Any]:
    """Returns metrics, curve and device, without values that differ between any two trainings."""
    found: dict[str, Any] = json.loads(task.result.read_text())
    for varying in ("training_seconds", "mentions_per_second"):
        del found["metrics"][varying]
    return found


def assert_bit_identical(ours: Fit, theirs: Fit) -> None:
    """Checks that weights, metrics and loss curve of two trainings are equal to the last bit."""
    assert result(ours)["metrics"] == result(theirs)["metrics"]
    assert result(ours)["curve"] == result(theirs)["curve"]
    ours_weights, their_weights = weights(ours), weights(theirs)
    assert their_weights.keys() == ours_weights.keys()
    assert their_weights
    assert [name for name in their_weights if not torch.equal(ours_weights[name], their_weights[name])] == []
