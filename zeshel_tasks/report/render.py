"""The files of a run: the summary, the charts and the templates put together. No script, nothing loaded from elsewhere.

Runs wherever a finished report is reused, so without matplotlib and its like.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from zeshel_tasks.config import HELDOUT_SPLITS
from zeshel_tasks.report import formats
from zeshel_tasks.report.content import SPLIT_ORDER, RunFacts
from zeshel_tasks.report.drawn import MOST_TEXT, DrawnReport
from zeshel_tasks.report.history_chart import place_history
from zeshel_tasks.report.metrics import metrics_json


def render_report(drawn: DrawnReport, run: RunFacts) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of ``metrics.json`` and ``index.html``; equal data give equal bytes.

    Raises:
        ConfigError: the run names an unknown preset.
        ValueError: a time is not ISO 8601.
    """
    metrics = metrics_json(drawn, run)
    yield "metrics.json", f"{json.dumps(metrics, indent=1, allow_nan=False)}\n".encode()
    # JSON input can carry half of a surrogate pair, which UTF-8 has no bytes for.
    yield "index.html", _page(drawn, run, metrics).encode("utf-8", "replace")


def _page(drawn: DrawnReport, run: RunFacts, metrics: dict[str, Any]) -> str:
    """The page as text.

    Should text of the data ever get past the escaping, the page's Content-Security-Policy keeps it from running: no
    script at all, no style sheet but this one, nothing from elsewhere. Style attributes are ours (numbers, charts).
    """
    css = _resource("report.css")
    return (
        _environment()
        .get_template("report.html")
        .render(
            m=metrics,
            mistakes=drawn.mistakes,
            charts={name: Markup(svg) if svg else None for name, svg in drawn.charts.items()},
            history=place_history(run.history),
            css=Markup(css),
            css_hash=Markup(base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()),
            split_order=(*SPLIT_ORDER, *HELDOUT_SPLITS),
            most_text=MOST_TEXT,
        )
    )


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
