"""Every run has a report of its own, even if it reused every stage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.finished import NAMES, STEPS, manifest_of, record_of
from tests.test_import_directions import BLOCKED, HEAVY
from zeshel_tasks.cli import main
from zeshel_tasks.commands.tracked_stages import finished_stages
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import EXIT_OK
from zeshel_tasks.pipeline.contract import reuse_stage, run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.report.formats import money
from zeshel_tasks.report.report_data import Prices
from zeshel_tasks.report.run_report import run_report
from zeshel_tasks.store import Run, open_run

ROOT = Path(__file__).parents[2]
REPORTED = NAMES[: NAMES.index("report")]
REUSE = """
import sys
from tests.support.finished import STEPS
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.pipeline.contract import reuse_stage

recipe = Recipe.model_validate_json(sys.argv[2])
for stage, split in STEPS:
    assert reuse_stage(stage, sys.argv[1], recipe, split) is not None, stage.name
"""


def metrics_of(run: Run) -> Any:
    return json.loads(run.store.get(f"runs/{run.run_id}/report/metrics.json") or b"")


def page_of(run: Run) -> str:
    return (run.store.get(f"runs/{run.run_id}/report/index.html") or b"").decode()


def another(run: Run, run_id: str) -> Run:
    return Run(run.store, run_id)


@pytest.fixture(scope="module")
def reused_run(finished_run: Run, small_recipe: Recipe) -> Run:
    """A run that reuses every stage in a process that can import neither a model library nor numpy."""
    run = another(finished_run, "reused-without-models")
    code = BLOCKED.format(heavy=HEAVY | {"airflow"}, modules="zeshel_tasks.pipeline.registry") + REUSE
    command = [sys.executable, "-c", code, run.address, small_recipe.model_dump_json()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    return run


def test_fully_reused_run_is_reported_without_model_libraries(finished_run: Run, reused_run: Run) -> None:
    metrics, page = metrics_of(reused_run), page_of(reused_run)
    assert metrics["run"]["address"] == reused_run.address
    assert reused_run.address in page
    assert finished_run.address not in page
    assert sorted(stage["name"] for stage in metrics["stages"]) == sorted(REPORTED)
    assert all(stage["reused"] for stage in metrics["stages"])
    assert (metrics["run"]["wall_seconds"], metrics["run"]["gpu_seconds"]) == (0, 0)
    assert metrics["run"]["saved_wall_seconds"] == pytest.approx(metrics_of(finished_run)["run"]["wall_seconds"])
    assert page.count("<svg") > page_of(finished_run).count("<svg"), "the first run has no history chart"


def test_history_includes_the_run_itself(finished_run: Run, reused_run: Run) -> None:
    assert reused_run.run_id not in [past["run"] for past in metrics_of(finished_run)["history"]]
    assert reused_run.run_id in [past["run"] for past in metrics_of(reused_run)["history"]]


def test_reused_run_reports_same_measurements(finished_run: Run, reused_run: Run) -> None:
    first, second = metrics_of(finished_run), metrics_of(reused_run)
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {"run", "stages", "history"}


def test_most_confident_mistakes_come_first(finished_run: Run, tmp_path: Path) -> None:
    predictions = finished_run.artifact("fuse", tmp_path).path("test/predictions.jsonl").read_text()
    wrong = np.array([not json.loads(line)["correct"] for line in predictions.splitlines()])
    right = np.load(finished_run.artifact("calibrate", tmp_path).path("test/probabilities.npy"))[wrong, 0]
    mistakes = metrics_of(finished_run)["mistakes"]
    assert mistakes
    expected = np.sort(right)[::-1][: len(mistakes)]
    assert [mistake["confidence"] for mistake in mistakes] == pytest.approx(expected, abs=1e-6)


def test_rerun_of_report_stage_gives_same_report(reused_run: Run, small_recipe: Recipe) -> None:
    before = metrics_of(reused_run)
    run_stage(STAGES["report"], reused_run.address, small_recipe)
    after = metrics_of(reused_run)
    for metrics in (before, after):
        metrics["run"].pop("created_at")
        metrics.pop("history")
    assert after == before


def test_report_names_preset_of_its_run(reused_run: Run, small_recipe: Recipe) -> None:
    recipe = small_recipe.model_copy(update={"preset": "recommended"})
    assert reuse_stage(STAGES["report"], reused_run.address, recipe) is not None
    metrics = metrics_of(reused_run)
    assert metrics["run"]["preset"] == "recommended"
    recommended = build_recipe("recommended").train_biencoder.num_train_epochs
    assert metrics["configuration"]["train-biencoder"]["num_train_epochs"]["preset_default"] == recommended


def test_report_is_reused_with_another_history_length(reused_run: Run, small_recipe: Recipe) -> None:
    report = small_recipe.report.model_copy(update={"num_past_runs": 1})
    recipe = small_recipe.model_copy(update={"report": report})
    assert reuse_stage(STAGES["report"], reused_run.address, recipe) is not None
    assert len(metrics_of(reused_run)["history"]) == 1


def priced(recipe: Recipe, **prices: Any) -> Recipe:
    return recipe.model_copy(update={"report": recipe.report.model_copy(update=prices)})


def test_report_shows_what_stages_and_run_cost(
    finished_run: Run, small_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    run = another(finished_run, "priced")
    recipe = priced(small_recipe, price_per_hour=3600.0, currency="EUR")  # one a second
    for stage, split in STEPS:
        assert reuse_stage(stage, run.address, recipe, split) is not None
    metrics = metrics_of(run)
    assert metrics["run"]["prices"] == {"gpu_hour": None, "hour": 3600.0, "currency": "EUR"}
    assert metrics["run"]["cost"] == 0
    assert metrics["run"]["saved_cost"] == pytest.approx(metrics["run"]["saved_wall_seconds"])
    costs = {stage["name"]: stage["cost"] for stage in metrics["stages"]}
    assert costs == pytest.approx({stage["name"]: stage["wall_seconds"] for stage in metrics["stages"]})
    shown = money(costs["train-crossencoder"], "EUR")
    assert f'<td class="num">{shown}</td>' in page_of(run)
    assert main(["show", "--run", run.address]) == EXIT_OK
    table = capsys.readouterr().out
    assert shown in table
    assert f"cost    0.0000 EUR  saved by reuse {money(metrics['run']['saved_cost'], 'EUR')}" in table
    points = {metric: value for stage in finished_stages(run) for metric, _, value in stage.points(run)}
    assert (points["cost"], points["saved_cost"]) == (0, metrics["run"]["saved_cost"])
    assert {name: points[f"{name}.cost"] for name in costs} == costs


def test_gpus_cost_by_their_number() -> None:
    prices = Prices(gpu_hour=2.5, hour=0.1, currency="USD")
    assert prices.cost(7200, 4) == pytest.approx(20.2)
    assert Prices(gpu_hour=2.5, hour=None, currency="USD").cost(1800, 0) == 0


def test_report_without_prices_shows_no_money(finished_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = metrics_of(finished_run)
    assert metrics["run"]["prices"] is metrics["run"]["cost"] is metrics["run"]["saved_cost"] is None
    assert {stage["cost"] for stage in metrics["stages"]} == {None}
    assert not [metric for stage in finished_stages(finished_run) for metric, *_ in stage.points(finished_run)
                if "cost" in metric]  # fmt: skip
    assert "USD" not in page_of(finished_run).partition("Configuration")[0]
    assert main(["show", "--run", finished_run.address]) == EXIT_OK
    assert "cost" not in capsys.readouterr().out


def test_continued_run_saves_no_time_on_own_stages(finished_run: Run, small_recipe: Recipe, tmp_path: Path) -> None:
    for stage, split in STEPS:
        assert reuse_stage(stage, finished_run.address, small_recipe, split) is not None
    assert {record_of(finished_run, name).reused for name in NAMES} == {False}
    run = metrics_of(finished_run)["run"]
    assert run["saved_wall_seconds"] == 0
    # Floats added in another order may differ in the last digit.
    assert run["wall_seconds"] > sum(manifest_of(finished_run, name).wall_seconds for name in REPORTED) - 1e-6


@pytest.mark.parametrize(("training_seconds", "counted"), [(5000.0, 5000.0), (0.001, None)])
def test_resumed_training_counts_all_attempts(
    finished_run: Run, small_recipe: Recipe, tmp_path: Path, training_seconds: float, counted: float | None
) -> None:
    inputs = {name: finished_run.artifact(name, tmp_path) for name in REPORTED}
    training = inputs["train-crossencoder"]
    training.manifest = training.manifest.model_copy(
        update={
            "metrics": {**training.manifest.metrics, "training_seconds": training_seconds},
            "hardware": {**training.manifest.hardware, "gpus": ["a GPU", "a GPU"]},
        }
    )
    report = finished_run.artifact("report", tmp_path)
    files = dict(run_report(open_run(finished_run.address), small_recipe, report, inputs))
    metrics = json.loads(files["report/metrics.json"])
    (stage,) = [stage for stage in metrics["stages"] if stage["name"] == "train-crossencoder"]
    expected = training.manifest.wall_seconds if counted is None else counted
    assert stage["wall_seconds"] == expected
    others = sum(artifact.manifest.wall_seconds for name, artifact in inputs.items() if name != "train-crossencoder")
    assert others < metrics["run"]["wall_seconds"]
    assert metrics["run"]["gpu_seconds"] >= 2 * expected
