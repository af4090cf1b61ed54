"""eval-biencoder tokenizes the entities; the cross-encoder's stages use its tokens."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.models.tokenizer import load_tokens
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.stages import inputs
from zeshel_tasks.store import Run, open_run


@pytest.fixture
def tokenized(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files into which a stage tokenizes entities."""
    files: list[Path] = []
    tokenize = inputs.tokenize_entities

    def counted(*arguments: Any) -> Any:
        files.append(arguments[-1])
        return tokenize(*arguments)

    monkeypatch.setattr(inputs, "tokenize_entities", counted)
    return files


@pytest.fixture
def tokens(small_recipe: Recipe) -> Tokens:
    config = small_recipe.train_crossencoder
    return load_tokens(Path(config.bert_model), lowercase=config.lowercase)


@pytest.fixture
def job(finished_run: Run, small_recipe: Recipe, tmp_path: Path) -> Job:
    return job_of(finished_run, small_recipe, tmp_path)


def job_of(run: Run, recipe: Recipe, tmp_path: Path) -> Job:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    names = ("download", "convert", "eval-biencoder-valid")
    artifacts = {name: run.artifact(name, scratch / "cache") for name in names}
    return Job(run, recipe, artifacts, Target("x", None, {}, {}), scratch)


def sets_of(job: Job, tokens: Tokens, recipe: Recipe, length: int | None = None) -> CandidateSets:
    config, folder = recipe.train_crossencoder, job.scratch / f"sets-{len(list(job.scratch.iterdir()))}"
    cand_length = config.max_cand_length if length is None else length
    return inputs.candidate_sets(job, "valid", tokens, config.max_context_length, cand_length, folder)


def test_tokens_of_the_encodings_are_reused(
    job: Job, tokens: Tokens, small_recipe: Recipe, tokenized: list[Path]
) -> None:
    shared = sets_of(job, tokens, small_recipe)
    assert tokenized == []
    inputs.tokenize_worlds(job, "valid", tokens, small_recipe.train_crossencoder.max_cand_length, job.scratch / "again")
    assert len(tokenized) == len(shared.tokens) > 0
    for world, table in shared.tokens.items():
        np.testing.assert_array_equal(table, np.load(job.scratch / "again" / f"{world}.npy"))


def test_other_length_is_tokenized_again(job: Job, tokens: Tokens, small_recipe: Recipe, tokenized: list[Path]) -> None:
    shorter = sets_of(job, tokens, small_recipe, length=9)
    assert len(tokenized) == len(shorter.tokens)
    assert {table.shape[1] for table in shorter.tokens.values()} == {9}


def test_cased_tokenizer_tokenizes_again(job: Job, small_recipe: Recipe, tokenized: list[Path]) -> None:
    cased = load_tokens(Path(small_recipe.train_crossencoder.bert_model), lowercase=False)
    assert sets_of(job, cased, small_recipe).tokens.keys() == {path.stem for path in tokenized}


def copied(run: Run, tmp_path: Path) -> Run:
    store = shutil.copytree(run.store.address, tmp_path / "store")
    return open_run(str(store / "runs" / run.run_id))


def test_blink_candidate_form_is_tokenized_again(
    finished_run: Run, small_recipe: Recipe, tokens: Tokens, tokenized: list[Path], tmp_path: Path
) -> None:
    """The cross-encoder reads titles and texts, independent of the form with which the bi-encoder was evaluated."""
    config = small_recipe.eval_biencoder.model_copy(update={"candidate_form": "blink_eval"})
    recipe, run = small_recipe.model_copy(update={"eval_biencoder": config}), copied(finished_run, tmp_path)
    run_stage(STAGES["eval-biencoder"], run.address, recipe, "valid")
    assert sets_of(job_of(run, recipe, tmp_path), tokens, recipe).tokens.keys() == {path.stem for path in tokenized}


def test_entities_of_deleted_encodings_are_tokenized_again(
    finished_run: Run, small_recipe: Recipe, tokens: Tokens, tokenized: list[Path], tmp_path: Path
) -> None:
    run = copied(finished_run, tmp_path)
    shutil.rmtree(Path(run.store.address) / "artifacts" / "candidate-encodings")
    sets = sets_of(job_of(run, small_recipe, tmp_path), tokens, small_recipe)
    assert sets.tokens.keys() == {path.stem for path in tokenized}
