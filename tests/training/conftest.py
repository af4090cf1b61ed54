"""A small training task over the golden data, for the tests of the loop and of the processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zeshel_tasks.config import Recipe
from zeshel_tasks.data.mention_table import tokenize_pairs
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.models.bert import load_tokenizer
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.stages.contract import run_stage
from zeshel_tasks.stages.registry import STAGES
from zeshel_tasks.stages.train_biencoder import build_objective
from zeshel_tasks.store import open_run
from zeshel_tasks.training.fit import Fit


@pytest.fixture(scope="session")
def pair_tables(raw_archive: Path, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders train and valid with the golden pairs, 32 tokens each."""
    folder = tmp_path_factory.mktemp("pairs")
    run, recipe = f"{folder}/runs/r", build_recipe("smoke", {"source": str(raw_archive)})
    for name in ("download", "convert"):
        run_stage(STAGES[name], run, recipe)
    converted = open_run(run).artifact("convert", folder / "cache")
    tokens = Tokens(load_tokenizer(golden / "bert", lowercase=True))
    for split in ("train", "valid"):
        converted.path(f"{split}.mentions.jsonl")
        tokenize_pairs(converted.path(f"{split}.jsonl"), tokens, 32, 32, folder / split)
    return folder


@pytest.fixture
def biencoder_fit(pair_tables: Path, golden_with_dropout: Path, tmp_path: Path) -> Callable[..., Fit]:
    """Makes a bi-encoder training of 2 epochs of 8 steps, 16 mentions each; keyword arguments are settings."""

    def make(name: str = "a", **settings: Any) -> Fit:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        changed = {"num_train_epochs": 2, "train_batch_size": 16, "learning_rate": 1e-3, "device": "cpu", **settings}
        recipe: Recipe = build_recipe("smoke", {f"train_biencoder.{key}": value for key, value in changed.items()})
        store = str(tmp_path / f"{name}-store")
        return Fit(
            build_objective, recipe.train_biencoder, golden_with_dropout, None, pair_tables, store, "checkpoints", out
        )

    return make


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
