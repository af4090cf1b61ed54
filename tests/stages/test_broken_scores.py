"""A cross-encoder whose scores are NaN or infinite is not measured."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.faults import Fault
from tests.support.finished import copy_of
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import DataError
from zeshel_tasks.linking import reranker
from zeshel_tasks.models.crossencoder import load_crossencoder
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Run


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_accuracy_of_broken_scores_is_refused(
    finished_run: Run,
    small_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: float,
    fault: Fault,
) -> None:
    fault("training: scores that are not numbers")

    def broken(directory: Path) -> Any:
        model, settings, tokenizer = load_crossencoder(directory)
        assert model.encoder.additional_linear is not None
        torch.nn.init.constant_(model.encoder.additional_linear.bias, number)
        return model, settings, tokenizer

    monkeypatch.setattr(reranker, "load_crossencoder", broken)
    run = copy_of(finished_run, tmp_path)
    other = build_recipe("smoke", small_recipe.model_dump(exclude={"preset"}), {"eval_crossencoder.precision": "bf16"})
    with pytest.raises(DataError, match=f"scores on test are not finite numbers; .* got {number}$"):
        run_stage(STAGES["eval-crossencoder"], run.address, other, "test")
