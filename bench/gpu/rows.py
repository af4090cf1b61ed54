"""The measurements: parts of the package's own work, and their FLOP."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from bench import ours
from bench.gpu.flops import TRAINING, biencoder_step_flop, pairs_flop, product_flop, tower_flop
from bench.gpu.setup import TRAIN_MENTIONS, Setup
from bench.gpu.tables import PAD
from bench.gpu.timing import seconds_of_one
from zeshel_tasks.compute.machine import peak_gpu_memory_mb, reset_peak_memory
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.retrieval import search_size, top_k
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.models.crossencoder import new_crossencoder
from zeshel_tasks.models.inference import ready_for_inference

_TRAINING_GOAL, _ENCODING_GOAL = 0.55, 0.65
_BATCHES = 8  # batches of one call, if a stage does not wait for the results of a batch


@dataclass(frozen=True)
class Work:
    """Work that is ready to run.

    Attributes:
        run: does the work.
        items: number of items that it processes.
        flop: number of its floating-point operations.
    """

    run: Callable[[], object]
    items: int
    flop: int


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: name of the measurement.
        items: unit of the items.
        prepare: prepares the work.
        goal: intended share of the ceiling, if any.
        ceiling: type of numbers whose products are the ceiling.
    """

    name: str
    items: str
    prepare: Callable[[Setup], Work]
    goal: float | None = None
    ceiling: Literal["bf16", "fp32"] = "bf16"


@dataclass(frozen=True)
class Result:
    """The result of a measurement.

    Attributes:
        items_per_second: rate in the row's items.
        flop_per_second: rate of the model's floating-point operations.
        peak_gpu_mb: peak memory that torch held, in MB (10^6 bytes); None without a GPU.
    """

    items_per_second: float
    flop_per_second: float
    peak_gpu_mb: float | None


def measured(row: Row, setup: Setup, seconds: float) -> Result:
    """Prepare a row and time it for about ``seconds``."""
    gc.collect()  # free the previous row's memory on the device
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
    work = row.prepare(setup)
    one = seconds_of_one(work.run, seconds, setup.device, reset_peak_memory)
    return Result(work.items / one, work.flop / one, peak_gpu_memory_mb())


def _train_biencoder(setup: Setup) -> Work:
    recipe, mentions = setup.recipe, 2 * setup.batch
    accelerator = ours.accelerator_of(recipe)
    model, settings = new_biencoder(setup.model, recipe.train_biencoder)
    setup.ready(model)
    tokenizer, pairs = ours.tokenizer_of(setup.model), setup.tables().pairs(mentions)
    objective = ours.biencoder_objective(pairs, settings, tokenizer, accelerator, recipe)
    training = ours.Training(model, objective, recipe.train_biencoder, accelerator)
    step = biencoder_step_flop(setup.shape, setup.batch, setup.length)
    return Work(lambda: training.run(mentions), mentions, 2 * step)


def _train_crossencoder(setup: Setup) -> Work:
    recipe, mentions = setup.recipe, 2 * TRAIN_MENTIONS
    accelerator = ours.accelerator_of(recipe)
    model, settings = new_crossencoder(setup.model, recipe.train_crossencoder)
    setup.ready(model)
    tokenizer, sets = ours.tokenizer_of(setup.model), setup.tables().sets(mentions, setup.candidates)
    objective = ours.crossencoder_objective(sets, settings, tokenizer, accelerator, recipe)
    training = ours.Training(model, objective, recipe.train_crossencoder, accelerator)
    flop = TRAINING * pairs_flop(setup.shape, mentions * setup.candidates, setup.pair_length)
    return Work(lambda: training.run(mentions), mentions, flop)


def _encode(setup: Setup) -> Work:
    recipe, entities = setup.recipe, _BATCHES * setup.encode_batch
    evaluation = ours.Evaluation(recipe, PAD, ours.accelerator_of(recipe))
    model, _ = new_biencoder(setup.model, recipe.train_biencoder)
    setup.ready(model)
    ready_for_inference(model, evaluation.accelerator)
    table, path = setup.tables().tokens(entities), setup.scratch / "vectors.npy"
    flop = tower_flop(setup.shape, entities, setup.length)
    return Work(lambda: evaluation.encode(model, table, path), entities, flop)


def _score(setup: Setup) -> Work:
    recipe, mentions = setup.recipe, _BATCHES * TRAIN_MENTIONS
    evaluation = ours.Evaluation(recipe, PAD, ours.accelerator_of(recipe))
    model, _ = new_crossencoder(setup.model, recipe.train_crossencoder)
    setup.ready(model)
    ready_for_inference(model, evaluation.accelerator)
    sets = setup.tables().sets(mentions, setup.candidates)
    flop = pairs_flop(setup.shape, mentions * setup.candidates, setup.pair_length)
    return Work(lambda: evaluation.scores(model, sets, mentions), mentions, flop)


def _search(setup: Setup) -> Work:
    """Search as eval-biencoder does, with vectors in a file that was just read."""
    queries, path = _queries(setup), setup.scratch / "searched.npy"
    np.save(path, setup.tables().vectors(setup.entities, setup.shape.hidden))
    vectors = VectorFile(path)
    return Work(lambda: top_k(queries, vectors, setup.candidates), len(queries), _search_flop(setup, len(queries)))


def _search_on_device(setup: Setup) -> Work:
    """Search with the vectors of a world already on the device."""
    queries, vectors = _queries(setup), setup.tables().vectors(setup.entities, setup.shape.hidden)
    there = torch.from_numpy(vectors).to(setup.device)
    best = min(setup.candidates, setup.entities)
    return Work(lambda: (queries @ there.T).topk(best), len(queries), _search_flop(setup, len(queries)))


def _queries(setup: Setup) -> torch.Tensor:
    many = min(search_size(setup.device).queries, setup.entities)
    random = np.random.default_rng(1).standard_normal((many, setup.shape.hidden), dtype=np.float32)
    return torch.from_numpy(random).to(setup.device)


def _search_flop(setup: Setup, queries: int) -> int:
    return product_flop(queries, setup.shape.hidden, setup.entities)


TRAIN_BIENCODER = Row("bi-encoder training", "mentions", _train_biencoder, _TRAINING_GOAL)
TRAIN_CROSSENCODER = Row("cross-encoder training", "mentions", _train_crossencoder, _TRAINING_GOAL)
ENCODE = Row("candidate encoding", "entities", _encode, _ENCODING_GOAL)
SCORE = Row("cross-encoder scoring", "mentions", _score, _ENCODING_GOAL)
SEARCH = Row("retrieval search", "mentions", _search, ceiling="fp32")
SEARCH_ON_DEVICE = Row("retrieval search", "mentions", _search_on_device, ceiling="fp32")

TRAINING_ROWS = (TRAIN_BIENCODER, TRAIN_CROSSENCODER)
MODEL_ROWS = (*TRAINING_ROWS, ENCODE, SCORE)
ROWS = (*MODEL_ROWS, SEARCH)
