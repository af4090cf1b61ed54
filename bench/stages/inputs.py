"""The bounded sample for both sides of ``bench/stages``. Each part is made at its first use.

There are two samples of the train split: ``mixed`` has mentions from all worlds, for training and re-ranking; ``world``
has all mentions of the largest world, for work that the stages do world by world.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench import ours
from bench.stages.smaller_world import write_smaller_world
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.tokens import Tokens, TokenTable

MIXED_MENTIONS = 2048
RETRIEVED_MENTIONS = 1024  # mentions of the world whose vectors are computed beforehand
ENCODED_ENTITIES = 16_384
_SEED = 7

Run = Callable[[int], object]
"""Does the work for a number of items from the start of the sample."""


@dataclass(frozen=True)
class Inputs:
    """The sample and its settings.

    Attributes:
        data: folder of a data set in ZESHEL's format.
        model: directory of the pretrained BERT.
        recipe: settings of both sides.
        scratch: folder for the sample and its results.
    """

    data: Path
    model: Path
    recipe: Recipe
    scratch: Path

    @property
    def tokens(self) -> Tokens:
        """Return the tokenizer of our side."""
        return Tokens(ours.tokenizer_of(self.model), lowercase=True)

    def mentions(self, sample: str) -> list[str]:
        """Return the lines of the sample ``mixed`` or ``world``, in random order."""
        path = self.scratch / f"{sample}.json"
        if not path.exists():
            self._draw()
        return path.read_text(encoding="utf-8").splitlines(keepends=True)

    def data_of(self, sample: str, count: int) -> Path:
        """Return a data set whose train split has the sample's first ``count`` mentions."""
        folder = self.scratch / f"{sample}-{count}"
        if not folder.exists():
            (folder / "mentions").mkdir(parents=True)
            (folder / "documents").symlink_to((self.data / "documents").resolve())
            (folder / "mentions" / "train.json").write_text("".join(self.mentions(sample)[:count]), encoding="utf-8")
        return folder

    def smaller_world(self, count: int) -> Path:
        """Return a data set of the first ``count`` mentions of ``world``, with the same ratio of documents."""
        folder = self.scratch / f"smaller-world-{count}"
        if not folder.exists():
            write_smaller_world(self.data, self.mentions("world"), count, folder, _SEED)
        return folder

    def pairs(self, sample: str, most: int) -> GoldPairs:
        """Return tables of the sample's first mentions, at most ``most``."""
        folder = self.scratch / f"{sample}-tables"
        if not folder.exists():
            count = min(most, len(self.mentions(sample)))
            ours.convert_and_tokenize(self.data_of(sample, count), self.recipe, self.tokens, folder)
        return GoldPairs.load(folder / "pairs")

    def entities(self, world: str) -> TokenTable:
        """Return the token table of a world's entities."""
        path = self.scratch / "entities" / f"{world}.npy"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            ours.tokenize_world(self.data, world, self.recipe, self.tokens, path)
        return read_array(path, mapped=True)

    def encoded(self) -> TokenTable:
        """Return entities drawn from the worlds of ``mixed``."""
        path = self.scratch / "encoded.npy"
        if not path.exists():
            everything = np.concatenate([self.entities(world) for world in self._worlds()])
            np.save(path, np.random.default_rng(_SEED).permutation(everything)[:ENCODED_ENTITIES])
        return read_array(path, mapped=True)

    def sets(self) -> CandidateSets:
        """Return the mentions of ``mixed`` with entities of their worlds as candidates, the gold at random."""
        mentions = self.pairs("mixed", MIXED_MENTIONS).mentions
        tables = {world: self.entities(world) for world in mentions.worlds}
        size = min([self.recipe.eval_biencoder.top_k, *(len(table) for table in tables.values())])
        random_state = np.random.default_rng(_SEED)
        candidates = np.empty((len(mentions), size), dtype=np.int32)
        gold_rank = random_state.integers(0, size, len(mentions)).astype(np.int32)
        for row, label in enumerate(mentions.label):
            entities = len(tables[mentions.worlds[mentions.world[row]]])
            others = random_state.choice(entities - 1, size, replace=False)
            candidates[row] = others + (others >= label)  # skip the gold
            candidates[row, gold_rank[row]] = label
        return CandidateSets(mentions, candidates, gold_rank, tables)

    def start_weights(self, encoder: str) -> Path:
        """Return the weights from which the ``biencoder`` or ``crossencoder`` of both sides starts."""
        paths = {name: self.scratch / f"{name}.bin" for name in ("biencoder", "crossencoder")}
        if not paths[encoder].exists():
            ours.save_start_weights(self.model, self.recipe, **paths)
        return paths[encoder]

    def largest_world(self) -> TokenTable:
        """Return the entities to search for the mentions of ``world``."""
        return self.entities(self.pairs("world", RETRIEVED_MENTIONS).mentions.worlds[0])

    def vectors(self) -> Path:
        """Return a file with a vector for each entity of the largest world: float32 [entities, hidden size].

        The time of a search does not depend on the vectors, so they are random and no world is encoded. It only
        matters that most golds are found, as by a trained model, so a gold has the vector of one of its mentions.
        """
        path = self.scratch / "vectors.npy"
        if not path.exists():
            contexts, labels = self._context_vectors()
            vectors = np.random.default_rng(_SEED).standard_normal((len(self.largest_world()), contexts.shape[1]))
            vectors[labels] = contexts
            np.save(path, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
        return path

    def _context_vectors(self) -> tuple[npt.NDArray[np.float32], TokenTable]:
        accelerator = ours.accelerator_of(self.recipe)
        model, _ = ours.start_biencoder(self.model, self.recipe, self.start_weights("biencoder"))
        model.to(accelerator.device).eval()
        evaluation = ours.Evaluation(self.recipe, self.tokens.pad, accelerator)
        mentions = self.pairs("world", RETRIEVED_MENTIONS).mentions
        parts = [evaluation.contexts(model, mentions.contexts[rows]) for rows in ours.in_batches(len(mentions), 64)]
        return torch.cat(parts).cpu().numpy(), mentions.label

    def _worlds(self) -> list[str]:
        return self.pairs("mixed", MIXED_MENTIONS).mentions.worlds

    def _draw(self) -> None:
        by_world: dict[str, list[str]] = defaultdict(list)
        with (self.data / "mentions" / "train.json").open(encoding="utf-8") as lines:
            for line in lines:
                by_world[json.loads(line)["corpus"]].append(line.rstrip("\n") + "\n")
        mixed = [line for lines in by_world.values() for line in lines]
        largest = max(by_world.values(), key=len)
        for sample, mentions, most in (("mixed", mixed, MIXED_MENTIONS), ("world", largest, len(largest))):
            drawn = random.Random(_SEED).sample(mentions, min(most, len(mentions)))
            (self.scratch / f"{sample}.json").write_text("".join(drawn), encoding="utf-8")
