"""Measures a row by running the pipeline, whose store keeps what is done: a restarted bench goes on from there."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.quality.rows import Ranking, Row, Settings
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.config.splits import Split
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.blink_format import read_blink_mentions
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Run, open_run

SPLITS: tuple[Split, ...] = ("valid", "test")
_TIMED_MENTIONS = {"train_biencoder": 256, "train_crossencoder": 64}
_ALONE = {"exact_title", "bm25", "biencoder"}


@dataclass(frozen=True)
class Measured:
    """What a row found.

    Attributes:
        ranks: split -> mention id -> rank of the gold from 0; -1 if it is not among the candidates.
        candidates: candidates of each mention.
        epochs: epochs of each training.
        training_seconds: time of all trainings, with their validations.
        seconds: time of all stages.
    """

    ranks: dict[Split, dict[str, int]]
    candidates: int
    epochs: list[int]
    training_seconds: float
    seconds: float


@dataclass(frozen=True)
class Bench:
    """The pipeline with the settings of all rows.

    Attributes:
        store: folder for artifacts and runs.
        preset: preset of the settings.
        settings: overrides of the preset.
        minutes: training stage -> most minutes of its steps; a missing stage has no limit.
        small: folder of a data set to time trainings on.
    """

    store: Path
    preset: str
    settings: Settings
    minutes: dict[str, float]
    small: Path

    def measured(self, row: Row, name: str, data: Path, mentions: int) -> Measured | str:
        """Train and evaluate a row, or go on with it.

        Args:
            row: the row.
            name: name of its run.
            data: folder of the data set to train and evaluate on.
            mentions: number of train mentions in it; 0 for a row that is not trained.

        Returns:
            What the row found, or why it was not measured: a single epoch takes too long.
        """
        fitting: Settings = {}
        for stage in (stage for stage in row.trainings if mentions and stage in self.minutes):
            seconds, most = mentions / self._pace(row, stage), _config(self._recipe(row, data), stage).num_train_epochs
            fitting[f"{stage}.num_train_epochs"] = epochs = epochs_within(self.minutes[stage], seconds, most)
            if not epochs:
                return f"an epoch of {stage} takes about {seconds / 60:.0f} minutes"
        recipe, run = self._recipe(row, data, fitting), self._run(name)
        steps = [step for step in RECIPE if step.name in _needed({_ranked_by(row.ranking, split) for split in SPLITS})]
        manifests = [run_stage(step.stage, run.address, recipe, step.split) for step in steps]
        return Measured(
            ranks={split: _ranks(run, row.ranking, split) for split in SPLITS},
            candidates=recipe.eval_biencoder.top_k,
            epochs=[_config(recipe, stage).num_train_epochs for stage in row.trainings],
            training_seconds=sum(manifest.metrics.get("training_seconds", 0.0) for manifest in manifests),
            seconds=sum(manifest.wall_seconds for manifest in manifests),
        )

    def _pace(self, row: Row, stage: str) -> float:
        """Return how many mentions the training sees in a second on this machine, measured once for a store."""
        few = {"convert.max_mentions_per_world": _TIMED_MENTIONS[stage], "num_train_epochs": 1}
        recipe, run, name = self._recipe(row, self.small, few), self._run(f"pace-{stage}"), stage.replace("_", "-")
        steps = [step for step in RECIPE if step.name in _needed({name})]
        timed = [run_stage(step.stage, run.address, recipe, step.split) for step in steps]
        return float(timed[-1].metrics["mentions_per_second"])

    def _recipe(self, row: Row, data: Path, more: Settings | None = None) -> Recipe:
        fixed = {"download.source": str(data), "checkpoint_minutes": 2}
        return build_recipe(self.preset, fixed, self.settings, row.settings, more or {})

    def _run(self, name: str) -> Run:
        return open_run(f"{self.store}/runs/{name}")


def epochs_within(minutes: float, seconds_an_epoch: float, most: int) -> int:
    """Return how many whole epochs fit into a time, at most ``most``."""
    return min(most, int(60 * minutes // seconds_an_epoch))


def rank_by_score(scores: npt.NDArray[np.floating[Any]], gold: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Return the rank of each gold from 0, int64 [mentions]; -1 if it is not a candidate.

    Args:
        scores: [mentions, candidates]; of equal scores, that of the first candidate ranks higher.
        gold: [mentions], column of the gold; -1 if it is not a candidate.
    """
    column, columns = np.maximum(gold, 0)[:, None], np.arange(scores.shape[1])
    of_gold = np.take_along_axis(scores, column, 1)
    ahead = (scores > of_gold) | ((scores == of_gold) & (columns < column))
    return np.where(gold >= 0, ahead.sum(1), -1)


def _ranked_by(ranking: Ranking, split: Split) -> str:
    """Return the name of the step that orders the candidates."""
    if ranking == "linker":
        return "fuse"
    return f"eval-{'crossencoder' if ranking == 'crossencoder' else 'biencoder'}-{split}"


def _needed(names: set[str]) -> set[str]:
    """Return the names of these steps and of all steps before them whose output they need."""
    inputs = {name for step in RECIPE if step.name in names for name in step.inputs}
    return names if inputs <= names else _needed(names | inputs)


def _ranks(run: Run, ranking: Ranking, split: Split) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        convert = run.artifact("convert", Path(folder))
        convert.path(f"{split}.mentions.jsonl")  # read beside the other file
        mention_ids = [mention.mention_id for mention in read_blink_mentions(convert.path(f"{split}.jsonl"))]
        retrieved = run.artifact(f"eval-biencoder-{split}", Path(folder))
        ranks = np.load(retrieved.path(f"gold_rank_{ranking}.npy" if ranking in _ALONE else "gold_rank.npy"))
        if ranking in ("crossencoder", "linker"):
            file = f"{split}/scores.npy" if ranking == "linker" else "scores.npy"
            scores = np.load(run.artifact(_ranked_by(ranking, split), Path(folder)).path(file))
            ranks = rank_by_score(scores, ranks)
        return dict(zip(mention_ids, ranks.tolist(), strict=True))


def _config(recipe: Recipe, stage: str) -> EncoderConfig:
    config: EncoderConfig = getattr(recipe, stage)
    return config
