"""train-biencoder: train the bi-encoder with in-batch negatives; keep the best epoch by validation."""

from __future__ import annotations

import logging

from accelerate import Accelerator
from torch import nn

from zeshel_tasks.config import Recipe, TrainBiencoderConfig
from zeshel_tasks.data.candidate_sets import load_worlds
from zeshel_tasks.data.mention_table import GoldPairs, tokenize_pairs
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.biencoder import check_biencoder, new_biencoder
from zeshel_tasks.models.crossencoder import check_crossencoder
from zeshel_tasks.models.markers import with_markers
from zeshel_tasks.models.model_types import ModelShape, model_shape
from zeshel_tasks.models.tokenizer import load_tokenizer
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.inputs import split_file, tokenize_worlds
from zeshel_tasks.stages.training import plan_training, pretrained_bert, start_tokens, train
from zeshel_tasks.store import Metrics
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.fit import Fit
from zeshel_tasks.training.hard_negatives import HardNegatives
from zeshel_tasks.training.objective import Objective

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    config = job.recipe.train_biencoder
    bert = pretrained_bert(job, config.bert_model)
    _check_both_encoders(job.recipe, model_shape(bert))
    bert = with_markers(bert, job.scratch / "bert_with_markers", lowercase=config.lowercase, seed=config.seed)
    task = plan_training(job, config, bert, config.biencoder_weights, build_objective)
    tokens = start_tokens(task)
    for split in ("train", "valid"):
        lengths = config.max_context_length, config.max_cand_length
        tokenize_pairs(split_file(job, split), tokens, *lengths, task.tables / split)
    if config.hard_negatives:
        tokenize_worlds(job, "train", tokens, config.max_cand_length, task.tables / "entities")
    return train(job, task).dump()


def _check_both_encoders(recipe: Recipe, shape: ModelShape) -> None:
    """Checks that both encoders can start from this model, so that none fails after the hours before it.

    Raises:
        ConfigError: the model is too small for the settings of an encoder.
    """
    check_biencoder(shape, recipe.train_biencoder)
    crossencoder = recipe.train_crossencoder
    if crossencoder.from_biencoder or crossencoder.bert_model == recipe.train_biencoder.bert_model:
        try:
            check_crossencoder(shape, crossencoder)
        except ConfigError as error:
            raise ConfigError(f"train_crossencoder.{error}") from error


def build_objective(task: Fit, accelerator: Accelerator) -> tuple[nn.Module, Objective]:
    """Creates the bi-encoder and its objective over the prepared tables."""
    config = task.config
    assert isinstance(config, TrainBiencoderConfig)
    model, settings = new_biencoder(task.bert, config)
    if task.weights is not None and (config.pooling, config.similarity) != ("cls", "dot"):
        log.warning(
            "biencoder_weights: BLINK trains for pooling cls and similarity dot, these settings are %s and %s",
            config.pooling,
            config.similarity,
        )
    tokenizer = load_tokenizer(task.bert, lowercase=config.lowercase)
    train_pairs, valid_pairs = (GoldPairs.load(task.tables / split) for split in ("train", "valid"))
    negatives = None
    if config.hard_negatives:
        entities = load_worlds(task.tables / "entities")
        negatives = HardNegatives(
            train_pairs.mentions,
            entities,
            config.hard_negatives,
            config.hard_negative_rounds,
            config.num_train_epochs,
            config.seed,
        )
    return model, BiencoderObjective(train_pairs, valid_pairs, settings, tokenizer, accelerator, config, negatives)
