"""The commands that encode the large worlds of a run in shards, ahead of their evaluations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from zeshel_tasks.config.retrieval import RetrievalConfig
from zeshel_tasks.errors import ZeshelError
from zeshel_tasks.orchestration.grouping import groups
from zeshel_tasks.orchestration.params import recipe_of
from zeshel_tasks.orchestration.settings import run_address
from zeshel_tasks.orchestration.stage_command import command_line
from zeshel_tasks.orchestration.store_command import StoreCommand
from zeshel_tasks.orchestration.task_command import NotDone, Outcome, setting_arguments
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step
from zeshel_tasks.pipeline.world_shards import cut_of, encoded_shard, large_worlds, shard_names, shard_of_name
from zeshel_tasks.store import Run, open_run

log = logging.getLogger(__name__)

MOST_TASKS = 1000
"""Airflow maps a task at most 1,024 times. If there are more shards, each task encodes several."""
_EVALUATION = STAGES["eval-biencoder"]


class _ShardCommand(StoreCommand):
    """A command with the settings of eval-biencoder."""

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of the command with the settings of eval-biencoder."""
        step = Step(_EVALUATION, "test")  # its split is left out
        given = command_line(step, run_address(self.store, context["run_id"]), context["params"])
        return [self.name, *(argument for argument in given[1:] if not argument.startswith("--split="))]

    def reused(self, context: Any) -> Outcome | None:
        """Return the outcome if everything has been done, or if there is nothing to do."""
        try:
            return self.outcome(context, ended=True)
        except NotDone:
            return None
        except (ZeshelError, OSError) as error:  # a path on the stages' machine may be unreadable on this one
            log.info("%s: the command will find out what to do: %s", self.name, error)
            return None

    def outcome(self, context: Any, *, ended: bool) -> Outcome:
        """Return what was done."""
        raise NotImplementedError

    def _run(self, context: Any) -> Run:
        return open_run(run_address(self.store, context["run_id"]))

    @staticmethod
    def _config(context: Any) -> RetrievalConfig:
        return recipe_of(context["params"]).eval_biencoder


class CutCommand(_ShardCommand):
    """Divides the entities of each large world into shards. The task is skipped if there is none.

    Its XCom is a list with the shards of each task that encodes them.
    """

    name = "cut-worlds"
    runs_a_model = False
    is_small = True

    def reused(self, context: Any) -> Outcome | None:
        """Return the shards of each task if all large worlds are cut.

        Raises:
            AirflowSkipException: no world is large.
        """
        done = super().reused(context)
        if done is not None and not done.value:
            raise AirflowSkipException(f"no world has more than {self._config(context).sharded_from:,} entities")
        return done

    def outcome(self, context: Any, *, ended: bool) -> Outcome:  # noqa: ARG002  # the artifacts decide in any case
        """Return the shards of each task."""
        run = self._run(context)
        worlds = large_worlds(run, self._config(context))
        for world, shards in worlds.items():
            if cut_of(run, world, shards) is None:
                raise NotDone(f"{world} is not cut into {shards} shards at {run.store.address}")
        return Outcome(groups(list(shard_names(worlds)), MOST_TASKS), {})


@dataclass(frozen=True)
class EncodeCommand(_ShardCommand):
    """Encodes shards of a large world. A shard that is encoded is left as it is.

    Attributes:
        shards: names of the shards, such as ``world/7``.
    """

    shards: tuple[str, ...] = ()

    name = "encode-shard"

    def for_shards(self, shards: Sequence[str]) -> EncodeCommand:
        """Return the command of one mapped task."""
        return replace(self, shards=tuple(shards))

    @property
    def label(self) -> str:
        """What Airflow shows instead of the task's number."""
        return ", ".join(self.shards)[:80]

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of ``zeshel encode-shard``."""
        return [*super().arguments(context), *setting_arguments({"shard": self.shards})]

    def outcome(self, context: Any, *, ended: bool) -> Outcome:  # noqa: ARG002  # the artifacts decide in any case
        """Return how many entities were encoded."""
        run, config, entities = self._run(context), self._config(context), 0
        for name in self.shards:
            encoded = encoded_shard(run, *shard_of_name(name), config)
            if encoded is None:
                raise NotDone(f"the shard {name} is not encoded at {run.store.address}")
            entities += encoded.metrics["entities"]
        return Outcome({"shards": list(self.shards), "entities": entities}, {})
