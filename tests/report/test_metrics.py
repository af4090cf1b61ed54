import json
import math
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.report.content import ReportContent, RunFacts
from zeshel_tasks.report.draw import draw_report
from zeshel_tasks.report.drawn import DrawnReport
from zeshel_tasks.report.metrics import measured_json, metrics_json

BuildContent = Callable[..., ReportContent]
BuildRun = Callable[..., RunFacts]

NOTHING = DrawnReport({"convert": None}, {}, [], {})


def test_the_headline_is_the_test_split(build_content: BuildContent) -> None:
    content = build_content()
    headline = measured_json(content)["headline"]
    test = content.accuracy["test"]
    assert headline["mentions"] == test.mentions
    assert headline["top_k"] == 64
    assert headline["unnormalized_accuracy"] == test.unnormalized_accuracy.model_dump()
    assert headline["recall_at_1"]["macro"] == content.recall["test"].recall.macro[1]
    assert headline["recall_at_top_k"]["micro"] == content.recall["test"].recall.micro[64]


def test_without_a_test_split_the_headline_is_null_throughout(build_content: BuildContent) -> None:
    headline = measured_json(build_content(recall={}, accuracy={}))["headline"]
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


def test_the_outcomes_of_a_split_add_up_to_all_mentions(build_content: BuildContent) -> None:
    for split in measured_json(build_content())["accuracy"].values():
        assert sum(split["outcomes"].values()) == pytest.approx(1)
        assert split["outcomes"]["not_retrieved"] == pytest.approx(1 - split["retrieved"] / split["mentions"])


def test_a_split_without_mentions_has_no_outcomes(build_content: BuildContent) -> None:
    nothing = {"micro": None, "macro": None}
    empty = {"mentions": 0, "retrieved": 0, "worlds": {}, "categories": {}}
    content = build_content(
        accuracy={"test": {**empty, "normalized_accuracy": nothing, "unnormalized_accuracy": nothing}}
    )
    assert measured_json(content)["accuracy"]["test"]["outcomes"] is None


def test_recall_is_in_the_order_of_k_and_worlds_by_name(build_content: BuildContent) -> None:
    content = build_content()
    values = content.recall["test"].model_dump(mode="json")
    values["recall"]["micro"] = dict(reversed(values["recall"]["micro"].items()))
    values["worlds"] = dict(reversed(values["worlds"].items()))
    recall = measured_json(content.model_copy(update={"recall": {"test": type(content.recall["test"])(**values)}}))
    assert list(recall["recall"]["test"]["recall"]["micro"]) == ["1", "4", "8", "16", "32", "64"]
    assert list(recall["recall"]["test"]["worlds"]) == sorted(values["worlds"])


def test_time_of_reused_stages_is_not_in_the_total(build_run: BuildRun) -> None:
    run = build_run()
    ran = [stage.wall_seconds for stage in run.stages if not stage.reused]
    assert len(ran) < len(run.stages)
    assert metrics_json(NOTHING, run)["run"]["wall_seconds"] == pytest.approx(sum(ran))


def test_gpu_time_counts_the_gpus_that_a_stage_held_and_what_was_reused_is_a_saving(build_run: BuildRun) -> None:
    stage = build_run().stages[0].model_dump()
    held = [("a", False, 100.0, 4), ("b", False, 10.0, 0), ("c", True, 50.0, 2), ("d", True, 5.0, 0)]
    stages = [
        {**stage, "name": name, "reused": reused, "wall_seconds": seconds, "gpus": gpus}
        for name, reused, seconds, gpus in held
    ]
    run = metrics_json(NOTHING, build_run(stages=stages))["run"]
    assert (run["wall_seconds"], run["gpu_seconds"]) == (110, 400)
    assert (run["saved_wall_seconds"], run["saved_gpu_seconds"]) == (55, 100)


def test_mistakes_are_most_confident_first_and_equal_ones_keep_their_order(
    build_content: BuildContent, build_run: BuildRun
) -> None:
    mistake = build_content(num_mistakes=1).mistakes[0].model_dump()
    given = [(0.5, "a"), (None, "b"), (0.9, "c"), (0.5, "d")]
    content = build_content(mistakes=[{**mistake, "confidence": rate, "mention": name} for rate, name in given])
    mistakes = metrics_json(draw_report(content), build_run())["mistakes"]
    assert [found["mention"] for found in mistakes] == ["c", "a", "d", "b"]


def test_the_summary_leaves_out_the_long_texts_of_entities(build_content: BuildContent, build_run: BuildRun) -> None:
    mistake = metrics_json(draw_report(build_content()), build_run())["mistakes"][0]
    assert not [value for value in mistake.values() if isinstance(value, dict)]
    assert {"gold_title", "predicted_title"} <= mistake.keys()
    assert {"gold_text", "predicted_text"}.isdisjoint(mistake)


def test_a_number_that_is_not_finite_becomes_null(build_content: BuildContent) -> None:
    training = {"steps": 1, "mentions": 1, "epochs": [{"epoch": 1, "train_loss": math.nan, "valid_accuracy": math.inf}]}
    metrics = measured_json(build_content(training={"train-biencoder": training}))
    assert metrics["training"]["train-biencoder"]["epochs"] == [
        {"epoch": 1, "train_loss": None, "valid_accuracy": None}
    ]
    json.dumps(metrics, allow_nan=False)


def test_stages_with_the_same_hardware_are_grouped(build_content: BuildContent) -> None:
    hardware = measured_json(build_content())["provenance"]["hardware"]
    assert [len(group["stages"]) for group in hardware] == [2, 7]
    assert hardware[0]["stages"] == ["download", "convert"]


def test_metrics_that_a_later_version_adds_are_ignored_but_a_misspelled_field_of_ours_is_refused(
    build_content: BuildContent,
) -> None:
    build_content(training={"train-biencoder": {"steps": 1, "mentions": 1, "invented_later": 3}})
    with pytest.raises(ValidationError, match="mistaks"):
        build_content(mistaks=[])


def test_an_unknown_preset_is_refused(build_run: BuildRun) -> None:
    with pytest.raises(ConfigError, match="preset"):
        metrics_json(NOTHING, build_run(preset="fast"))


def test_the_runs_part_is_the_runs_and_all_else_is_kept_as_it_was_drawn(
    build_content: BuildContent, build_run: BuildRun
) -> None:
    kept = draw_report(build_content()).to_json()
    metrics = metrics_json(DrawnReport.from_json(kept), build_run(address="out/runs/second", preset="smoke"))
    measured = json.loads(kept)["measured"]
    assert {name: metrics[name] for name in measured} == measured
    others = {"schema_version", "run", "stages", "configuration", "history", "mistakes"}
    assert metrics.keys() == {*measured, *others}
    assert (metrics["run"]["address"], metrics["run"]["preset"]) == ("out/runs/second", "smoke")
    assert metrics["configuration"]["eval-biencoder"]["top_k"]["preset_default"] == 16
