"""Names and numbers for MLflow, checked with MLflow's own validation."""

from collections.abc import Sequence

import pytest
from mlflow.utils.validation import _validate_metric_name

from tests.support.finished import manifest_of
from zeshel_tasks.commands.tracked_stages import TrackedStage
from zeshel_tasks.store import Run

NAME = "eval-crossencoder-test"


def metrics_of(run: Run, names: Sequence[str]) -> dict[str, float]:
    """The metrics that MLflow receives about worlds or categories with these names."""
    record = run.record(NAME)
    assert record is not None
    metrics = {"accuracy": {name: {"64": float(number)} for number, name in enumerate(names)}}
    manifest = manifest_of(run, NAME).model_copy(update={"metrics": metrics})
    points = list(TrackedStage(NAME, record, manifest).points(run))
    assert len({(metric, step) for metric, step, _ in points}) == len(points)
    return {metric: value for metric, _, value in points if metric.startswith(f"{NAME}.accuracy.")}


@pytest.mark.parametrize(
    "names",
    [
        ["c++", "c##", "c__", "c%%"],
        ["a//b", "a/b", "/a", "a/", "a/../b", "../a", "..", ".", "./a", "http://x"],
        ["a.b", "a_b", "a b", "a:b", "a\\b"],
        ["日本", "日本語", "café", "cafe\u0301", "😀", "😁"],
        [f"{'x' * 300}{last}{'y' * 300}" for last in "ab+#"],
        ["<b>", '"', "'", "%", "$(x)", "{{ x }}", "-", "_"],
    ],
)
def test_names_of_worlds_and_categories_stay_apart_and_valid(finished_run: Run, names: list[str]) -> None:
    found = metrics_of(finished_run, names)
    assert list(found.values()) == list(range(len(names)))
    for metric in found:
        _validate_metric_name(metric)
        assert len(metric) <= 250
        assert metric.endswith(".64")


def test_plain_name_is_unchanged(finished_run: Run) -> None:
    assert metrics_of(finished_run, ["star_wars", "HIGH-OVERLAP 2"]) == {
        f"{NAME}.accuracy.star_wars.64": 0.0,
        f"{NAME}.accuracy.HIGH-OVERLAP 2.64": 1.0,
    }


def test_names_with_dots_do_not_form_other_names(finished_run: Run) -> None:
    record, manifest = finished_run.record(NAME), manifest_of(finished_run, NAME)
    assert record is not None
    nested = {"a": {"b.c": {"d": 1}}, "a.b": {"c": {"d": 2}}, "a.b.c": {"d": 3}}
    stage = TrackedStage(NAME, record, manifest.model_copy(update={"metrics": nested}))
    points = [metric for metric, _, value in stage.points(finished_run) if value in (1, 2, 3)]
    assert len(set(points)) == 3
