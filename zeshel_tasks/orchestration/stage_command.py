"""The command of a stage of the recipe, ``zeshel <stage>``. It is done when the stage's manifest is committed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow.sdk import Asset, BaseOperatorLink
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from zeshel_tasks.errors import ZeshelError
from zeshel_tasks.orchestration.params import DEFAULT_PRESET, recipe_of, recipe_overrides
from zeshel_tasks.orchestration.settings import run_address
from zeshel_tasks.orchestration.task_command import NotDone, Outcome, mask_secrets, setting_arguments
from zeshel_tasks.orchestration.web.links import LINKS
from zeshel_tasks.pipeline.contract import reuse_stage
from zeshel_tasks.pipeline.lineage import has_split
from zeshel_tasks.pipeline.stage import Step
from zeshel_tasks.store import open_run

log = logging.getLogger(__name__)

# Airflow may be unable to reach servers that a stage's pod can reach, so it gives up soon and leaves it to the pod.
_MINUTES_TO_ASK = 0.25


@dataclass(frozen=True)
class StageCommand:
    """Runs a step of the recipe; see :class:`~zeshel_tasks.orchestration.task_command.TaskCommand`.

    Attributes:
        step: the step.
        store: root address of runs and artifacts.
    """

    step: Step
    store: str

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    @property
    def labels(self) -> Mapping[str, str]:
        """Stage and split."""
        split = {"zeshel/split": self.step.split} if self.step.split else {}
        return {"zeshel/stage": self.step.stage.name} | split

    @property
    def runs_a_model(self) -> bool:
        """As the stage says."""
        return self.step.stage.runs_a_model

    @property
    def trains(self) -> bool:
        """As the stage says."""
        return self.step.stage.trains

    @property
    def is_small(self) -> bool:
        """True unless the stage runs a model."""
        return not self.runs_a_model

    @property
    def asset(self) -> Asset:
        """The Asset of the step's artifact. Its events contain the metrics."""
        return Asset(name=f"zeshel-{self.name}", group="zeshel")

    @property
    def links(self) -> Sequence[BaseOperatorLink]:
        """To the report and to the artifact."""
        return LINKS

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments, which include the settings of later stages that it checks."""
        return command_line(self.step, self._run(context), context["params"])

    def reused(self, context: Any) -> Outcome | None:
        """Return the metrics of a stage whose artifact is already in the store.

        Raises:
            AirflowSkipException: the data set does not have the stage's split. Some splits are optional.
        """
        run = self._run(context)
        self._skip_without_split(run)
        recipe = recipe_of(context["params"])
        asking = recipe.download.model_copy(update={"max_download_minutes": _MINUTES_TO_ASK})
        step = self.step
        try:
            manifest = reuse_stage(step.stage, run, recipe.model_copy(update={"download": asking}), step.split)
        except (ZeshelError, OSError) as error:  # a path on the stages' machine may be unreadable on this one
            log.info("%s: the stage will check if it is already done: %s", step.name, error)
            return None
        return None if manifest is None else self.outcome(context, ended=True)

    def outcome(self, context: Any, *, ended: bool) -> Outcome:  # noqa: ARG002  # the manifest decides in any case
        """Return the metrics of the committed manifest."""
        run = self._run(context)
        manifest = open_run(run).manifest(self.name)
        if manifest is None:
            raise NotDone(f"no manifest is committed at {run}")
        metrics = dict(manifest.metrics)
        return Outcome(metrics, {"run": run, "fingerprint": manifest.fingerprint, "metrics": metrics})

    def _run(self, context: Any) -> str:
        return run_address(self.store, context["run_id"])

    def _skip_without_split(self, run: str) -> None:
        if self.step.split is None:
            return
        try:
            there = has_split(open_run(run), self.step.split)
        except ZeshelError as error:
            log.info("%s: the stage will check if the split exists: %s", self.name, error)
            return
        if not there:
            raise AirflowSkipException(f"the data set has no {self.step.split}")


def command_line(step: Step, run: str, params: Mapping[str, Any]) -> list[str]:
    """Return the arguments of ``zeshel`` for a step of a run.

    Raises:
        AirflowFailException: the Params are not a valid recipe, so a retry cannot help.
    """
    mask_secrets(params.values())
    try:
        overrides = recipe_overrides(params)
    except ZeshelError as error:
        # Without its cause: pydantic's message has the value itself, shortened, and no mask finds half a secret.
        raise AirflowFailException(f"{step.name}: bad configuration, not retried:\n{error}") from None
    arguments = [step.stage.name, f"--run={run}", f"--preset={params.get('preset') or DEFAULT_PRESET}"]
    if step.split:
        arguments.append(f"--split={step.split}")
    given = dict(overrides[step.stage.settings])
    for later in (name.replace("-", "_") for name in step.stage.checks):
        given |= {f"{later}.{name}": value for name, value in overrides[later].items()}
    return arguments + setting_arguments(given)
