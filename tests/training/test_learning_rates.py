"""The learning rate that suits the size of a model."""

import logging
from pathlib import Path

import pytest

from zeshel_tasks.models.model_types import model_shape
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.learning_rates import with_learning_rate


@pytest.mark.parametrize(
    ("hidden", "biencoder", "crossencoder"),
    [(1280, 1e-5, 2e-5), (1024, 1e-5, 2e-5), (768, 2e-5, 3e-5), (384, 3e-5, 5e-5), (32, 3e-5, 5e-5)],
)
def test_smaller_models_have_higher_rates(
    golden: Path, caplog: pytest.LogCaptureFixture, hidden: int, biencoder: float, crossencoder: float
) -> None:
    caplog.set_level(logging.INFO)
    recipe = build_recipe("recommended")
    shape = model_shape(golden / "bert").model_copy(update={"hidden_size": hidden})
    assert with_learning_rate(recipe.train_biencoder, shape).peak_learning_rate == biencoder
    assert with_learning_rate(recipe.train_crossencoder, shape).peak_learning_rate == crossencoder
    assert f"learning rate {biencoder:g}, for a model of hidden size {hidden}" in caplog.text


def test_setting_takes_precedence(golden: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    recipe = build_recipe("recommended", {"learning_rate": 7e-4})
    assert with_learning_rate(recipe.train_biencoder, model_shape(golden / "bert")) == recipe.train_biencoder
    assert not caplog.text
    assert build_recipe("blink").train_biencoder.learning_rate == 1e-5
