"""train-biencoder: train the bi-encoder with in-batch negatives; keep the best epoch by validation."""

from __future__ import annotations

import logging
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.candidate_sets import load_worlds
from zeshel_tasks.data.mention_table import GoldPairs, tokenize_pairs
from zeshel_tasks.data.search_set import SearchSet
from zeshel_tasks.download.model_files import bert_description
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import model_location, store_location
from zeshel_tasks.models.biencoder import check_biencoder, new_biencoder
from zeshel_tasks.models.crossencoder import check_crossencoder
from zeshel_tasks.models.declared import prompts_of, with_declared
from zeshel_tasks.models.model_types import model_shape
from zeshel_tasks.models.tokenizer import load_tokenizer, load_tokens
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.inputs import split_file, tokenize_search_set, tokenize_worlds
from zeshel_tasks.stages.retrieval import best_by_words
from zeshel_tasks.stages.training import (
    plan_training,
    pretrained_bert,
    pretrained_origin,
    ready_to_start,
    train,
)
from zeshel_tasks.store import Metrics
from zeshel_tasks.store.identity import file_identity
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.fit import Fit
from zeshel_tasks.training.hard_negatives import POOL_FACTOR, HardNegatives
from zeshel_tasks.training.learnable import warn_of_pairs, warn_of_small_worlds
from zeshel_tasks.training.learning_rates import with_learning_rate
from zeshel_tasks.training.metrics import VectorMetrics
from zeshel_tasks.training.objective import Objective

BY_WORDS = "by_words.npy"

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    bert = pretrained_bert(job, job.recipe.train_biencoder.bert_model)
    _check_both_encoders(job, bert)
    config = with_learning_rate(with_declared(job.recipe.train_biencoder, bert), model_shape(bert))
    task = plan_training(job, config, ready_to_start(job, config, bert), config.biencoder_weights, build_objective)
    tokens = load_tokens(task.bert, lowercase=config.lowercase, prompts=prompts_of(config))
    lengths = config.max_context_length, config.max_cand_length
    pairs = tokenize_pairs(split_file(job, "train"), tokens, *lengths, task.tables / "train")
    searched = tokenize_search_set(job, "valid", tokens, config, task.tables / "valid")
    warn_of_pairs(pairs, config)
    warn_of_small_worlds(searched, config.valid_top_k)
    entities = sum(len(sample.positions) for sample in searched.entities.values())
    of_all = sum(float(sample.weights.sum()) for sample in searched.entities.values())
    log.info("validation: recall@%d among %s of %s entities", config.valid_top_k, f"{entities:,}", f"{of_all:,.0f}")
    if config.hard_negatives:
        tokenize_worlds(job, "train", tokens, config.max_cand_length, task.tables / "entities")
        if config.hard_negatives_from != "model":
            best_by_words(job, "train", pairs.mentions, POOL_FACTOR * config.hard_negatives + 1, task.tables / BY_WORDS)
    known = {
        "valid_top_k": config.valid_top_k,
        "valid_entities": entities,
        "pretrained": pretrained_origin(job, config.bert_model),
        "vectors": VectorMetrics.model_validate(config, from_attributes=True),
    }
    return train(job, task).model_copy(update=known).dump()


def _check_both_encoders(job: Job, bert: Path) -> None:
    """Checks the starts of both encoders, so that the cross-encoder's does not fail after the hours before it.

    Raises:
        ConfigError: an encoder cannot start from its model with its settings.
        DataError: there is no file at the address of the cross-encoder's weights.
    """
    check_biencoder(model_shape(bert), job.recipe.train_biencoder)
    config = job.recipe.train_crossencoder
    try:
        start = _start_of_crossencoder(job, bert)
        if start is not None:
            check_crossencoder(model_shape(start), config)
            load_tokenizer(start, lowercase=config.lowercase)
    except ConfigError as error:
        raise ConfigError(f"train_crossencoder.{error}") from error
    if config.crossencoder_weights is not None:
        file_identity(store_location(config.crossencoder_weights))


def _start_of_crossencoder(job: Job, bert: Path) -> Path | None:
    """Returns the model from which the cross-encoder will start, perhaps without its weights.

    Returns None for the default, on which this stage does not insist: the settings of the other stage may be unknown.
    """
    config = job.recipe.train_crossencoder
    if config.from_biencoder or config.bert_model == job.recipe.train_biencoder.bert_model:
        return bert
    if config.bert_model == type(config).model_fields["bert_model"].default:
        return None
    return bert_description(model_location(config.bert_model), job.scratch, job.run.store)


def build_objective(task: Fit, accelerator: Accelerator) -> tuple[nn.Module, Objective]:
    """Creates the bi-encoder and its objective over the prepared tables."""
    config = task.config
    assert isinstance(config, TrainBiencoderConfig)
    model, settings = new_biencoder(task.bert, config)
    if task.weights is not None and (settings.pooling, settings.similarity) != ("cls", "dot"):
        log.warning(
            "biencoder_weights: BLINK trains for pooling cls and similarity dot, these settings are %s and %s",
            settings.pooling,
            settings.similarity,
        )
    tokenizer = load_tokenizer(task.bert, lowercase=config.lowercase)
    train_pairs, searched = GoldPairs.load(task.tables / "train"), SearchSet.load(task.tables / "valid")
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
            task.out,
            config.hard_negatives_from,
            None if config.hard_negatives_from == "model" else read_array(task.tables / BY_WORDS, mapped=True),
        )
    return model, BiencoderObjective(train_pairs, searched, settings, tokenizer, accelerator, config, negatives)
