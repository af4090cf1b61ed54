"""The job of a stage: everything that its work needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zeshel_tasks import RESULTS_VERSION
from zeshel_tasks.compute import machine
from zeshel_tasks.compute.gang import ALONE, Gang
from zeshel_tasks.config.splits import Split
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import TryAgain
from zeshel_tasks.store import Artifact, Attempt, Metrics, Run, artifact_folder, fingerprint


@dataclass(frozen=True)
class Target:
    """The artifact to make: everything that decides its content, known before the work starts.

    Attributes:
        stage: name of the stage, the artifact's folder below ``artifacts/``.
        split: the split, if the stage has splits.
        config: the settings that change the result.
        inputs: identities of everything it is made from.
        fingerprint: SHA-256 of all of these and of the package's version without its patch.
    """

    stage: str
    split: Split | None
    config: dict[str, Any]
    inputs: dict[str, str]
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        value = fingerprint(self.stage, self.split, RESULTS_VERSION, self.config, self.inputs)
        object.__setattr__(self, "fingerprint", value)

    @property
    def folder(self) -> str:
        """Key prefix of the artifact."""
        return artifact_folder(self.stage, self.fingerprint)


@dataclass
class Job:
    """The job of a stage.

    Attributes:
        run: the run it works for.
        recipe: all settings of the run.
        inputs: artifacts of the stages before it, by name.
        target: the artifact to make.
        scratch: local directory, removed when the stage ends.
        look_outside: returns the current identities of what the stage reads besides ``inputs``.
        device: the device it computed on, for the manifest.
        attempt: collects the files of the artifact.
        seen_outside: the identities that ``look_outside`` returned when the job began.
        peak_memory_mb: the highest peak so far.
        peak_gpu_memory_mb: the peak of child processes, if they did the work.
        uses: folders of the intermediate artifacts that it made or reused.
        after_commit: called once the artifact is committed.
        gang: the processes that do the work together. Only the first one's files and records count.
    """

    run: Run
    recipe: Recipe
    inputs: Mapping[str, Artifact]
    target: Target
    scratch: Path
    look_outside: Callable[[], dict[str, str]] = dict
    device: str = "cpu"
    attempt: Attempt = field(init=False)
    seen_outside: Mapping[str, str] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    peak_gpu_memory_mb: float | None = None
    uses: list[str] = field(default_factory=list)
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    gang: Gang = ALONE

    def __post_init__(self) -> None:
        self.attempt = Attempt(self.run.store, self.folder)

    @property
    def split(self) -> Split | None:
        """The split of the stage, if it has splits."""
        return self.target.split

    @property
    def folder(self) -> str:
        """Key prefix of the artifact to make."""
        return self.target.folder

    def note_peak_memory(self) -> None:
        """Saves the peak memory of this process before a part of the stage resets the measurement."""
        self.peak_memory_mb = max(self.peak_memory_mb, machine.peak_memory_mb())

    def check_outside(self) -> None:
        """Checks that nothing outside has changed since the stage started. Call it after reading from outside.

        Raises:
            TryAgain: something outside has changed since the stage started.
        """
        for name, now in self.look_outside().items():
            if now != self.seen_outside.get(name):
                raise TryAgain(f"{name} has changed while it was read: from {self.seen_outside.get(name)} to {now}")

    def new_folder(self, name: str) -> Path:
        """Creates a local directory below ``scratch``."""
        path = self.scratch / name
        path.mkdir(parents=True)
        return path


Work = Callable[[Job], Metrics]
"""Makes the files of an artifact and returns the metrics of its manifest."""
