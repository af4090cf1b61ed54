"""The tasks of the DAG ``zeshel_link`` that need no pod: the first one chooses the models, the last one adds up."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowException

from zeshel_tasks.champion.champions import KEY, read_champions
from zeshel_tasks.errors import ConfigError, DataError, ZeshelError
from zeshel_tasks.link_files.plan import summarize
from zeshel_tasks.link_files.shards import shard_names
from zeshel_tasks.location import store_location
from zeshel_tasks.orchestration.link_commands import MODELS, checked_request, read_planned
from zeshel_tasks.orchestration.task_command import failure
from zeshel_tasks.store import open_store

ASSET = Asset(name="zeshel-links", group="zeshel")
"""Updated when all files of a run are linked."""


class ChooseModels(BaseOperator):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Returns the fingerprint of the champion's models, or the run that the Param ``run`` names.

    All tasks of the run link with these models, even if another model is promoted in the meantime.

    Args:
        store: root address of models and knowledge bases.
    """

    ui_color = "#e8f0e4"

    def __init__(self, *, store: str, **kwargs: Any) -> None:
        super().__init__(**{"task_id": MODELS, **kwargs})
        self.store = store

    def execute(self, context: Any) -> dict[str, str]:
        """Choose the models, and look if there is anything to link.

        Raises:
            AirflowFailException: a Param is wrong, there is no champion, or the folder has no files to link.
            AirflowException: the store does not answer.
        """
        request = checked_request(self.task_id, context["params"])
        try:
            self._look_for_files(request.run.source)
            if request.run.run is not None:
                return {"run": request.run.run}
            champion = read_champions(open_store(self.store)).champion
            if champion is None:
                raise ConfigError(f"expected a champion at {self.store}/{KEY}, got none: name a run with the Param run")
        except ZeshelError as error:
            raise _failure(self.task_id, error) from error
        self.log.info("linking with the champion of run %s, promoted at %s", champion.run, champion.promoted_at)
        return {"models": champion.models, "promoted_by": champion.run}

    def _look_for_files(self, source: str) -> None:
        """A pod may be able to read what Airflow cannot, so only an empty folder is an error.

        Raises:
            DataError: there is nothing to link.
        """
        try:
            names = shard_names(store_location(source))
        except DataError:
            raise
        except (ZeshelError, OSError) as error:
            self.log.info("the task `list` will look for files: %s", error)
        else:
            self.log.info("%d files to link", len(names))


class SumUpLinks(BaseOperator):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Checks that every file is linked as planned, writes ``summary.json`` next to them, and updates the Asset.

    Args:
        store: root address of models and knowledge bases.
    """

    ui_color = "#e8f0e4"

    def __init__(self, *, store: str, **kwargs: Any) -> None:
        super().__init__(**{"task_id": "join", "outlets": [ASSET], **kwargs})
        self.store = store

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the figures of all files.

        Raises:
            AirflowFailException: a file is not linked as planned, or has changed since.
            AirflowException: the store does not answer.
        """
        run = checked_request(self.task_id, context["params"]).run
        plan = read_planned(self.task_id, self.store, context)
        try:
            summary = summarize(store_location(run.source), store_location(run.target), plan)
        except ZeshelError as error:
            raise _failure(self.task_id, error) from error
        if summary.new:
            self.log.warning("%d files have come since the task `list`; another run links them", summary.new)
        about = {"kb": run.kb, "in": run.source, "out": run.target, **summary.figures}
        context["outlet_events"][ASSET].extra = {**about, "made_from": plan.made_from}
        return about


def _failure(task_id: str, error: ZeshelError) -> AirflowException:
    return failure(task_id, error.exit_code, str(error).splitlines())
