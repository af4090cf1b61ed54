"""The learning rate that suits the size of a model: the smaller the model, the higher."""

from __future__ import annotations

import logging
from typing import TypeVar

from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.models.model_types import ModelShape

log = logging.getLogger(__name__)

Config = TypeVar("Config", bound=EncoderConfig)

# Smallest hidden size -> learning rate, of a bi-encoder and of a cross-encoder; docs/recipe.md has the sources.
_BIENCODER = {1024: 1e-5, 768: 2e-5, 0: 3e-5}
_CROSSENCODER = {1024: 2e-5, 768: 3e-5, 0: 5e-5}


def with_learning_rate(config: Config, shape: ModelShape) -> Config:
    """Returns the settings with a learning rate: their own or, if it is none, the one for a model of this shape."""
    if config.learning_rate is not None:
        return config
    rates = _BIENCODER if isinstance(config, TrainBiencoderConfig) else _CROSSENCODER
    rate = next(rate for smallest, rate in rates.items() if shape.hidden_size >= smallest)
    log.info("learning rate %g, for a model of hidden size %d", rate, shape.hidden_size)
    return config.model_copy(update={"learning_rate": rate})
