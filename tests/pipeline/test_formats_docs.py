"""docs/formats.md describes the metrics that manifests hold."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.finished import NAMES, STEPS, manifest_of
from zeshel_tasks.store import Run

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"
# Keys that are data: splits, worlds, categories, cutoffs.
DATA = re.compile(r"train|valid|test|[a-z]+_[0-9]+|[A-Z_]+|[0-9]+")


def section(stage: str) -> str:
    (text,) = re.findall(rf"^### {stage}\n(.*?)(?=^##)", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return str(text)


def keys_of(metrics: Any) -> set[str]:
    """Returns the names of all fields, at any depth."""
    if isinstance(metrics, list):
        return set().union(*map(keys_of, metrics))
    if not isinstance(metrics, dict):
        return set()
    return set(metrics).union(*map(keys_of, metrics.values()))


@pytest.mark.parametrize(("name", "stage"), [(name, step[0].name) for name, step in zip(NAMES, STEPS, strict=True)])
def test_every_metric_of_a_stage_is_documented(finished_run: Run, name: str, stage: str) -> None:
    others = {"train-crossencoder": "train-biencoder", "fuse": "eval-crossencoder", "promote": "compare"}
    text = section(stage) + (section(others[stage]) if stage in others else "")
    metrics = manifest_of(finished_run, name).metrics
    worlds = set(manifest_of(finished_run, "download").metrics["documents_by_world"])
    missing = {key for key in keys_of(metrics) - worlds if not DATA.fullmatch(key) and f"`{key}`" not in text}
    assert missing == set()
    assert "null" in text or None not in metrics.values()
