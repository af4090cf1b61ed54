"""train-crossencoder: train the cross-encoder on the retrieved candidates; keep the best epoch by validation."""

from __future__ import annotations

import logging
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from zeshel_tasks.config.crossencoder import TrainCrossencoderConfig
from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.errors import DataError
from zeshel_tasks.models.biencoder import mention_tower
from zeshel_tasks.models.crossencoder import check_crossencoder, new_crossencoder
from zeshel_tasks.models.model_types import model_shape
from zeshel_tasks.models.tokenizer import load_tokenizer, load_tokens
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.inputs import candidate_sets
from zeshel_tasks.stages.training import (
    plan_training,
    pretrained_bert,
    pretrained_origin,
    ready_to_start,
    train,
)
from zeshel_tasks.store import Metrics
from zeshel_tasks.training.crossencoder_objective import CrossencoderObjective
from zeshel_tasks.training.fit import Fit
from zeshel_tasks.training.learnable import warn_of_sets
from zeshel_tasks.training.learning_rates import with_learning_rate
from zeshel_tasks.training.objective import Objective

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    bert = _start(job, job.recipe.train_crossencoder)
    check_crossencoder(model_shape(bert), job.recipe.train_crossencoder)
    config = with_learning_rate(job.recipe.train_crossencoder, model_shape(bert))
    task = plan_training(job, config, ready_to_start(job, config, bert), config.crossencoder_weights, build_objective)
    tokens = load_tokens(task.bert, lowercase=config.lowercase)

    def prepare(split: Split) -> CandidateSets:
        lengths = config.max_context_length, config.max_cand_length
        return candidate_sets(job, split, tokens, *lengths, task.tables / split)

    train_sets, valid_sets = prepare("train"), prepare("valid")
    dropped = len(train_sets.mentions) - len(train_sets.retrieved)
    if config.num_train_epochs and not len(train_sets.retrieved):
        raise DataError(
            "nothing to train on: no train mention has its gold among its candidates",
            expected="a bi-encoder that retrieves the golds of some mentions",
            got=f"{dropped} mentions without",
        )
    log.info("left out %d of %d train mentions, whose gold was not retrieved", dropped, len(train_sets.mentions))
    warn_of_sets(train_sets, valid_sets)
    origin = None if config.from_biencoder else pretrained_origin(job, config.bert_model)
    return train(job, task).model_copy(update={"dropped_mentions": dropped, "pretrained": origin}).dump()


def _start(job: Job, config: TrainCrossencoderConfig) -> Path:
    """Fetches the BERT to start from."""
    if config.from_biencoder:
        return mention_tower(job.inputs["train-biencoder"].directory("model"))
    return pretrained_bert(job, config.bert_model)


def build_objective(task: Fit, accelerator: Accelerator) -> tuple[nn.Module, Objective]:
    """Creates the cross-encoder and its objective over the prepared tables."""
    config = task.config
    assert isinstance(config, TrainCrossencoderConfig)
    model, settings = new_crossencoder(task.bert, config)
    tokenizer = load_tokenizer(task.bert, lowercase=config.lowercase)
    return model, CrossencoderObjective(
        CandidateSets.load(task.tables / "train"),
        CandidateSets.load(task.tables / "valid"),
        settings,
        tokenizer,
        accelerator,
        config,
    )
