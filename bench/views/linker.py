"""Trains with views, and retrieves by them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import ours
from bench.quality.biencoders import biencoder_config
from bench.quality.rows import RETRIEVER
from bench.quality.sample import Sample
from bench.quality.training import Pace, new_fit, pace_of, trained
from bench.views.objective import build_views_objective
from bench.views.views import Rows, Views, best_of_views
from zeshel_tasks.compute.device import build_accelerator
from zeshel_tasks.config import Split
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.zeshel import Dataset
from zeshel_tasks.evaluation.encoding import encode_rows, encode_table
from zeshel_tasks.models.biencoder import load_biencoder
from zeshel_tasks.training.fit import Fit

_BATCH = 64


@dataclass(frozen=True)
class Shape:
    """How an entity is encoded: at most ``views`` views of ``length`` tokens."""

    views: int
    length: int

    def __str__(self) -> str:
        return f"{self.views}x{self.length}"

    def of(self, sample: Sample, world: str) -> Views:
        """The views of a world's entities."""
        return self._views(sample, list(_entities(sample, world)))

    def of_golds(self, sample: Sample, pairs: GoldPairs) -> Views:
        """The views of ``pairs.golds``."""
        _, mention = np.unique(pairs.gold_row, return_index=True)
        worlds = {world: list(_entities(sample, world)) for world in pairs.mentions.worlds}
        names, labels = pairs.mentions.world[mention], pairs.mentions.label[mention]
        golds = [worlds[pairs.mentions.worlds[world]][label] for world, label in zip(names, labels, strict=True)]
        return self._views(sample, golds)

    def _views(self, sample: Sample, entities: list[tuple[str, str]]) -> Views:
        return Views.of(entities, self.views, self.length, sample.tokens)


def new_training(shape: Shape, sample: Sample, bert: Path, seed: int, mentions: int) -> Fit:
    """A training on ``mentions`` mentions drawn by ``seed``."""
    tables = ours.emptied(sample.scratch / "tables")
    shape.of_golds(sample, sample.pairs("train", mentions, seed)).save(tables / "views")
    (tables / "train").symlink_to(sample.folder("train", mentions, seed))
    config = biencoder_config(RETRIEVER, sample, seed)
    return new_fit(build_views_objective, config, bert, tables, sample.scratch / "biencoder")


def mentions_in(seconds: float, shape: Shape, sample: Sample, bert: Path, timed: int) -> tuple[Pace, int]:
    """The pace of ``timed`` mentions, and how many fit into the time."""
    task = new_training(shape, sample, bert, 0, timed)
    batch = task.config.train_batch_size
    pace = pace_of(task, max(1, timed // batch))
    return pace, pace.mentions_in(seconds, batch, sample.available())


def train(shape: Shape, sample: Sample, bert: Path, seed: int, mentions: int) -> tuple[Path, float]:
    """Returns the model's directory and the seconds it took."""
    task = new_training(shape, sample, bert, seed, mentions)
    return task.model, float(trained(task).metrics["training_seconds"])


def gold_ranks(model: Path, shape: Shape, sample: Sample, split: Split, most: int) -> tuple[Rows, float]:
    """Entities that score above each mention's gold in its world, and how many views an entity has."""
    pairs = sample.pairs(split, most)
    accelerator = build_accelerator(biencoder_config(RETRIEVER, sample, 0))
    biencoder, _, _ = load_biencoder(model)
    biencoder.to(accelerator.device).eval()
    pad, path, views, entities = sample.tokens.pad, sample.scratch / "vectors.npy", 0, 0
    ranks = np.zeros(len(pairs.mentions), dtype=np.int64)
    for world, rows in pairs.mentions.rows_of_world().items():
        table = shape.of(sample, world)
        encode_table(biencoder.cand_encoder, table.tokens, _BATCH, pad, accelerator, path, lambda _: None)
        contexts = encode_rows(biencoder.context_encoder, pairs.mentions.contexts[rows], pad, accelerator)
        scores = best_of_views(contexts.cpu().numpy() @ np.load(path).T, table.first[:-1])
        of_gold = np.take_along_axis(scores, pairs.mentions.label[rows].astype(np.int64)[:, None], 1)
        ranks[rows] = (scores > of_gold).sum(1)
        views, entities = views + len(table.tokens), entities + len(table.first) - 1
    return ranks, views / entities


def _entities(sample: Sample, world: str) -> list[tuple[str, str]]:
    return [(document.title, document.text) for document in Dataset(sample.data).documents(world)]
