"""Renderings of the chart with the HTTP service."""

from pathlib import Path
from typing import Any

from tests.helm.chart import SERVING, Object, Rendered, merged, render

NAME = "zeshel-serving"
FOR_OPERATION = {"/livez", "/readyz", "/metrics"}
"""Paths of the service that clients do not need."""


def serving(chart: Path, kubernetes: str = "1.31", **values: Any) -> Rendered:
    """The chart with these values under ``serving``."""
    return render(chart, merged(SERVING, {"serving": values}), kubernetes=kubernetes)


def pod_of(rendered: Rendered) -> Object:
    pod: Object = rendered.one("Deployment", NAME)["spec"]["template"]["spec"]
    return pod


def container_of(rendered: Rendered) -> Object:
    (container,) = pod_of(rendered)["containers"]
    return dict(container)
