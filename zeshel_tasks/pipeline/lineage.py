"""Reads the inputs of a step and checks that they were made from one another."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from zeshel_tasks.config.splits import HELDOUT_SPLITS, Split
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.store import Artifact, Manifest, Run

log = logging.getLogger(__name__)


def read_inputs(run: Run, names: Iterable[str], optional_names: Iterable[str], cache: Path) -> dict[str, Artifact]:
    """Returns the artifacts of a run's steps, by name.

    Args:
        run: the run that made or reused them.
        names: the steps that must have finished.
        optional_names: the steps whose artifacts are read if the run has them and they were made from the others.
        cache: local directory for their files.

    Raises:
        ConfigError: an artifact is missing, or it was made from an earlier artifact than the run has now, because a
            step before it was repeated and it was not.
    """
    inputs = {name: run.artifact(name, cache) for name in names}
    manifests = {name: artifact.manifest for name, artifact in inputs.items()}
    for name in optional_names:
        if run.record(name) is None:
            continue
        artifact = run.artifact(name, cache)
        if any(outdated_inputs(artifact.manifest, manifests)):
            log.warning("left out %s, because one of its inputs was repeated after it was made", name)
        else:
            inputs[name], manifests[name] = artifact, artifact.manifest
    for name, manifest in manifests.items():
        for source, was, now in outdated_inputs(manifest, manifests):
            raise ConfigError(
                f"{run.address}: {name}: expected one that was made from the run's {source} {now[:12]}, got one from "
                f"{was[:12]}: {source} was repeated, so repeat {name}, too"
            )
    return inputs


def outdated_inputs(manifest: Manifest, now: Mapping[str, Manifest]) -> Iterator[tuple[str, str, str]]:
    """Yields the inputs that have changed since the artifact was made: name, fingerprint then, fingerprint now."""
    for source, was in manifest.inputs.items():
        if source in now and was != now[source].fingerprint:
            yield source, was, now[source].fingerprint


def has_split(run: Run, split: Split | None) -> bool:
    """Returns True if the run's data set has this split. Held-out splits are optional."""
    if split not in HELDOUT_SPLITS:
        return True
    downloaded = run.manifest("download")
    return downloaded is None or split in downloaded.metrics.get("mentions", ())
