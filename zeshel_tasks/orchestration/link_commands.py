"""The commands of the DAG ``zeshel_link`` that list the files and link some of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from zeshel_tasks.errors import ZeshelError
from zeshel_tasks.link_files.counts import LinkedCounts
from zeshel_tasks.link_files.plan import LinkPlan, figures_of, read_plan
from zeshel_tasks.link_files.shards import finished_counts
from zeshel_tasks.location import store_location
from zeshel_tasks.orchestration.grouping import groups
from zeshel_tasks.orchestration.link_params import LinkRequest, request_of
from zeshel_tasks.orchestration.settings import path_safe
from zeshel_tasks.orchestration.store_command import StoreCommand
from zeshel_tasks.orchestration.task_command import NotDone, Outcome, failure, mask_secrets, setting_arguments
from zeshel_tasks.store.garbage import LINKS

log = logging.getLogger(__name__)

MODELS = "models"
"""Id of the task that chooses the models."""
_LABEL_CHARACTERS = 80  # of a file; Airflow keeps 250 of a label


class LinkDagCommand(StoreCommand):
    """A command of the DAG that finds out itself what is left to do."""

    def reused(self, context: Any) -> Outcome | None:  # noqa: ARG002
        """Return None."""
        return None


class ListCommand(LinkDagCommand):
    """Lists the files, and checks the knowledge base and the settings.

    Its XCom is a list with the files of each link task.
    """

    name = "list"
    runs_a_model = False

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of ``zeshel link --plan``."""
        return [*link_arguments(self.name, self.store, context), f"--plan={plan_address(self.store, context)}"]

    def outcome(self, context: Any, *, ended: bool) -> Outcome:
        """Return the files of each link task."""
        plan = read_plan(store_location(plan_address(self.store, context))) if ended else None
        if plan is None:
            raise NotDone(f"no plan is at {plan_address(self.store, context)}")
        request = checked_request(self.name, context["params"])
        return Outcome(groups(plan.files, request.run.max_tasks), {})


@dataclass(frozen=True)
class LinkCommand(LinkDagCommand):
    """Links some of the files. A file that is linked as planned is left as it is.

    Attributes:
        files: names of the files.
    """

    files: tuple[str, ...] = ()

    name = "link"

    def for_files(self, files: Sequence[str]) -> LinkCommand:
        """Return the command of one mapped task."""
        return replace(self, files=tuple(files))

    @property
    def label(self) -> str:
        """What Airflow shows instead of the task's number: ``a.jsonl``, or ``a.jsonl to d.jsonl (4 files)``."""
        first, last = (name[:_LABEL_CHARACTERS] for name in (self.files[0], self.files[-1]))
        return first if len(self.files) == 1 else f"{first} to {last} ({len(self.files)} files)"

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of ``zeshel link --shard``."""
        return [*link_arguments(self.name, self.store, context), *setting_arguments({"shard": self.files})]

    def reused(self, context: Any) -> Outcome | None:
        """Return the counts if all files are linked as planned."""
        try:
            return self.outcome(context, ended=True)
        except NotDone:
            return None
        except (ZeshelError, OSError) as error:  # a path on the pods' machine may be unreadable on this one
            log.info("the command will check if the files are already linked: %s", error)
            return None

    def outcome(self, context: Any, *, ended: bool) -> Outcome:  # noqa: ARG002  # the records decide in any case
        """Return what was linked."""
        plan, request = read_planned(self.name, self.store, context), checked_request(self.name, context["params"])
        places = store_location(request.run.source), store_location(request.run.target)
        found = [finished_counts(*places, name, plan.made_from) for name in self.files]
        for name, counts in zip(self.files, found, strict=True):
            if counts is None:
                raise NotDone(
                    f"no record in {places[1].name.rstrip('/')}/finished says that {name} is linked as planned (clear "
                    "the task `list` if the knowledge base has changed since)"
                )
        total = LinkedCounts.total(counts for counts in found if counts is not None)
        return Outcome({"files": list(self.files), **figures_of(total)}, {})


def link_arguments(name: str, store: str, context: Any) -> list[str]:
    """Return the arguments of ``zeshel link`` that all its tasks have.

    Raises:
        AirflowFailException: the Params are not valid, so a retry cannot help.
    """
    request = checked_request(name, context["params"])
    places = {"in": folder(request.run.source), "out": folder(request.run.target)}
    settings = setting_arguments({"kb": request.run.kb, **places, **request.settings})
    return ["link", f"--store={store}", *model_arguments(name, context), *settings]


def checked_request(name: str, params: Mapping[str, Any]) -> LinkRequest:
    """Return the Params of a run.

    Raises:
        AirflowFailException: they are not valid, so a retry cannot help.
    """
    mask_secrets(params.values())
    try:
        return request_of(params)
    except ZeshelError as error:
        # Without its cause: pydantic's message has the value itself, shortened, and no mask finds half a secret.
        raise AirflowFailException(f"{name}: bad configuration, not retried:\n{error}") from None


def read_planned(name: str, store: str, context: Any) -> LinkPlan:
    """Return the plan that the task ``list`` has made.

    Raises:
        AirflowException: there is none.
    """
    address = plan_address(store, context)
    try:
        plan = read_plan(store_location(address))
    except ZeshelError as error:
        raise failure(name, error.exit_code, str(error).splitlines()) from error
    if plan is None:
        raise AirflowException(f"{name}: expected the plan of the task `list` at {address}, got none; clear that task")
    return plan


def plan_address(store: str, context: Any) -> str:
    """Return the address of the run's plan."""
    return f"{store.rstrip('/')}/{LINKS}{path_safe(context['run_id'])}/plan.json"


def folder(address: str) -> str:
    """Return the address of a folder or prefix with a slash at its end, which the command line expects."""
    return address if address.endswith("/") else f"{address}/"


def model_arguments(name: str, context: Any) -> list[str]:
    """Return the models that the first task has chosen, as an argument."""
    chosen = chosen_models(name, context)
    return setting_arguments({kind: chosen[kind] for kind in ("models", "run") if kind in chosen})


def chosen_models(name: str, context: Any) -> dict[str, str]:
    """Return the models that the first task has chosen: their fingerprint, or the address of their run.

    Raises:
        AirflowFailException: it has chosen none.
    """
    chosen: dict[str, str] | None = context["ti"].xcom_pull(task_ids=MODELS, map_indexes=-1)
    if not chosen:
        raise AirflowFailException(f"{name}: expected the XCom of the task `{MODELS}`, got none; clear that task")
    return chosen
