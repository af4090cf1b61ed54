"""The charts of a report, as the page draws them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from zeshel_tasks.report import charts
from zeshel_tasks.report.chart import LineChart
from zeshel_tasks.report.curves import MOST_POINTS, ThinCurve
from zeshel_tasks.report.render import render_report
from zeshel_tasks.report.report_data import PastRun, ReportData, RunFacts
from zeshel_tasks.training.metrics import TrainingMetrics

BuildData = Callable[..., ReportData]
BuildRun = Callable[..., RunFacts]
Drawn = Callable[..., list[ElementTree.Element]]

NOTHING: dict[str, Any] = {"recall": {}, "linking": None, "calibration": None, "training": {}, "curves": {}}
CSS = Path(charts.__file__).with_name("report.css").read_text()


@pytest.fixture
def drawn(build_data: BuildData, build_run: BuildRun) -> Drawn:
    """The charts of a page, given changes of its data and its history."""

    def drawn(history: tuple[Any, ...] = (), **changes: Any) -> list[ElementTree.Element]:
        page = dict(render_report(build_data(**NOTHING | changes), build_run(history=history)))["index.html"].decode()
        found = re.findall(r'<svg(?:(?!aria-hidden)[^>])*role="img".*?</svg>', page, re.DOTALL)
        return [ElementTree.fromstring(svg) for svg in found]

    return drawn


@pytest.fixture
def past(build_run: BuildRun) -> Callable[..., tuple[PastRun, ...]]:
    """The runs of a store, given (recall, accuracy) of each."""
    run = build_run().history[0]

    def past(*scores: tuple[float | None, float | None], **changes: Any) -> tuple[PastRun, ...]:
        return tuple(
            run.model_copy(
                update={
                    "run": f"run-{day}",
                    "evaluated_at": f"2025-10-{day:02}T09:00:00+00:00",
                    "recall_at_top_k": recall,
                    "unnormalized_accuracy": accuracy,
                    **changes,
                }
            )
            for day, (recall, accuracy) in enumerate(scores, start=1)
        )

    return past


def calibration_charts(data: ReportData) -> list[LineChart]:
    assert data.calibration is not None
    tested = data.calibration.splits["test"]
    return [charts.reliability_chart("test", tested), charts.risk_chart("test", tested)]


def all_charts(data: ReportData, run: RunFacts) -> list[LineChart]:
    curve, training = data.curves["train-biencoder"], data.training["train-biencoder"]
    made = [
        charts.recall_chart(data.recall),
        charts.loss_chart("train-biencoder", curve),
        charts.validation_chart("train-biencoder", curve, training),
        charts.history_chart(run.history),
        *calibration_charts(data),
    ]
    assert None not in made
    return [chart for chart in made if chart]


def texts(svg: ElementTree.Element) -> list[str | None]:
    return [text.text for text in svg.iter("text")]


def titles(svg: ElementTree.Element) -> list[str | None]:
    return [title.text for title in svg.iter("title")]


def points(svg: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """The points of each line, or of each part of a line with gaps."""
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]
        for line in svg.iter("polyline")
    ]


def test_every_chart_has_screen_reader_description(drawn: Drawn, build_data: BuildData, past: Any) -> None:
    data = build_data()
    parts = {name: getattr(data, name) for name in ("recall", "curves", "training", "calibration")}
    svgs = drawn(past((0.8, 0.5), (0.9, 0.6)), **parts)
    assert [svg.attrib["aria-label"] for svg in svgs] == [
        "Recall by number of candidates, test, valid, train",
        "Share of right links by probability, test",
        "Share of wrong links by share of linked mentions, test",
        "Accuracy and recall on test of the last 2 runs",
        "Training loss of train-biencoder by step",
        "Validation recall@64 of train-biencoder by step",
        "Training loss of train-crossencoder by step",
        "Validation accuracy of train-crossencoder by step",
    ]


def test_chart_has_no_inline_colour_or_style(drawn: Drawn, build_data: BuildData, past: Any) -> None:
    data = build_data()
    for svg in drawn(past((0.8, 0.5), (0.9, 0.6)), recall=data.recall, curves=data.curves):
        text = ElementTree.tostring(svg, encoding="unicode")
        assert not re.search(r"#[0-9a-fA-F]{3,6}\b|rgb|style=|fill=|stroke=", text)
        assert {"style", "script", "image"}.isdisjoint(element.tag for element in svg.iter())


def test_style_sheet_defines_every_line_colour(build_data: BuildData, build_run: BuildRun) -> None:
    colors = {line.color for chart in all_charts(build_data(), build_run()) for line in chart.lines}
    assert colors == {"test", "valid", "train", "ink"}
    assert all(f"svg.chart .{color} {{ --c: var(--{color}); }}" in CSS for color in colors)


def test_rate_axes_go_from_0_to_100_percent(build_data: BuildData, build_run: BuildRun) -> None:
    recall, _, validation, *others = all_charts(build_data(), build_run())
    for chart in (recall, validation, *others):
        assert (chart.y_ticks[0].text, chart.y_ticks[-1].text) == ("0%", "100%")


def test_calibration_charts_show_both_confidences(build_data: BuildData, drawn: Drawn) -> None:
    calibration = build_data().calibration
    reliability, risk = drawn(calibration=calibration)
    assert [len(line) for line in points(reliability)] == [2, 15, 15]
    assert [len(line) for line in points(risk)] == [50, 50]
    assert titles(reliability)[-1] == "96.67%: 93.77% of 300"
    diagonal, softmax, calibrated = points(reliability)
    assert diagonal[0][1] > diagonal[1][1]  # upwards, as y is from the top
    assert softmax[-1][1] > calibrated[-1][1]  # fewer are right than the softmax says


def test_recall_chart_has_line_per_average_and_tick_per_k(build_data: BuildData, drawn: Drawn) -> None:
    recall = build_data().recall
    (svg,) = drawn(recall=recall)
    assert {"1", "4", "8", "16", "32", "64"} <= set(texts(svg))
    assert len(points(svg)) == 6
    assert "test, micro recall@64: " + f"{100 * (recall['test'].recall.micro[64] or 0):.2f}%" in titles(svg)


def test_reported_split_is_on_top_and_first_in_legend(build_data: BuildData, build_run: BuildRun, drawn: Drawn) -> None:
    chart = charts.recall_chart(build_data().recall)
    assert chart is not None
    assert chart.lines[-1].name == "test, micro"
    page = dict(render_report(build_data(), build_run()))["index.html"].decode()
    legend = re.findall(r"</svg>([^<]+)</li>", page)
    assert legend[:6] == [
        f"{split}, {average}" for split in ("test", "valid", "train") for average in ("micro", "macro")
    ]


def test_no_chart_is_made_without_data(build_run: BuildRun) -> None:
    nothing = ThinCurve((), ())
    assert charts.recall_chart({}) is None
    assert charts.loss_chart("train-biencoder", nothing) is None
    assert charts.validation_chart("train-biencoder", nothing) is None
    assert charts.history_chart(build_run().history[:1]) is None


@pytest.mark.parametrize("number", [1, 5, 5000])
def test_loss_chart_has_bounded_number_of_points(build_data: BuildData, drawn: Drawn, number: int) -> None:
    svgs = drawn(curves={"train-biencoder": build_data(points=number).curves["train-biencoder"]})
    (loss,) = points(svgs[0])
    assert 1 <= len(loss) <= MOST_POINTS
    assert "training loss (nats)" in texts(svgs[0])
    assert [text for text in texts(svgs[-1]) if text in ("validation accuracy", "training step")] or number == 1


def test_single_point_curve_is_drawn_as_marker(build_data: BuildData, drawn: Drawn) -> None:
    (svg,) = drawn(curves={"train-biencoder": build_data(points=1).curves["train-biencoder"]})
    assert len(titles(svg)) == 1


def test_thinned_curve_has_band_from_lowest_to_highest_loss(build_data: BuildData, drawn: Drawn) -> None:
    long, short = (build_data(points=number).curves["train-biencoder"] for number in (5000, 5))
    (band,) = drawn(curves={"train-biencoder": long})[0].iter("polygon")
    assert len(band.attrib["points"].split()) == 2 * len(long.loss)
    assert not list(drawn(curves={"train-biencoder": short})[0].iter("polygon"))


def test_kept_epoch_is_marked(build_data: BuildData, drawn: Drawn) -> None:
    curves = {"train-biencoder": build_data().curves["train-biencoder"]}
    kept = TrainingMetrics(steps=1900, mentions=1, best_epoch=2, valid_recall=0.875, valid_top_k=64)
    assert "kept: epoch 2, 87.5%" in texts(drawn(curves=curves, training={"train-biencoder": kept})[1])
    assert not [text for text in texts(drawn(curves=curves)[1]) if text and "kept" in text]


def test_history_chart_draws_each_run_with_latest_on_right(drawn: Drawn, past: Any) -> None:
    (svg,) = drawn(past((0.8, 0.5), (0.9, 0.6), (1.0, 0.0)))
    recall, accuracy = points(svg)
    assert [x for x, _ in recall] == [x for x, _ in accuracy] == sorted(x for x, _ in recall)
    assert [y for _, y in recall] == [46, 28, 10]
    assert [y for _, y in accuracy] == [100, 82, 190]
    assert titles(svg) == [
        *("run-1, 2025-10-01: 80.00%", "run-2, 2025-10-02: 90.00%", "run-3, 2025-10-03: 100.00%"),
        *("run-1, 2025-10-01: 50.00%", "run-2, 2025-10-02: 60.00%", "run-3, 2025-10-03: 0.00%"),
    ]
    assert [text for text in texts(svg) if text and "-" in text] == ["2025-10-01", "2025-10-03"]


def test_past_run_without_rate_leaves_gap(drawn: Drawn, past: Any) -> None:
    (svg,) = drawn(past((None, 0.5), (0.8, 0.5), (None, 0.5), (0.9, 0.5), (0.9, 0.5)))
    assert [len(part) for part in points(svg)] == [1, 2, 5]
    assert len(titles(svg)) == 8


def test_history_without_rates_has_axes_but_no_line(drawn: Drawn, past: Any) -> None:
    (svg,) = drawn(past((None, None), (None, None)))
    assert points(svg) == []
    assert "100%" in texts(svg)


def test_run_name_is_shown_as_text(drawn: Drawn, past: Any) -> None:
    name = "</title></svg><script>alert(1)</script>"
    (svg,) = drawn(past((0.8, 0.5), (0.9, 0.6), run=name))
    assert titles(svg)[0] == f"{name}, 2025-10-01: 80.00%"
