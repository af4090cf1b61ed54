from functools import cache
from pathlib import Path

import pytest

from zeshel_tasks.commands.hyperparameter_docs import hyperparameters_page
from zeshel_tasks.config.stages import STAGE_CONFIGS

COMMITTED = Path(__file__).parents[2] / "docs" / "hyperparameters.md"


@cache
def page() -> str:
    return hyperparameters_page()


def row(stage: str, setting: str) -> list[str]:
    section = page().split(f"## {stage}\n")[1].split("\n## ")[0]
    line = next(line for line in section.splitlines() if line.startswith(f"| `{setting}` |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_committed_page_matches_config() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == hyperparameters_page(), "run `make docs`"


def test_every_stage_setting_has_row_with_description() -> None:
    for stage, model in STAGE_CONFIGS.items():
        for name, field in model.model_fields.items():
            assert row(stage.replace("_", "-"), name)[-1] == (field.description or "").replace("|", "\\|")


@pytest.mark.parametrize(
    ("stage", "setting", "cells"),
    [
        ("train-biencoder", "shuffle", ["true or false", "`true`", "blink `false`", "redo"]),
        ("train-crossencoder", "train_batch_size", ["integer, ≥ 1, ≤ 10000", "`2`", "best `16`, smoke `4`", "redo"]),
        ("train-biencoder", "biencoder_weights", ["[address](addresses.md), or none", "none", "", "by content"]),
        ("convert", "max_mentions_per_world", ["integer, ≥ 1, ≤ 1e+09, or none", "none", "smoke `100`", "redo"]),
        ("train-biencoder", "max_grad_norm", ["number, ≥ 1e-06, ≤ 1e+06", "`1.0`", "", "redo"]),
        (
            "eval-biencoder",
            "precision",
            ["`auto`, `fp32`, `bf16`", "`fp32`", "recommended `auto`, best `auto`", "redo"],
        ),
        ("eval-biencoder", "device", ["text like `^(auto\\|cpu\\|cuda(:[0-9]{1,3})?)$`", "`auto`", "", "keep"]),
    ],
)
def test_row_shows_type_range_default_presets_and_reuse(stage: str, setting: str, cells: list[str]) -> None:
    assert row(stage, setting)[1:5] == cells
