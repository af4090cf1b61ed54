import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.report.metrics import metrics_json
from zeshel_tasks.report.report_data import Provenance, ReportData, RunFacts

BuildData = Callable[..., ReportData]
BuildRun = Callable[..., RunFacts]
Summary = Callable[[ReportData], dict[str, Any]]

NOTHING = ReportData(provenance=Provenance())


@pytest.fixture
def summary(build_run: BuildRun) -> Callable[[ReportData], dict[str, Any]]:
    """A function that returns the summary of a run with these measurements."""
    return lambda data: metrics_json(data, build_run())


def test_headline_reports_test_split(build_data: BuildData, summary: Summary) -> None:
    data = build_data()
    headline = summary(data)["headline"]
    test = data.accuracy["test"]
    assert headline["mentions"] == test.mentions
    assert headline["top_k"] == 64
    assert headline["unnormalized_accuracy"] == test.unnormalized_accuracy.model_dump()
    assert headline["recall_at_1"]["macro"] == data.recall["test"].recall.macro[1]
    assert headline["recall_at_top_k"]["micro"] == data.recall["test"].recall.micro[64]


def test_headline_is_null_without_test_split(build_data: BuildData, summary: Summary) -> None:
    headline = summary(build_data(recall={}, linking=None))["headline"]
    nothing = {"micro": None, "macro": None}
    assert headline == {
        "split": "test",
        "mentions": None,
        "top_k": None,
        "recall_at_1": nothing,
        "recall_at_top_k": nothing,
        "normalized_accuracy": nothing,
        "unnormalized_accuracy": nothing,
    }


def test_outcomes_of_split_add_up_to_all_mentions(build_data: BuildData, summary: Summary) -> None:
    for split in summary(build_data())["accuracy"].values():
        assert sum(split["outcomes"].values()) == pytest.approx(1)
        assert split["outcomes"]["not_retrieved"] == pytest.approx(1 - split["retrieved"] / split["mentions"])


def test_split_without_mentions_has_no_outcomes(build_data: BuildData, summary: Summary) -> None:
    nothing = {"micro": None, "macro": None}
    empty: dict[str, Any] = {"mentions": 0, "retrieved": 0, "worlds": {}, "categories": {}}
    empty |= {"normalized_accuracy": nothing, "unnormalized_accuracy": nothing}
    linking = build_data().model_dump()["linking"]
    linking["splits"]["test"] = dict.fromkeys(("linker", "crossencoder", "retriever"), empty)
    data = build_data(linking=linking)
    assert summary(data)["accuracy"]["test"]["outcomes"] is None


def test_recall_is_sorted_by_k_and_worlds_by_name(build_data: BuildData, summary: Summary) -> None:
    data = build_data()
    values = data.recall["test"].model_dump(mode="json")
    values["recall"]["micro"] = dict(reversed(values["recall"]["micro"].items()))
    values["worlds"] = dict(reversed(values["worlds"].items()))
    recall = summary(data.model_copy(update={"recall": {"test": type(data.recall["test"])(**values)}}))
    assert list(recall["recall"]["test"]["recall"]["micro"]) == ["1", "4", "8", "16", "32", "64"]
    assert list(recall["recall"]["test"]["worlds"]) == sorted(values["worlds"])


def test_total_time_leaves_out_reused_stages(build_run: BuildRun) -> None:
    run = build_run()
    ran = [stage.wall_seconds for stage in run.stages if not stage.reused]
    assert len(ran) < len(run.stages)
    assert metrics_json(NOTHING, run)["run"]["wall_seconds"] == pytest.approx(sum(ran))


def test_gpu_time_counts_each_gpu_and_reused_time_is_saved(build_run: BuildRun) -> None:
    stage = build_run().stages[0].model_dump()
    held = [("a", False, 100.0, 4), ("b", False, 10.0, 0), ("c", True, 50.0, 2), ("d", True, 5.0, 0)]
    stages = [
        {**stage, "name": name, "reused": reused, "wall_seconds": seconds, "gpus": gpus}
        for name, reused, seconds, gpus in held
    ]
    run = metrics_json(NOTHING, build_run(stages=stages))["run"]
    assert (run["wall_seconds"], run["gpu_seconds"]) == (110, 400)
    assert (run["saved_wall_seconds"], run["saved_gpu_seconds"]) == (55, 100)


def test_summary_leaves_out_entity_texts(build_data: BuildData, build_run: BuildRun) -> None:
    mistake = metrics_json(build_data(), build_run())["mistakes"][0]
    assert not [value for value in mistake.values() if isinstance(value, dict)]
    assert {"gold_title", "predicted_title"} <= mistake.keys()
    assert {"gold_text", "predicted_text"}.isdisjoint(mistake)


def test_non_finite_number_becomes_null(build_data: BuildData, summary: Summary) -> None:
    training = {"steps": 1, "mentions": 1, "epochs": [{"epoch": 1, "train_loss": math.nan, "valid_recall": math.inf}]}
    metrics = summary(build_data(training={"train-biencoder": training}))
    (epoch,) = metrics["training"]["train-biencoder"]["epochs"]
    assert (epoch["epoch"], epoch["train_loss"], epoch["valid_recall"]) == (1, None, None)
    json.dumps(metrics, allow_nan=False)


def test_stages_with_the_same_hardware_are_grouped(build_data: BuildData, summary: Summary) -> None:
    hardware = summary(build_data())["provenance"]["hardware"]
    assert [len(group["stages"]) for group in hardware] == [2, 9]
    assert hardware[0]["stages"] == ["download", "convert"]


def test_unknown_metric_is_ignored_but_misspelled_field_is_refused(
    build_data: BuildData,
) -> None:
    build_data(training={"train-biencoder": {"steps": 1, "mentions": 1, "invented_later": 3}})
    with pytest.raises(ValidationError, match="mistaks"):
        build_data(mistaks=[])


def test_unknown_preset_is_refused(build_run: BuildRun) -> None:
    with pytest.raises(ConfigError, match="preset"):
        metrics_json(NOTHING, build_run(preset="fast"))


def test_another_run_changes_only_its_part_of_summary(build_data: BuildData, build_run: BuildRun) -> None:
    data = ReportData.from_json(build_data().to_json())
    first = metrics_json(build_data(), build_run())
    second = metrics_json(data, build_run(address="out/runs/second", preset="smoke", stages=[], history=[]))
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {"run", "stages", "configuration", "history"}
    assert (second["run"]["address"], second["run"]["preset"]) == ("out/runs/second", "smoke")
    assert second["configuration"]["eval-biencoder"]["top_k"]["preset_default"] == 16
