"""What MLflow is told about a stage: tags, parameters and metrics, in names that it accepts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.pipeline.lineage import outdated_inputs
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.report.metrics import published_metrics
from zeshel_tasks.store import Artifact, Manifest, Run, RunRecord, Store
from zeshel_tasks.store.artifacts import read_manifest_now
from zeshel_tasks.text.redaction import recorded, without_secrets

# MLflow's limits.
_METRIC_CHARACTERS, _PARAM_CHARACTERS = 250, 6000
_REFUSED = re.compile(r"[^\w\- ]")  # also the dot and the slash, with which names of worlds could form other names


@dataclass(frozen=True)
class TrackedStage:
    """A finished stage of a run."""

    name: str
    record: RunRecord
    manifest: Manifest

    def tags_of_its_making(self, run: Run) -> dict[str, str]:
        """Tags that distinguish this artifact from earlier and later ones of the stage."""
        address = public_address(run.store, self.record.artifact)
        return {f"artifact.{self.name}": address, f"made.{self.name}": self.manifest.finished_at}

    @property
    def tag_of_its_reuse(self) -> tuple[str, str]:
        return f"reused.{self.name}", str(self.record.reused).lower()

    @property
    def tag_of_all(self) -> tuple[str, str]:
        """The tag that is set after MLflow has received everything about the stage."""
        return f"stage.{self.name}", self.manifest.fingerprint

    def params(self) -> dict[str, str]:
        """The settings, without secrets."""
        prefix = self.name.replace("-", "_")
        settings = recorded(self.manifest.config).items()
        return {f"{prefix}.{key}": str(value)[:_PARAM_CHARACTERS] for key, value in settings}

    def points(self, run: Run) -> Iterator[tuple[str, int, float]]:
        """Yield (metric, step, value): all numbers of the metrics, the time that the work took, and the curve."""
        for key, value in _numbers(self.name, self.manifest.metrics):
            yield _shortened(key), 0, value
        yield f"{self.name}.work_seconds", 0, self.manifest.wall_seconds
        if self.name == "report":
            yield from _costs(published_metrics(run))
        yield from self._curve(run)

    def _curve(self, run: Run) -> Iterator[tuple[str, int, float]]:
        """Loss, learning rate, and recall or accuracy on valid of a training, by step."""
        if "curve.jsonl" not in self.manifest.files:
            return
        with scratch_folder() as cache:
            artifact = Artifact(run.store, self.record.artifact, self.manifest, cache)
            for point in read_json_lines(artifact.path("curve.jsonl")):
                for key in ("loss", "learning_rate", "valid_recall", "valid_accuracy"):
                    if point.get(key) is not None:
                        yield f"{self.name}.{key}", int(point["step"]), float(point[key])


def finished_stages(run: Run) -> list[TrackedStage]:
    """Return the finished stages, except those whose inputs were repeated since: their results are outdated."""
    found: dict[str, TrackedStage] = {}
    outdated: set[str] = set()
    for stage, split in RECIPE:
        name = stage.name_for(split)
        record = run.record(name)
        # Do not wait for an artifact that a cleanup is checking: the next stage sends it.
        manifest = None if record is None else read_manifest_now(run.store, record.artifact)
        if record is None or manifest is None:
            continue
        manifests = {other: done.manifest for other, done in found.items()}
        if outdated.intersection(manifest.inputs) or any(outdated_inputs(manifest, manifests)):
            outdated.add(name)
        else:
            found[name] = TrackedStage(name, record, manifest)
    return list(found.values())


def public_address(store: Store, folder: str) -> str:
    """The address of a folder in a store, without secrets."""
    return f"{without_secrets(store.address)}/{folder}"


def milliseconds(time: str) -> int:
    """The time since 1970, in milliseconds, of an ISO date and time."""
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def _costs(metrics: Mapping[str, Any]) -> Iterator[tuple[str, int, float]]:
    """What a run and its stages cost, if the recipe states prices."""
    if metrics.get("run", {}).get("prices"):  # an earlier version knew none
        yield "cost", 0, metrics["run"]["cost"]
        yield "saved_cost", 0, metrics["run"]["saved_cost"]
        for stage in metrics["stages"]:
            yield f"{stage['name']}.cost", 0, stage["cost"]


def _numbers(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Flatten the numbers in nested metrics: ``eval-biencoder-test.recall.micro.64``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(f"{prefix}.{_plain(key)}", value)
        elif isinstance(value, int | float):  # true and false too, as 1 and 0
            yield f"{prefix}.{_plain(key)}", float(value)


def _plain(key: str) -> str:
    """The name of a world, a category or a number, without characters that MLflow refuses or takes for a path.

    A hash keeps names apart: ``c++`` and ``c##``.
    """
    plain = _REFUSED.sub("_", key)
    return key if plain == key else f"{plain}_{_digest(key, 8)}"


def _shortened(name: str) -> str:
    """Cut out the middle of a name that is too long, which may come from the name of a world.

    The end identifies the metric (``recall.64``), and a hash identifies the world.
    """
    if len(name) <= _METRIC_CHARACTERS:
        return name
    middle = f"_{_digest(name, 16)}_"
    kept = (_METRIC_CHARACTERS - len(middle)) // 2
    return f"{name[:kept]}{middle}{name[-kept:]}"


def _digest(text: str, characters: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:characters]
