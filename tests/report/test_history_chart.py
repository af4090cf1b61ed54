"""The chart of the store's last runs, as it is in the page."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from zeshel_tasks.report.content import ReportContent, RunFacts
from zeshel_tasks.report.drawn import DrawnReport
from zeshel_tasks.report.metrics import measured_json
from zeshel_tasks.report.render import render_report

BuildRun = Callable[..., RunFacts]
Chart = Callable[..., ElementTree.Element]


@pytest.fixture
def chart(build_content: Callable[..., ReportContent], build_run: BuildRun) -> Chart:
    """The chart of a run whose store has these scores, (recall, accuracy) by run."""
    content = build_content(recall={}, accuracy={}, training={}, curves={})
    drawn = DrawnReport(measured_json(content), {}, [], {})
    past = build_run().history[0].model_dump()

    def chart(*scores: tuple[float | None, float | None], **changes: Any) -> ElementTree.Element:
        history = [
            {**past, "run": f"run-{day}", "evaluated_at": f"2025-10-{day:02}T09:00:00+00:00", **changes}
            | {"recall_at_top_k": recall, "unnormalized_accuracy": accuracy}
            for day, (recall, accuracy) in enumerate(scores, start=1)
        ]
        page = dict(render_report(drawn, build_run(history=history)))["index.html"].decode()
        (svg,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
        return ElementTree.fromstring(svg)

    return chart


def points(svg: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """Of each line of the chart, or each part of it, the points."""
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]
        for line in svg.iter("polyline")
    ]


def titles(svg: ElementTree.Element) -> list[str | None]:
    return [title.text for title in svg.iter("title")]


def test_each_run_is_a_point_of_both_lines_the_latest_on_the_right(chart: Chart) -> None:
    recall, accuracy = points(chart((0.8, 0.5), (0.9, 0.6), (1.0, 0.0)))
    assert [x for x, _ in recall] == [x for x, _ in accuracy] == [61.5, 216, 370.5]
    assert [y for _, y in recall] == [70, 52, 34]
    assert [y for _, y in accuracy] == [124, 106, 214]


def test_the_chart_says_what_it_shows_to_those_who_do_not_see_it(chart: Chart) -> None:
    svg = chart((0.8, 0.5), (0.9, 0.6))
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == "Accuracy and recall on test of the last 2 runs"
    assert titles(svg) == [
        "run-1, 2025-10-01: 80.00%", "run-2, 2025-10-02: 90.00%", "run-1, 2025-10-01: 50.00%",
        "run-2, 2025-10-02: 60.00%",
    ]  # fmt: skip


def test_the_axes_are_rates_from_0_to_100_percent_and_the_first_and_last_day(chart: Chart) -> None:
    texts = [text.text for text in chart((0.8, 0.5), (0.9, 0.6), (0.9, 0.6)).iter("text")]
    assert texts[:5] == ["0%", "25%", "50%", "75%", "100%"]
    assert texts[5:] == ["2025-10-01", "2025-10-03", "gold among the candidates", "linked right"]


def test_a_run_without_a_rate_is_a_gap(chart: Chart) -> None:
    svg = chart((None, 0.5), (0.8, 0.5), (None, 0.5), (0.9, 0.5), (0.9, 0.5))
    assert [len(part) for part in points(svg)] == [1, 2, 5]
    assert len(titles(svg)) == 8


def test_without_any_rate_there_are_axes_and_no_line(chart: Chart) -> None:
    assert points(chart((None, None), (None, None))) == []


def test_it_has_no_colour_and_no_font_of_its_own(chart: Chart) -> None:
    svg = ElementTree.tostring(chart((0.8, 0.5), (0.9, 0.6)), encoding="unicode")
    assert not re.search(r"#[0-9a-fA-F]{3,6}", svg)
    assert {"var(--test)", "var(--grid)", "var(--muted)", "var(--font)"} == set(re.findall(r"var\(--\w+\)", svg))


def test_the_name_of_a_run_is_text(chart: Chart) -> None:
    name = "</title></svg><script>alert(1)</script>"
    assert titles(chart((0.8, 0.5), (0.9, 0.6), run=name))[0] == f"{name}, 2025-10-01: 80.00%"
