"""Renders the files of a run's report. The page has no script and loads nothing.

It also runs in a scheduler's image, when a finished report is reused, so it needs neither numpy nor a drawing library.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from zeshel_tasks.config.link import LINK_MODES
from zeshel_tasks.config.splits import HELDOUT_SPLITS
from zeshel_tasks.evaluation.metrics import RETRIEVERS
from zeshel_tasks.report import charts, formats
from zeshel_tasks.report.metrics import metrics_json
from zeshel_tasks.report.report_data import MOST_TEXT, SPLIT_ORDER, ReportData, RunFacts
from zeshel_tasks.text.json_text import to_json

_FILTERS = (
    *("percent", "points", "count", "decimal", "duration", "memory", "moment", "money"),
    *("label", "beginning", "ending", "setting_value", "best_first", "largest", "others", "names"),
)


def render_report(data: ReportData, run: RunFacts) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of ``metrics.json`` and ``index.html``; equal data give equal bytes.

    Raises:
        ConfigError: the run names an unknown preset.
        ValueError: a time is not ISO 8601.
    """
    metrics = metrics_json(data, run)
    yield "metrics.json", f"{to_json(metrics, indent=1)}\n".encode()
    # JSON input can hold half of a surrogate pair, which UTF-8 cannot encode.
    yield "index.html", _page(data, run, metrics).encode("utf-8", "replace")


def _page(data: ReportData, run: RunFacts, metrics: dict[str, Any]) -> str:
    return render_page(
        "report.html",
        m=metrics,
        mistakes=data.mistakes,
        recall_chart=charts.recall_chart(data.recall),
        curve_charts={
            stage: (
                charts.loss_chart(stage, curve),
                charts.validation_chart(stage, curve, data.training.get(stage)),
            )
            for stage, curve in sorted(data.curves.items())
        },
        calibration_charts=(
            (charts.reliability_chart("test", tested), charts.risk_chart("test", tested))
            if data.calibration and (tested := data.calibration.splits.get("test"))
            else ()
        ),
        history_chart=charts.history_chart(run.history),
        split_order=(*SPLIT_ORDER, *HELDOUT_SPLITS),
        retrievers=RETRIEVERS,
        link_modes=LINK_MODES,
        most_text=MOST_TEXT,
        most_groups=formats.MOST_GROUPS,
    )


def render_page(template: str, **values: Any) -> str:
    """Renders a template of this package, which writes ``css`` into its head.

    Should text of the data ever get past the escaping, the page's Content-Security-Policy keeps it from running: it
    allows no script, no style sheet but this one, and nothing from elsewhere. Style attributes hold only numbers.
    """
    css = _resource("report.css")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return _environment().get_template(template).render(css=Markup(css), css_hash=Markup(digest), **values)


@cache  # compiling the templates takes longer than filling them
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({name: getattr(formats, name) for name in _FILTERS})
    return environment


def _resource(name: str) -> str:
    return files("zeshel_tasks.report").joinpath(name).read_text("utf-8")
