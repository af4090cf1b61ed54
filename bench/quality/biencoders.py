"""Trains the rows of the bi-encoder and measures their recall among all entities of worlds that were not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import ours
from bench.quality.rows import Row
from bench.quality.sample import Sample
from bench.quality.training import Pace, new_fit, pace_of, trained
from zeshel_tasks.compute.device import build_accelerator
from zeshel_tasks.config import Recipe, TrainBiencoderConfig
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.candidates import retrieve
from zeshel_tasks.evaluation.encoding import encode_table
from zeshel_tasks.models.biencoder import load_biencoder
from zeshel_tasks.models.inference import ready_for_inference
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.stages.train_biencoder import build_objective
from zeshel_tasks.training.fit import Fit

_VALIDATED_ON = 25  # mentions of each world; a few, since a single epoch is always the best
_RETRIEVED = 64
_BATCH = 64


@dataclass(frozen=True)
class Retrieved:
    """The candidates of a split's mentions.

    Attributes:
        candidates: int32 [mentions, top_k], positions in the mention's world; -1 is padding.
        gold_rank: int32 [mentions]; -1 if the gold is not among the candidates.
    """

    candidates: np.ndarray[Any, np.dtype[np.int32]]
    gold_rank: np.ndarray[Any, np.dtype[np.int32]]

    def recall(self, at: int) -> float:
        """Return the share of mentions whose gold is among the first ``at`` candidates."""
        return float(np.mean((self.gold_rank >= 0) & (self.gold_rank < at)))


def train_biencoder(row: Row, sample: Sample, bert: Path, seed: int, mentions: int) -> tuple[Path, float]:
    """Train on ``mentions`` mentions drawn by ``seed``. Return the model's directory and the seconds it took."""
    task = _fit(row, sample, bert, seed, mentions)
    result = trained(task)
    return task.model, result.metrics.training_seconds


def biencoder_pace(row: Row, sample: Sample, bert: Path, batches: int) -> Pace:
    """Measure the speed of a row's training on this machine."""
    return pace_of(
        _fit(row, sample, bert, 0, (batches + 1) * biencoder_config(row, sample, 0).train_batch_size), batches
    )


def biencoder_config(row: Row, sample: Sample, seed: int) -> TrainBiencoderConfig:
    """Return the row's settings: one epoch of distinct mentions."""
    lengths = {"max_context_length": sample.length, "max_cand_length": sample.length}
    own = {f"train_biencoder.{name}": value for name, value in row.settings.items()}
    recipe: Recipe = build_recipe("blink", lengths, {"seed": seed, "train_biencoder.num_train_epochs": 1}, own)
    return recipe.train_biencoder


def retrieved(model: Path, pairs: GoldPairs, sample: Sample) -> Retrieved:
    """Retrieve the best entities for each mention among all of its world."""
    config = build_recipe("blink").eval_biencoder
    accelerator = build_accelerator(config)
    biencoder, _, _ = load_biencoder(model)
    ready_for_inference(biencoder, accelerator)
    mentions, pad = pairs.mentions, sample.tokens.pad
    candidates = np.full((len(mentions), _RETRIEVED), -1, dtype=np.int32)
    for world, rows in mentions.rows_of_world().items():
        path = sample.scratch / "vectors.npy"
        encode_table(biencoder.cand_encoder, sample.entities(world), _BATCH, pad, accelerator, path, lambda _: None)
        for found in retrieve(
            biencoder.context_encoder,
            mentions.contexts,
            rows,
            VectorFile(path),
            _RETRIEVED,
            _BATCH,
            pad,
            accelerator,
            lambda _: None,
        ):
            candidates[found.rows, : found.positions.shape[1]] = found.positions
    hit = candidates == np.asarray(mentions.label)[:, None]
    return Retrieved(candidates, np.where(hit.any(1), hit.argmax(1), -1).astype(np.int32))


def _fit(row: Row, sample: Sample, bert: Path, seed: int, mentions: int) -> Fit:
    tables = ours.emptied(sample.scratch / "tables")
    config = biencoder_config(row, sample, seed)
    train = sample.pairs("train", mentions, seed)
    valid = sample.pairs("valid", _VALIDATED_ON)
    (tables / "train").symlink_to(sample.folder("train", mentions, seed))
    for world in valid.mentions.worlds:
        searched, entities = tables / "valid" / "entities" / world, sample.entities(world)
        searched.mkdir(parents=True)
        np.save(searched / "tokens.npy", entities)
        np.save(searched / "positions.npy", np.arange(len(entities)))
        np.save(searched / "weights.npy", np.ones(len(entities), dtype=np.float32))
    (tables / "valid" / "mentions").symlink_to(sample.folder("valid", _VALIDATED_ON))
    if config.hard_negatives:
        for world in train.mentions.worlds:
            sample.entities(world)
        (tables / "entities").symlink_to(sample.scratch / "entities")
    return new_fit(build_objective, config, bert, tables, sample.scratch / "biencoder")
