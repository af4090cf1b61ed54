"""An evaluation that died resumes at the first unfinished world."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Fault
from tests.support.finished import manifest_of
from zeshel_tasks.config.splits import Split
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import StoreUnavailable
from zeshel_tasks.evaluation.entity_encoding import EntityEncoder
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.stages import eval_crossencoder
from zeshel_tasks.store import Run, open_run

ARTIFACTS = ("fit-retrieval", "eval-biencoder", "eval-crossencoder", "candidate-encodings", "candidate-scores")
STEPS: dict[str, Split | None] = {"fit-retrieval": None, "eval-biencoder": "test", "eval-crossencoder": "test"}
WORK = {
    "fit-retrieval": (EntityEncoder, "write", 3),
    "eval-biencoder": (EntityEncoder, "write", 3),
    "eval-crossencoder": (eval_crossencoder._Scorer, "_score", 1),
}
"""What works on a world, and which of its arguments is the world's name."""


@pytest.fixture
def before_evaluation(finished_run: Run, tmp_path: Path) -> Run:
    """A run without its evaluations."""
    store = shutil.copytree(finished_run.store.address, tmp_path / "store")
    for name in ARTIFACTS:
        shutil.rmtree(store / "artifacts" / name)
    for pattern in ("eval-*", "fit-*"):
        for record in (store / "runs").glob(f"*/stages/{pattern}.json"):
            record.unlink()
    return open_run(str(store / "runs" / finished_run.run_id))


@pytest.mark.parametrize("stage", STEPS)
def test_restarted_evaluation_skips_finished_worlds(
    before_evaluation: Run, finished_run: Run, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch, stage: str,
    fault: Fault,
) -> None:  # fmt: skip
    run, split = before_evaluation, STEPS[stage]
    for earlier in list(STEPS)[: list(STEPS).index(stage)]:
        run_stage(STAGES[earlier], run.address, small_recipe, STEPS[earlier])
    owner, name, place = WORK[stage]
    work = getattr(owner, name)
    begun: list[str] = []
    dies = [True]

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        begun.append(given[place])
        if dies[0] and len(begun) == 2:
            raise StoreUnavailable("the node is gone")
        return work(self, *given, **named)

    monkeypatch.setattr(owner, name, counted)
    with pytest.raises(StoreUnavailable, match="the node is gone"):
        run_stage(STAGES[stage], run.address, small_recipe, split)
    fault("training: an evaluation dies between two worlds")
    assert len(set(begun)) == 2
    finished, dies[0] = begun[0], False
    begun.clear()
    manifest = run_stage(STAGES[stage], run.address, small_recipe, split)
    assert finished not in begun
    assert len(begun) == 1
    undisturbed = manifest_of(finished_run, STAGES[stage].name_for(split))
    assert manifest.fingerprint == undisturbed.fingerprint
    assert {name: entry.sha256 for name, entry in manifest.files.items()} == {
        name: entry.sha256 for name, entry in undisturbed.files.items()
    }
