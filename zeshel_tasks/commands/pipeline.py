"""``zeshel pipeline``: run all stages in order on this machine, without Airflow."""

from __future__ import annotations

from collections.abc import Callable

from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.lineage import has_split
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.store import open_run


def run_pipeline(run_address: str, recipe: Recipe, after_each: Callable[[str], None] = lambda _: None) -> None:
    """Run or reuse every stage of the recipe. Each stage records itself in the run.

    Args:
        run_address: ``<store>/runs/<run id>``.
        recipe: all settings.
        after_each: called with the run's address after each stage.
    """
    for stage, split in RECIPE:
        if split is None or has_split(open_run(run_address), split):
            run_stage(stage, run_address, recipe, split)
            after_each(run_address)
