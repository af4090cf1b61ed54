"""The task between ``report`` and ``promote`` that asks a person to approve the model, if the run requires it.

If the deployment names approvers, every promotion requires it, and ``promote`` refuses one that none of them approved.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.hitl import HITLUser

from zeshel_tasks.champion.approval import Approval, read_approval, record_approval
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.champion.gate import decide_now
from zeshel_tasks.champion.metrics import ComparisonMetrics, Decision
from zeshel_tasks.orchestration.params import recipe_of, run_config_of
from zeshel_tasks.orchestration.settings import Approver, run_address
from zeshel_tasks.orchestration.stage_command import StageCommand
from zeshel_tasks.orchestration.task_command import Outcome
from zeshel_tasks.orchestration.web.links import report_page
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.store import Run, open_run
from zeshel_tasks.text.safe_text import one_line

DOC = (
    "With the Param `approve`, or if the deployment names approvers, waits for a person if the model is better than "
    "the champion; *Required Actions* shows the figures of both models. *Reject* skips `promote`. Without either the "
    "task succeeds at once."
)
_REASON = Param(
    None,
    type=["null", "string"],
    maxLength=1000,
    source="task",
    title="reason",
    description_md="Why. `zeshel champions` and the next run's report show it.",
)


class ApprovePromotion(ApprovalOperator):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Waits for *Approve* or *Reject* if the run requires approval and the gate would promote the model.

    Args:
        store: root address of runs and artifacts.
        approvers: the only people who may answer, and all promotions need their answer. Empty: whoever may edit the
            DAG's tasks may answer, and the run's Param decides.
    """

    ui_color = "#f6ead1"

    def __init__(self, *, store: str, approvers: Collection[Approver] = (), **kwargs: Any) -> None:
        super().__init__(
            task_id="approve",
            subject="Promote this model?",
            doc_md=DOC,
            assigned_users=[HITLUser(id=person.id, name=person.name or person.id) for person in approvers] or None,
            params={"reason": _REASON},
            **kwargs,
        )
        self.store, self.approvers = store, approvers

    def execute(self, context: Any) -> Any:
        """Ask, or return at once if there is nothing to decide.

        Raises:
            TaskAwaitingInput: the task now waits for an answer.
        """
        params, run = context["params"], open_run(run_address(self.store, context["run_id"]))
        if not (self.approvers or run_config_of(params).approve):
            self.log.info("no approval needed: the Param approve is not set")
            return None
        decision = _expected_decision(run, params)
        if decision is None or not decision.promoted:
            why = "this model is already the champion" if decision is None else decision.reason
            self.log.info("no approval needed: the model will not be promoted: %s", why)
            return None
        self.body = "\n".join(_question(run.address, report_page(context["run_id"], STAGES["compare"]), decision))
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Record the answer in the run, and go on with it.

        Raises:
            AirflowFailException: the answer is from none of the approvers. Clear the task to ask again.
        """
        run, person = open_run(run_address(self.store, context["run_id"])), event.get("responded_by_user") or {}
        if self.approvers and person.get("id") not in {approver.id for approver in self.approvers}:
            # Airflow asks its auth manager, and a simple one of admins only lets everybody answer.
            raise AirflowFailException(
                f"approve: expected an answer of {', '.join(approver.id for approver in self.approvers)}, got one of "
                f"{person.get('id')}: clear this task to ask again"
            )
        answer = Approval(
            model=_identity(run),
            approved=event["chosen_options"] == [self.APPROVE],
            by=person.get("id"),
            name=person.get("name"),
            reason=(event.get("params_input") or {}).get("reason") or None,
            at=event["responded_at"].isoformat(timespec="seconds"),
        )
        result = super().execute_complete(context, event)
        record_approval(run, answer)
        return result


@dataclass(frozen=True)
class ApprovedPromotion(StageCommand):
    """Runs ``promote``, unless it would promote a model that none of the approvers approved.

    A person may mark the task before it as successful, or run it with another DAG.

    Attributes:
        approvers: ids of the people who may approve.
    """

    approvers: frozenset[str]

    def reused(self, context: Any) -> Outcome | None:
        """Return the metrics of a promotion that is done.

        Raises:
            AirflowFailException: the approval is missing.
        """
        run = open_run(self._run(context))
        decision = _expected_decision(run, context["params"])
        if decision is not None and decision.promoted:
            approval = read_approval(run, _identity(run))
            if approval is None or not approval.approved or approval.by not in self.approvers:
                raise AirflowFailException(
                    f"{self.name}: expected the approval of {', '.join(sorted(self.approvers))} in {run.address}, got "
                    f"{'none' if approval is None else approval}: clear the task `approve` and answer its question"
                )
        return super().reused(context)


def _expected_decision(run: Run, params: Mapping[str, Any]) -> Decision | None:
    """Return what ``promote`` would decide now. None if the model is the champion already."""
    compared, trained = run.manifest("compare"), run.record("train-crossencoder")
    assert compared is not None  # both are upstream
    assert trained is not None
    identity, champions = _identity(run), read_champions(run.store)
    if champions.champion is not None and champions.champion.identity == identity:
        return None
    measured = ComparisonMetrics.model_validate(compared.metrics)
    return decide_now(champions, identity, trained.artifact, measured, recipe_of(params).promote)


def _identity(run: Run) -> str:
    fused = run.record("fuse")
    assert fused is not None  # it is upstream
    return fused.artifact


def _question(run: str, report: str, decision: Decision) -> Iterator[str]:
    """Return the lines of the question, in Markdown: the figures of both models."""
    yield f"Run `{run}`: [its report]({report}).\n"
    yield f"The gate says: {_literal(decision.reason)}.\n"
    if decision.overall is None:
        yield f"Unnormalized accuracy on test: **{decision.unnormalized_accuracy:.2%}**."
        return
    yield "| world | mentions | champion | this model | difference | interval |"
    yield "|---|---|---|---|---|---|"
    for world, figures in [("all", decision.overall), *sorted(decision.worlds.items())]:
        low, high = (f"{100 * end:+.2f}" for end in figures.interval)
        yield (
            f"| {_literal(world)} | {figures.mentions:,} | {figures.champion:.2%} | {figures.new:.2%} "
            f"| {100 * figures.difference:+.2f} | {low} to {high} |"
        )


def _literal(text: str) -> str:
    """Escape text for Markdown, because names of worlds and runs are data and may contain links, HTML or columns."""
    return re.sub(r"([\\`\[\]<>|])", r"\\\1", one_line(text))
