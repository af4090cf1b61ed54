from pathlib import Path

import pytest
from torch import nn

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.models.crossencoder import new_crossencoder
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.optimizer import build_optimizer, choose_trained, learning_rate_at


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
    names = choose_trained(crossencoder, choice)  # type: ignore[arg-type]
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
    config = build_recipe("smoke", {"train_biencoder.learning_rate": 1e-3, "warmup_proportion": 0.2}).train_biencoder
    rates = [learning_rate_at(step, 10, config) for step in range(11)]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 8.75e-4, 7.5e-4, 6.25e-4, 5e-4, 3.75e-4, 2.5e-4, 1.25e-4, 0])
    no_warmup = build_recipe("smoke", {"warmup_proportion": 0, "train_biencoder.learning_rate": 1.0}).train_biencoder
    assert learning_rate_at(0, 10, no_warmup) == 1.0
