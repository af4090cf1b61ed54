"""``zeshel pipeline``: all stages in order, on this machine, without Airflow."""

from __future__ import annotations

from zeshel_tasks.config import Recipe
from zeshel_tasks.stages.contract import run_stage
from zeshel_tasks.stages.registry import RECIPE


def run_pipeline(run_address: str, recipe: Recipe) -> None:
    """Runs (or reuses) every stage of the recipe; each records itself in the run."""
    for stage, split in RECIPE:
        run_stage(stage, run_address, recipe, split)
