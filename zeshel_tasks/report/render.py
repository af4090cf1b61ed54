"""The page: the summary, the charts and the templates put together. No script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from zeshel_tasks.config import HELDOUT_SPLITS
from zeshel_tasks.report import formats, plots
from zeshel_tasks.report.axes import SPLIT_ORDER
from zeshel_tasks.report.content import ReportContent
from zeshel_tasks.report.curves import thin_curve
from zeshel_tasks.report.metrics import metrics_json, most_confident_first

METRICS_FILE, PAGE_FILE = "metrics.json", "index.html"
# A data set may hold whole manuals as one entity; fifty mistakes show a hundred of them.
MOST_TEXT = 12_000


def build_report(content: ReportContent, out_dir: Path) -> None:
    """Writes ``metrics.json`` and ``index.html``; equal content gives equal bytes.

    Raises:
        ConfigError: the content names an unknown preset.
        ValueError: a time is not ISO 8601.
    """
    metrics = metrics_json(content)
    page = render_page(content, metrics)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / METRICS_FILE).write_bytes(f"{json.dumps(metrics, indent=1, allow_nan=False)}\n".encode())
    # JSON input can carry half of a surrogate pair, which UTF-8 has no bytes for.
    (out_dir / PAGE_FILE).write_bytes(page.encode("utf-8", "replace"))


def render_page(content: ReportContent, metrics: dict[str, Any]) -> str:
    """The page as text; ``metrics`` is :func:`metrics_json` of the same content.

    Should text of the data ever get past the escaping, the page's Content-Security-Policy keeps it from running: no
    script at all, no style sheet but this one, nothing from elsewhere. Style attributes are ours (numbers, charts).
    """
    css = _resource("report.css")
    return (
        _environment()
        .get_template("report.html")
        .render(
            m=metrics,
            mistakes=most_confident_first(content),
            charts=_charts(content),
            css=Markup(css),
            css_hash=Markup(base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()),
            split_order=(*SPLIT_ORDER, *HELDOUT_SPLITS),
            most_text=MOST_TEXT,
        )
    )


def _charts(content: ReportContent) -> dict[str, Markup | None]:
    drawn = {
        "recall_by_k": plots.recall_by_k(content.recall),
        "recall_by_world": plots.recall_by_world(content.recall),
        "accuracy_by_world": plots.accuracy_by_world(content.accuracy),
        "history": plots.history(content.history),
        "accuracy_by_category": plots.accuracy_by_category(content.accuracy),
    }
    for stage, points in content.curves.items():
        drawn[stage] = plots.training_curve(stage, thin_curve(points), content.training.get(stage))
    return {name: Markup(svg) if svg else None for name, svg in drawn.items()}


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in (
        "percent",
        "points",
        "count",
        "decimal",
        "duration",
        "memory",
        "moment",
        "label",
        "beginning",
        "ending",
    ):
        environment.filters[name] = getattr(formats, name)
    environment.filters["setting_value"] = formats.setting_value
    return environment


def _resource(name: str) -> str:
    return files("zeshel_tasks.report").joinpath(name).read_text("utf-8")
