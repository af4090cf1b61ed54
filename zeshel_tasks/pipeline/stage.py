"""The description of a stage, and of its steps in a run.

A stage makes an artifact from its inputs, once for each fingerprint. ``report`` and ``promote`` also deliver their
artifact in every run, even if it is reused: they write pages into the run's folder, and make the model the champion.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.config.splits import Split
from zeshel_tasks.config.stage_config import StageConfig
from zeshel_tasks.config.stages import STAGE_CONFIGS, Recipe
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.pipeline.job import Work
from zeshel_tasks.store import Artifact, Run

Deliver = Callable[[Run, Recipe, Artifact, Mapping[str, Artifact]], None]
"""Called with the run, its recipe, the artifact and its inputs. It must be safe to repeat."""


@dataclass(frozen=True)
class Stage:
    """A stage of the recipe.

    Attributes:
        name: name of its subcommand (``eval-biencoder``).
        work: makes its artifact.
        summary: one sentence about it, for ``--help`` and the DAG.
        notes: further sentences for the DAG's page, in Markdown.
        section: the section of the report about it.
        inputs: names of the steps whose artifacts it reads; ``{split}`` stands for its own split.
        optional_inputs: names of the steps whose artifacts it reads if the run has them.
        outside: returns the identities of everything else that it reads, given its settings and the run.
        splits: the splits that it runs for; empty if it has none.
        checks: names of later stages whose settings it checks, because they need the same model.
        deliver: delivers the artifact to the run; None if there is nothing to deliver.
    """

    name: str
    work: Work
    summary: str = ""
    notes: str = ""
    section: str = ""
    inputs: tuple[str, ...] = ()
    optional_inputs: tuple[str, ...] = ()
    outside: Callable[[Any, Run], dict[str, str]] = lambda _, __: {}
    splits: tuple[Split, ...] = ()
    checks: tuple[str, ...] = ()
    deliver: Deliver | None = None

    @property
    def settings(self) -> str:
        """The name of its settings in a :class:`~zeshel_tasks.config.stages.Recipe`."""
        return self.name.replace("-", "_")

    @property
    def config_type(self) -> type[StageConfig]:
        """The model of its settings."""
        return STAGE_CONFIGS[self.settings]

    @property
    def runs_a_model(self) -> bool:
        """True if it can use a GPU."""
        return self.config_type.runs_a_model

    @property
    def trains(self) -> bool:
        """True if it can use more than one GPU."""
        return issubclass(self.config_type, EncoderConfig)

    def name_for(self, split: Split | None) -> str:
        """Name of the step in a run: ``eval-biencoder-test``.

        Raises:
            ConfigError: a split is missing, or the stage does not have this one.
        """
        if (split is None) == bool(self.splits) or (split is not None and split not in self.splits):
            expected = f"--split {'|'.join(self.splits)}" if self.splits else "no --split"
            raise ConfigError(f"{self.name}: expected {expected}, got {split or 'none'}")
        return self.name if split is None else f"{self.name}-{split}"


class Step(NamedTuple):
    """A stage in a run, for one split if the stage has splits."""

    stage: Stage
    split: Split | None = None

    @property
    def name(self) -> str:
        """The name of its record in a run, and of its task in the DAG.

        Raises:
            ConfigError: the stage does not have this split.
        """
        return self.stage.name_for(self.split)

    @property
    def inputs(self) -> list[str]:
        """Names of the steps whose artifacts it reads."""
        return [name.format(split=self.split) for name in self.stage.inputs]


def imported(name: str) -> Callable[..., Any]:
    """Returns the function ``package.module:function``. A call imports its module, which takes seconds with torch."""

    def call(*arguments: Any) -> Any:
        return pkgutil.resolve_name(name)(*arguments)

    return call
