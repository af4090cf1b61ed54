"""train-biencoder: two towers on in-batch negatives, the best epoch by validation kept."""

from __future__ import annotations

from accelerate import Accelerator
from torch import nn

from zeshel_tasks.config import TrainBiencoderConfig
from zeshel_tasks.data.mention_table import GoldPairs, tokenize_pairs
from zeshel_tasks.models.bert import load_tokenizer
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.stages.contract import Job, Metrics
from zeshel_tasks.stages.inputs import split_file
from zeshel_tasks.stages.training import plan_training, start_tokens, train
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.fit import Fit
from zeshel_tasks.training.loop import Objective


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    config = job.recipe.train_biencoder
    task = plan_training(job, config, config.biencoder_weights, build_objective)
    tokens = start_tokens(task)
    for split in ("train", "valid"):
        lengths = config.max_context_length, config.max_cand_length
        tokenize_pairs(split_file(job, split), tokens, *lengths, task.tables / split)
    return train(job, task)


def build_objective(task: Fit, accelerator: Accelerator) -> tuple[nn.Module, Objective]:
    """The bi-encoder at its start, and its objective over the prepared tables."""
    config = task.config
    assert isinstance(config, TrainBiencoderConfig)
    model, settings = new_biencoder(task.bert, config)
    tokenizer = load_tokenizer(task.bert, lowercase=config.lowercase)
    return model, BiencoderObjective(
        GoldPairs.load(task.tables / "train"),
        GoldPairs.load(task.tables / "valid"),
        settings,
        tokenizer,
        accelerator,
        config.eval_batch_size,
        mask_duplicate_golds=config.mask_duplicate_golds,
    )
