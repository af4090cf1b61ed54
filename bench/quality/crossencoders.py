"""Trains the rows of the cross-encoder on one bi-encoder's candidates and measures their unnormalized accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import ours
from bench.quality.biencoders import retrieved
from bench.quality.rows import Row
from bench.quality.sample import Sample
from bench.quality.training import Pace, new_fit, pace_of, trained
from zeshel_tasks.config import Split, TrainCrossencoderConfig
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.models.biencoder import mention_tower
from zeshel_tasks.models.crossencoder import load_crossencoder
from zeshel_tasks.models.inference import ready_for_inference
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.stages.train_crossencoder import build_objective
from zeshel_tasks.training.fit import Fit

_VALIDATED_ON = 5  # mentions of each world during the training


@dataclass(frozen=True)
class Candidates:
    """The best candidates of one bi-encoder, for the cross-encoders of one seed.

    Attributes:
        sample: mentions and entities.
        biencoder: directory of the bi-encoder.
        count: candidates of a mention.
        seed: seed that draws the train mentions.
        most: number of train mentions with candidates.
    """

    sample: Sample
    biencoder: Path
    count: int
    seed: int
    most: int

    def train_folder(self, mentions: int, folder: Path) -> None:
        """Write tables of the first mentions whose gold was retrieved into the new directory ``folder``."""
        everything = self.folder("train", self.most)
        folder.mkdir()
        for name in ("mentions", "entities", "candidates.npy"):
            (folder / name).symlink_to(everything / name)
        rank = np.load(everything / "gold_rank.npy")
        beyond = np.flatnonzero(rank >= 0)[mentions:]
        rank[beyond] = -1  # mentions whose gold is not retrieved are not trained on
        np.save(folder / "gold_rank.npy", rank)

    def trainable(self) -> int:
        """Return the maximum number of mentions to train on."""
        return len(self.sets("train", self.most).retrieved)

    def folder(self, split: Split, most: int) -> Path:
        """Return the folder with tables as in the stages of the cross-encoder."""
        folder = self.sample.scratch / f"sets-{split}-{most}-{self.seed}"
        if not folder.exists():
            seed = self.seed if split == "train" else 0
            pairs = self.sample.pairs(split, most, seed)
            found = retrieved(self.biencoder, pairs, self.sample)
            folder.mkdir()
            (folder / "mentions").symlink_to(self.sample.folder(split, most, seed))
            (folder / "entities").symlink_to(self.sample.scratch / "entities")
            np.save(folder / "candidates.npy", found.candidates[:, : self.count])
            np.save(folder / "gold_rank.npy", np.where(found.gold_rank < self.count, found.gold_rank, -1))
        return folder

    def sets(self, split: Split, most: int) -> CandidateSets:
        """Return the mentions of a split to measure on."""
        return CandidateSets.load(self.folder(split, most))


def crossencoder_config(row: Row, sample: Sample, seed: int) -> TrainCrossencoderConfig:
    """Return the row's settings: one epoch of distinct mentions."""
    lengths = {
        "max_context_length": sample.length,
        "max_cand_length": sample.length,
        "max_seq_length": 2 * sample.length,
    }
    own = {f"train_crossencoder.{name}": value for name, value in row.settings.items()}
    fixed = {"seed": seed, "train_crossencoder.num_train_epochs": 1}
    return build_recipe("blink", lengths, fixed, own).train_crossencoder


def crossencoder_pace(row: Row, candidates: Candidates, bert: Path, batches: int) -> Pace:
    """Measure the speed of a row's training on this machine."""
    batch = crossencoder_config(row, candidates.sample, 0).train_batch_size
    return pace_of(_fit(row, candidates, bert, (batches + 4) * batch), batches)


def train_crossencoder(row: Row, candidates: Candidates, bert: Path, mentions: int) -> tuple[Path, float]:
    """Train on ``mentions`` mentions. Return the model's directory and the seconds it took."""
    task = _fit(row, candidates, bert, mentions)
    result = trained(task)
    return task.model, result.metrics.training_seconds


def unnormalized_accuracy(model: Path, sets: CandidateSets, pad: int) -> float:
    """Return the share of all mentions whose gold has the highest score."""
    crossencoder, settings, _ = load_crossencoder(model)
    lengths = {name: getattr(settings, name) for name in ("max_context_length", "max_cand_length", "max_seq_length")}
    recipe = build_recipe("blink", lengths)
    evaluation = ours.Evaluation(recipe, pad, ours.accelerator_of(recipe))
    ready_for_inference(crossencoder, evaluation.accelerator)
    best = evaluation.scores(crossencoder, sets, len(sets.mentions)).argmax(1)
    return float(np.mean(best.numpy() == sets.gold_rank))


def _fit(row: Row, candidates: Candidates, bert: Path, mentions: int) -> Fit:
    tables = ours.emptied(candidates.sample.scratch / "tables")
    candidates.train_folder(mentions, tables / "train")
    (tables / "valid").symlink_to(candidates.folder("valid", _VALIDATED_ON))
    config = crossencoder_config(row, candidates.sample, candidates.seed)
    start = mention_tower(candidates.biencoder) if config.from_biencoder else bert
    return new_fit(build_objective, config, start, tables, candidates.sample.scratch / "crossencoder")
