"""The part of a report that needs matplotlib: done once, and kept with the numbers it shows."""

from __future__ import annotations

from typing import Any

from zeshel_tasks.report import plots
from zeshel_tasks.report.content import Mistake, ReportContent
from zeshel_tasks.report.curves import thin_curve
from zeshel_tasks.report.drawn import MOST_TEXT, DrawnReport
from zeshel_tasks.report.formats import beginning
from zeshel_tasks.report.metrics import measured_json


def draw_report(content: ReportContent) -> DrawnReport:
    """Summary, charts and mistakes; equal content gives equal data."""
    return DrawnReport(
        measured=measured_json(content),
        configuration=content.configuration,
        mistakes=[_drawn_mistake(mistake) for mistake in _most_confident_first(content)],
        charts=_charts(content),
    )


def _charts(content: ReportContent) -> dict[str, str | None]:
    drawn = {
        "recall_by_k": plots.recall_by_k(content.recall),
        "recall_by_world": plots.recall_by_world(content.recall),
        "accuracy_by_world": plots.accuracy_by_world(content.accuracy),
        "accuracy_by_category": plots.accuracy_by_category(content.accuracy),
    }
    for stage, points in content.curves.items():
        drawn[stage] = plots.training_curve(stage, thin_curve(points), content.training.get(stage))
    return drawn


def _most_confident_first(content: ReportContent) -> list[Mistake]:
    """By falling confidence; those of unknown confidence last, equal ones in the order given."""
    return sorted(content.mistakes, key=lambda mistake: 1.0 if mistake.confidence is None else -mistake.confidence)


def _drawn_mistake(mistake: Mistake) -> dict[str, Any]:
    plain = mistake.model_dump(mode="json", exclude={"gold_text", "predicted_text"})
    return {**plain, "texts": {"gold": _cut(mistake.gold_text), "predicted": _cut(mistake.predicted_text)}}


def _cut(text: str) -> dict[str, Any]:
    return {"text": beginning(text, MOST_TEXT), "characters": len(text)}
