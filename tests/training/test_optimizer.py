from pathlib import Path

import pytest
import torch
from torch import nn

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.models.crossencoder import new_crossencoder
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.optimizer import build_optimizer, choose_trained, set_learning_rates, share_of_peak


@pytest.fixture
def crossencoder(golden: Path) -> nn.Module:
    return new_crossencoder(golden / "bert", build_recipe("smoke").train_crossencoder)[0]


@pytest.mark.parametrize(
    ("choice", "trained"),
    [
        ("additional_layers", {"additional_linear"}),
        ("top_layer", {"additional_linear", "layer.1"}),
        ("top4_layers", {"additional_linear", "layer.0", "layer.1"}),
        ("all_encoder_layers", {"additional_linear", "layer.0", "layer.1"}),
        ("all", {"additional_linear", "layer.0", "layer.1", "embeddings", "pooler"}),
    ],
)
def test_type_optimization_selects_trained_layers(crossencoder: nn.Module, choice: str, trained: set[str]) -> None:
    groups = ("additional_linear", "layer.0", "layer.1", "embeddings", "pooler")
    names = choose_trained(crossencoder, choice)
    assert {group for group in groups if any(group in name for name in names)} == trained


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_training_nothing_but_a_temperature_is_refused(golden: Path, similarity: str) -> None:
    model, _ = new_biencoder(golden / "bert", build_recipe("smoke", {"similarity": similarity}).train_biencoder)
    with pytest.raises(ConfigError, match="expected a choice that trains some layers"):
        choose_trained(model, "additional_layers")


def test_biases_and_layer_norms_do_not_decay(crossencoder: nn.Module) -> None:
    choose_trained(crossencoder, "all")
    optimizer = build_optimizer(crossencoder, build_recipe("smoke", {"weight_decay": 0.3}).train_crossencoder)
    names = {id(parameter): name for name, parameter in crossencoder.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, value in decay.items():
        assert value == (0.0 if name.endswith("bias") or "LayerNorm" in name else 0.3), name


def test_learning_rate_rises_then_falls_to_zero() -> None:
    config = build_recipe("smoke", {"warmup_proportion": 0.2}).train_biencoder
    shares = [share_of_peak(step, 10, config) for step in range(11)]
    assert shares == pytest.approx([0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0])
    no_warmup = build_recipe("smoke", {"warmup_proportion": 0}).train_biencoder
    assert share_of_peak(0, 10, no_warmup) == 1.0


def test_temperature_has_a_learning_rate_of_its_own_and_the_schedule_of_all(golden: Path) -> None:
    rates = {"learning_rate": 1e-5, "temperature_learning_rate": 1e-2, "similarity": "cosine"}
    config = build_recipe("smoke", {f"train_biencoder.{key}": value for key, value in rates.items()}).train_biencoder
    model, _ = new_biencoder(golden / "bert", config)
    choose_trained(model, "all")
    optimizer = build_optimizer(model, config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for share in (1.0, 0.25):
        set_learning_rates(optimizer, share)
        found = {names[id(p)]: group["lr"] / share for group in optimizer.param_groups for p in group["params"]}
        assert found.pop("log_scale") == pytest.approx(1e-2)
        assert list(found.values()) == pytest.approx([1e-5] * len(found))
    decay = [group["weight_decay"] for group in optimizer.param_groups if model.log_scale is group["params"][0]]
    assert decay == [0.0]
    model.log_scale.grad = torch.ones(())  # a step changes the temperature by its rate
    optimizer.step()
    assert 1 / model.log_scale.exp().item() == pytest.approx(0.05 * 1.0025, rel=1e-4)
