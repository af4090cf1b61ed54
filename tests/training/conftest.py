"""Fixtures: small trainings on the golden data, for the tests of the loop and of the processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.fork_server import fork_server
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.candidate_sets import load_worlds
from zeshel_tasks.data.mention_table import tokenize_pairs
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.models.tokenizer import load_tokens
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.stages import train_biencoder, train_crossencoder
from zeshel_tasks.stages.inputs import candidate_sets, split_file, tokenize_search_set, tokenize_worlds
from zeshel_tasks.store import Run, open_run
from zeshel_tasks.training.fit import BuildObjective, Fit


@pytest.fixture(autouse=True)
def _one_fork_server() -> None:
    """Makes training processes start with torch imported."""
    fork_server()


@pytest.fixture(scope="session")
def pair_tables(raw_archive: Path, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders train with the golden pairs and valid with mentions and entities, 32 tokens each."""
    folder = tmp_path_factory.mktemp("pairs")
    recipe = build_recipe("smoke", {"source": str(raw_archive), "max_context_length": 32, "max_cand_length": 32})
    for name in ("download", "convert"):
        run_stage(STAGES[name], f"{folder}/runs/r", recipe)
    job, tokens = _job(folder), load_tokens(golden / "bert", lowercase=True)
    tokenize_pairs(split_file(job, "train"), tokens, 32, 32, folder / "train")
    tokenize_search_set(job, "valid", tokens, recipe.train_biencoder, folder / "valid")
    return folder


@pytest.fixture(scope="session")
def entity_tables(pair_tables: Path, golden: Path) -> dict[str, TokenTable]:
    """The entities of the golden train worlds, 32 tokens each. Their files are beside the pairs."""
    folder = pair_tables / "entities"
    tokenize_worlds(_job(pair_tables), "train", load_tokens(golden / "bert", lowercase=True), 32, folder)
    return load_worlds(folder)


def _job(folder: Path) -> Job:
    run = open_run(f"{folder}/runs/r")
    inputs = {name: run.artifact(name, folder / "cache") for name in STAGES["train-biencoder"].inputs}
    return Job(run, build_recipe("smoke"), inputs, Target("x", None, {}, {}), folder)


MakeFit = Callable[..., Fit]


@pytest.fixture
def hard_fit(biencoder_fit: MakeFit, entity_tables: dict[str, TokenTable]) -> MakeFit:
    """Like ``biencoder_fit``, with the entities from which hard negatives are chosen."""
    assert entity_tables
    return biencoder_fit


@pytest.fixture
def biencoder_fit(pair_tables: Path, golden_with_dropout: Path, tmp_path: Path) -> MakeFit:
    """Makes a bi-encoder training of 2 epochs of 8 steps, 16 mentions each; keyword arguments are settings."""

    def make(name: str = "a", **settings: Any) -> Fit:
        config = _config("train_biencoder", **{"train_batch_size": 16, **settings})
        return _fit(tmp_path, name, train_biencoder.build_objective, config, golden_with_dropout, pair_tables)

    return make


@pytest.fixture
def crossencoder_fit(set_tables: Path, golden_with_dropout: Path, tmp_path: Path) -> MakeFit:
    """Makes a cross-encoder training of 2 epochs; keyword arguments are settings."""

    def make(name: str = "a", **settings: Any) -> Fit:
        config = _config("train_crossencoder", train_batch_size=3, max_seq_length=64, **settings)
        return _fit(tmp_path, name, train_crossencoder.build_objective, config, golden_with_dropout, set_tables)

    return make


def _config(stage: str, **settings: Any) -> EncoderConfig:
    changed = {"num_train_epochs": 2, "learning_rate": 1e-3, "device": "cpu", **settings}
    lengths = {"max_context_length": 32, "max_cand_length": 32}
    recipe = build_recipe("smoke", {f"{stage}.{key}": value for key, value in (lengths | changed).items()})
    config: EncoderConfig = getattr(recipe, stage)
    return config


def _fit(tmp_path: Path, name: str, build: BuildObjective, config: EncoderConfig, bert: Path, tables: Path) -> Fit:
    out = tmp_path / name
    out.mkdir(exist_ok=True)
    return Fit(build, config, bert, None, tables, str(tmp_path / f"{name}-store"), "checkpoints", out)


@pytest.fixture(scope="session")
def set_tables(finished_run: Run, small_recipe: Recipe, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders train and valid with the best 8 candidates of a finished run, 32 tokens each."""
    folder = tmp_path_factory.mktemp("sets")
    inputs = {name: finished_run.artifact(name, folder / "cache") for name in STAGES["train-crossencoder"].inputs}
    job = Job(finished_run, small_recipe, inputs, Target("x", None, {}, {}), folder)
    tokens = load_tokens(golden / "bert", lowercase=True)
    for split in ("train", "valid"):
        sets = candidate_sets(job, split, tokens, 32, 32, folder / split)
        np.save(folder / split / "candidates.npy", np.array(sets.candidates[:, :8]))
        np.save(folder / split / "gold_rank.npy", np.where(sets.gold_rank < 8, sets.gold_rank, -1))
    return folder


@pytest.fixture(scope="session")
def golden_with_dropout(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden BERT, with dropout, so that random states matter."""
    folder = tmp_path_factory.mktemp("bert")
    for path in (golden / "bert").iterdir():
        text = path.read_bytes()
        if path.name == "config.json":
            text = text.replace(b'dropout_prob": 0.0', b'dropout_prob": 0.1')
        (folder / path.name).write_bytes(text)
    return folder
