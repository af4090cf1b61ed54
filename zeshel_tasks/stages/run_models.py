"""The models of a run, for what links or exports them."""

from __future__ import annotations

from pathlib import Path

from zeshel_tasks.linking.models import CALIBRATE, STAGES, LinkerModels
from zeshel_tasks.pipeline.lineage import read_inputs
from zeshel_tasks.store import Run


def models_of_run(run: Run, cache: Path) -> LinkerModels:
    """The models of a run, which link text. ``cache`` is a local directory for their files.

    Raises:
        ConfigError: a stage has not finished, or was not repeated after one that it depends on.
    """
    between = ("eval-biencoder-valid", "eval-crossencoder-valid")
    return LinkerModels.of_artifacts(run.run_id, read_inputs(run, (*STAGES, *between), (CALIBRATE,), cache))
