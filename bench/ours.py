"""All calls of ``bench`` into ``zeshel_tasks``. If a signature changes there, only this file must follow.

Each function does the work of a stage, without artifacts, checkpoints and progress lines.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn

from zeshel_tasks.compute.device import build_accelerator
from zeshel_tasks.compute.interrupt import Interrupt
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.arrays import Rows, new_array
from zeshel_tasks.data.blink_format import convert_split
from zeshel_tasks.data.candidate_sets import CandidateSets, tokenize_entities
from zeshel_tasks.data.mention_table import GoldPairs, tokenize_pairs
from zeshel_tasks.data.search_set import SearchSet
from zeshel_tasks.data.tokens import Tokens, TokenTable
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.data.zeshel import Dataset
from zeshel_tasks.evaluation.candidates import retrieve
from zeshel_tasks.evaluation.encoding import encode_rows, encode_table
from zeshel_tasks.evaluation.rerank import candidate_scores
from zeshel_tasks.models.biencoder import Biencoder, BiencoderSettings, new_biencoder
from zeshel_tasks.models.blink_weights import load_blink_weights, save_blink_weights
from zeshel_tasks.models.crossencoder import Crossencoder, CrossencoderSettings, new_crossencoder
from zeshel_tasks.models.tokenizer import load_tokenizer
from zeshel_tasks.store import open_store
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.checkpoints import Checkpoints
from zeshel_tasks.training.crossencoder_objective import CrossencoderObjective
from zeshel_tasks.training.loop import Trainer
from zeshel_tasks.training.objective import Objective
from zeshel_tasks.training.optimizer import build_optimizer, choose_trained

Scores = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int32]


def tokenizer_of(model: Path) -> Any:
    """Return the tokenizer that our stages use for the BERT in the directory ``model``."""
    return load_tokenizer(model, lowercase=True)


def convert_and_tokenize(data: Path, recipe: Recipe, tokens: Tokens, folder: Path) -> GoldPairs:
    """Convert and tokenize the train split of ``data``. Writes into the new directory ``folder``."""
    lengths = recipe.train_biencoder.max_context_length, recipe.train_biencoder.max_cand_length
    convert_split(Dataset(data), "train", folder, recipe.convert)
    return tokenize_pairs(folder / "train.jsonl", tokens, *lengths, folder / "pairs")


def tokenize_world(data: Path, world: str, recipe: Recipe, tokens: Tokens, path: Path) -> TokenTable:
    """Write the token table of a world's entities to ``path``."""
    documents = list(Dataset(data).documents(world))
    max_length = recipe.train_biencoder.max_cand_length
    return tokenize_entities(documents, len(documents), tokens, max_length, "title_and_text", path)


def save_start_weights(model: Path, recipe: Recipe, biencoder: Path, crossencoder: Path) -> None:
    """Write the initial weights of both encoders with BLINK's names, so that both sides start with the same numbers."""
    torch.manual_seed(recipe.train_biencoder.seed)
    save_blink_weights(new_biencoder(model, recipe.train_biencoder)[0], biencoder)
    save_blink_weights(new_crossencoder(model, recipe.train_crossencoder)[0], crossencoder)


def start_biencoder(model: Path, recipe: Recipe, weights: Path) -> tuple[Biencoder, BiencoderSettings]:
    """Return the bi-encoder with saved weights."""
    encoder, settings = new_biencoder(model, recipe.train_biencoder)
    load_blink_weights(encoder, weights)
    return encoder, settings


def start_crossencoder(model: Path, recipe: Recipe, weights: Path) -> tuple[Crossencoder, CrossencoderSettings]:
    """Return the cross-encoder with saved weights."""
    encoder, settings = new_crossencoder(model, recipe.train_crossencoder)
    load_blink_weights(encoder, weights)
    return encoder, settings


def biencoder_objective(
    pairs: GoldPairs, settings: BiencoderSettings, tokenizer: Any, accelerator: Accelerator, recipe: Recipe
) -> BiencoderObjective:
    """Return the objective of a training on ``pairs``."""
    return BiencoderObjective(
        pairs, SearchSet(pairs.mentions, {}), settings, tokenizer, accelerator, recipe.train_biencoder
    )


def crossencoder_objective(
    sets: CandidateSets, settings: CrossencoderSettings, tokenizer: Any, accelerator: Accelerator, recipe: Recipe
) -> CrossencoderObjective:
    """Return the objective of a training on ``sets``."""
    return CrossencoderObjective(sets, sets, settings, tokenizer, accelerator, recipe.train_crossencoder)


class Training:
    """Takes training steps like :class:`~zeshel_tasks.training.loop.Trainer`, at the peak learning rate."""

    def __init__(self, model: nn.Module, objective: Objective, config: EncoderConfig, accelerator: Accelerator) -> None:
        self._objective, self._config, self._accelerator = objective, config, accelerator
        choose_trained(model, config.type_optimization)
        self._model, self._optimizer = accelerator.prepare(model, build_optimizer(model, config))
        self._model.train()

    def prepare(self) -> None:
        """Prepare the first step of the training."""
        self._objective.begin_epoch(self._model, 0, resumed=False, after_batch=lambda: None)
        self._model.train()

    def run(self, count: int) -> list[torch.Tensor]:
        """Train on the first ``count`` mentions. Return the losses of the steps."""
        return [self._step(rows) for rows in in_batches(count, self._config.train_batch_size)]

    def _step(self, rows: Rows) -> torch.Tensor:
        losses = []
        parts = min(self._config.gradient_accumulation_steps, len(rows))
        for part in self._objective.parts(self._model, rows, parts):
            self._accelerator.backward(part.root)
            losses.append(part.loss)
        self._accelerator.clip_grad_norm_(self._model.parameters(), self._config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses).sum()


def train_to_the_end(
    model: nn.Module, objective: Objective, config: EncoderConfig, accelerator: Accelerator, scratch: Path
) -> None:
    """Train as a stage does, with validations, and with checkpoints in a store below ``scratch``."""
    checkpoints = Checkpoints(open_store(str(scratch / "store")), "checkpoints", scratch / "checkpoints")
    Trainer(model, objective, config, accelerator, checkpoints, scratch / "best", Interrupt()).run()


@dataclass(frozen=True)
class Evaluation:
    """The work of the evaluation stages.

    Attributes:
        recipe: settings of eval-biencoder and eval-crossencoder.
        pad: id of [PAD].
        accelerator: device and precision.
    """

    recipe: Recipe
    pad: int
    accelerator: Accelerator

    def encode(self, model: Biencoder, table: TokenTable, path: Path) -> VectorFile:
        """Write the vectors of candidates to a file at ``path``."""
        config = self.recipe.eval_biencoder
        encode_table(
            model.cand_encoder,
            table,
            config.encode_batch_size,
            self.pad,
            self.accelerator,
            path,
            lambda _: None,
            config.vector_dtype,
        )
        return VectorFile(path)

    def contexts(self, model: Biencoder, table: TokenTable) -> torch.Tensor:
        """Return the vectors of mentions."""
        return encode_rows(model.context_encoder, table, self.pad, self.accelerator)

    def retrieve(
        self, model: Biencoder, contexts: TokenTable, vectors: VectorFile, folder: Path
    ) -> tuple[Positions, Scores]:
        """Write candidates and scores of mentions of one world to files in ``folder``, [mentions, top_k] each."""
        config = self.recipe.eval_biencoder
        shape = len(contexts), min(config.top_k, len(vectors))
        candidates = new_array(folder / "candidates.npy", np.int32, shape)
        scores = new_array(folder / "scores.npy", np.float32, shape)
        for found in retrieve(
            model.context_encoder,
            contexts,
            np.arange(len(contexts)),
            vectors,
            config.top_k,
            config.eval_batch_size,
            self.pad,
            self.accelerator,
            lambda _: None,
        ):
            candidates[found.rows], scores[found.rows] = found.positions, found.scores
        return candidates, scores

    def scores(self, model: Crossencoder, sets: CandidateSets, count: int) -> torch.Tensor:
        """Return the cross-encoder's scores of the first ``count`` mentions' candidates, [count, top_k]."""
        max_length, device = self.recipe.train_crossencoder.max_seq_length, self.accelerator.device
        scores = []
        with torch.inference_mode(), self.accelerator.autocast():
            for rows in in_batches(count, self.recipe.eval_crossencoder.eval_batch_size):
                scores.append(candidate_scores(model, sets, rows, max_length, self.pad, device).float().cpu())
        return torch.cat(scores)


def accelerator_of(recipe: Recipe) -> Accelerator:
    """Return a new accelerator for the device and precision of the recipe."""
    return build_accelerator(recipe.train_biencoder)


def in_batches(count: int, size: int) -> Iterator[Rows]:
    """Yield the first ``count`` rows, ``size`` at a time."""
    yield from (np.arange(start, min(start + size, count)) for start in range(0, count, size))


def emptied(folder: Path) -> Path:
    """Create ``folder`` as an empty directory, and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
